"""Draw how well each class is told from the rest."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.reporting.figures.comparison_figures import plot_classes_files

    plot_classes_files(
        summary_path=snakemake.input.summary,
        figure_path=snakemake.output.figure,
        classes=snakemake.params.classes,
        arms=snakemake.params.arms,
        dpi=snakemake.params.dpi,
        **snakemake.params.style,
    )
