"""Predict every held-out patient with an arm's best model."""

from fedpedbrain.jobs.job import job_log
from fedpedbrain.jobs.worker import fork_from_worker

fork_from_worker(snakemake.log[0])
with job_log(snakemake.log[0]):
    from fedpedbrain.evaluation.predictions import predict_cases_files
    from fedpedbrain.jobs.devices import take_device
    from fedpedbrain.models.prediction import PredictionPlan

    predict_cases_files(
        model_paths=snakemake.input.models,
        personal_paths=dict(zip(snakemake.params.personal_sites, snakemake.input.personal, strict=True)),
        shards=snakemake.params.shards,
        masks_paths=dict(zip(snakemake.params.geometries, snakemake.output.masks, strict=True)),
        probabilities_path=snakemake.output.probabilities,
        decision=snakemake.params.decision,
        expected=snakemake.params.expected,
        device=take_device(snakemake.resources.gpu, snakemake.threads),
        filters_path=snakemake.input.filters or None,
        component_filter=snakemake.params.component_filter,
        plan=PredictionPlan(**snakemake.params.plan),
    )
