"""Draw predicted and true volumes."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.reporting.figures.agreement_figures import plot_volumes_files

    plot_volumes_files(
        scores_paths=snakemake.input.scores,
        figure_path=snakemake.output.figure,
        arms=snakemake.params.arms,
        dpi=snakemake.params.dpi,
        **snakemake.params.style,
    )
