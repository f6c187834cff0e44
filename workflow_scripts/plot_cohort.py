"""Draw the cohort figure."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.reporting.figures.count_figures import plot_cohort_files

    plot_cohort_files(snakemake.input.audit, snakemake.output.figure, snakemake.params.dpi)
