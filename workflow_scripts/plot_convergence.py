"""Draw the convergence figure."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.reporting.figures.convergence_figure import plot_convergence_files

    plot_convergence_files(
        history_paths=snakemake.input.histories,
        figure_path=snakemake.output.figure,
        exchanging=snakemake.params.exchanging,
        finding=snakemake.params.finding,
        dpi=snakemake.params.dpi,
        **snakemake.params.style,
    )
