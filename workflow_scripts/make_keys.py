"""Make a site's keys for secure sums."""

from fedpedbrain.jobs import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.federated.secure_sum import make_key_files

    make_key_files(snakemake.output.secret, snakemake.output.public)
