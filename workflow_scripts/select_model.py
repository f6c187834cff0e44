"""Choose the best round of an arm."""

from fedpedbrain.jobs.job import job_log
from fedpedbrain.jobs.worker import fork_from_worker

fork_from_worker(snakemake.log[0])
with job_log(snakemake.log[0]):
    from fedpedbrain.evaluation.selection import select_model_files

    select_model_files(
        model_paths=snakemake.input.models,
        validation_paths=snakemake.input.validations,
        metrics_paths=snakemake.input.metrics,
        own_sites=snakemake.params.own_sites,
        best_path=snakemake.output.best,
        history_path=snakemake.output.history,
        selection_path=snakemake.output.selection,
    )
