"""Explain an arm's best model on the chosen cases."""

from fedpedbrain.jobs.job import job_log
from fedpedbrain.jobs.worker import fork_from_worker

fork_from_worker(snakemake.log[0])
with job_log(snakemake.log[0]):
    from fedpedbrain.evaluation.explanations import explain_cases_files
    from fedpedbrain.jobs.devices import take_device
    from fedpedbrain.models.prediction import PredictionPlan

    explain_cases_files(
        model_paths=snakemake.input.models,
        personal_paths=dict(zip(snakemake.params.personal_sites, snakemake.input.personal, strict=True)),
        shards=snakemake.params.shards,
        choice_path=snakemake.input.choice,
        explanations_path=snakemake.output.explanations,
        device=take_device(snakemake.resources.gpu, snakemake.threads),
        plan=PredictionPlan(**snakemake.params.plan),
        geometry=snakemake.params.geometry,
    )
