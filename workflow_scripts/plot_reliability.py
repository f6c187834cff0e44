"""Draw the reliability diagrams."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.reporting.figures.agreement_figures import plot_reliability_files

    plot_reliability_files(
        reliability_path=snakemake.input.reliability,
        figure_path=snakemake.output.figure,
        arms=snakemake.params.arms,
        dpi=snakemake.params.dpi,
        **snakemake.params.style,
    )
