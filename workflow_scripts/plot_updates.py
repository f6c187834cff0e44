"""Draw length and direction of every update."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.reporting.figures.update_figures import plot_updates_files

    plot_updates_files(
        inspection_paths=snakemake.input.inspections,
        figure_path=snakemake.output.figure,
        arms=snakemake.params.arms,
        dpi=snakemake.params.dpi,
    )
