"""Draw when the jobs of the run ran."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.reporting.figures.timeline_figure import plot_timeline_files

    plot_timeline_files(
        jobs_path=snakemake.input.jobs,
        summary_path=snakemake.input.summary,
        figure_path=snakemake.output.figure,
        dpi=snakemake.params.dpi,
        **snakemake.params.style,
    )
