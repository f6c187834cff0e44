"""Join all sites' scores of a round."""

from fedpedbrain.jobs.job import job_log
from fedpedbrain.jobs.worker import fork_from_worker

fork_from_worker(snakemake.log[0])
with job_log(snakemake.log[0]):
    from fedpedbrain.evaluation.validation import join_validation_files

    join_validation_files(snakemake.input.sites, snakemake.output.validation)
