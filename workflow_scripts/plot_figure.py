"""Draw one figure of the report."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.reporting.figures.figure import plot_figure_files

    plot_figure_files(
        figure=snakemake.params.figure,
        inputs=dict(snakemake.input.items()),
        figure_path=snakemake.output.figure,
        settings=snakemake.params.settings,
    )
