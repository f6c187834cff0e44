"""Make a site's keys for a secure sum."""

from fedpedbrain.jobs import job_log
from fedpedbrain.worker import fork_from_worker

fork_from_worker(snakemake.log[0])
with job_log(snakemake.log[0]):
    from fedpedbrain.federated.secure_sum import make_key_files

    make_key_files(snakemake.output.secret, snakemake.output.public)
