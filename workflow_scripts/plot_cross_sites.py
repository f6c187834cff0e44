"""Draw every arm at every site."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.reporting.figures.site_figures import plot_cross_sites_files

    plot_cross_sites_files(
        cross_sites_path=snakemake.input.cross_sites,
        figure_path=snakemake.output.figure,
        arms=snakemake.params.arms,
        finding=snakemake.params.finding,
        dpi=snakemake.params.dpi,
    )
