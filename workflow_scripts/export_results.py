"""Write the study's results for other programs."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.exports.results import ExportFiles, export_results_files
    from fedpedbrain.exports.round_values import RoundValueFiles

    given = snakemake.input
    files = ExportFiles(
        scores=given.scores,
        selections=given.selections,
        cards=given.cards,
        models=given.models,
        rounds=RoundValueFiles(given.histories, given.metrics, given.validations, given.inspections),
        metrics_csv=snakemake.output.metrics,
        rounds_csv=snakemake.output.rounds,
        event_folder=snakemake.output.events,
        mlflow_folder=snakemake.output.mlflow,
    )
    export_results_files(files, {**snakemake.params.study, "versions": snakemake.params.versions})
