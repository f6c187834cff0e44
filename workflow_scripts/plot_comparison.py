"""Draw the comparison figure."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.reporting.figures.comparison_figures import plot_comparison_files

    plot_comparison_files(
        summary_path=snakemake.input.summary,
        figure_path=snakemake.output.figure,
        finding=snakemake.params.finding,
        dpi=snakemake.params.dpi,
        **snakemake.params.style,
    )
