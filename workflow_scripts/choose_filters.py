"""Choose a candidate's component filters on validation patients."""

from fedpedbrain.jobs.job import job_log
from fedpedbrain.jobs.worker import fork_from_worker

fork_from_worker(snakemake.log[0])
with job_log(snakemake.log[0]):
    from fedpedbrain.evaluation.filters import choose_filters_files
    from fedpedbrain.jobs.devices import take_device
    from fedpedbrain.models.prediction import PredictionPlan

    choose_filters_files(
        model_paths=snakemake.input.models,
        personal_paths=dict(zip(snakemake.params.personal_sites, snakemake.input.personal, strict=True)),
        shards=snakemake.params.shards,
        filters_path=snakemake.output.filters,
        tried=snakemake.params.tried,
        decision=snakemake.params.decision,
        expected=snakemake.params.expected,
        plan=PredictionPlan(**snakemake.params.plan),
        device=take_device(snakemake.resources.gpu, snakemake.threads),
    )
