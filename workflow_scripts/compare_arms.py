"""Write the tables that compare the arms."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.evaluation.comparison import compare_arms_files

    compare_arms_files(
        scores_paths=snakemake.input.scores,
        table_paths=dict(snakemake.output.items()),
        arms=snakemake.params.arms,
        sites=snakemake.params.sites,
        classes=snakemake.params.classes,
        normal_class=snakemake.params.normal_class,
        settings=snakemake.params.evaluation,
    )
