"""Check every model on disk against the recorded histories."""

import sys

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.federated.chain.chain_files import verify_lineage_files

    tallies = verify_lineage_files(snakemake.params.arms)
    sys.stdout.write(tallies)
