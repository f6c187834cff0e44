"""Draw the confusion matrices."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.reporting.figures.count_figures import plot_confusion_files

    plot_confusion_files(
        confusion_path=snakemake.input.confusion,
        figure_path=snakemake.output.figure,
        colour_map=snakemake.params.colour_map,
        arms=snakemake.params.arms,
        dpi=snakemake.params.dpi,
    )
