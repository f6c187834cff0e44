"""Make a site's keys for a secure sum."""

from fedpedbrain.jobs.job import job_log
from fedpedbrain.jobs.worker import fork_from_worker

fork_from_worker(snakemake.log[0])
with job_log(snakemake.log[0]):
    from fedpedbrain.federated.exchange.secure_sum import make_key_files

    make_key_files(snakemake.output.secret, snakemake.output.public)
