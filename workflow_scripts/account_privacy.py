"""Account for the privacy of an arm."""

from fedpedbrain.jobs.job import job_log
from fedpedbrain.jobs.worker import fork_from_worker

fork_from_worker(snakemake.log[0])
with job_log(snakemake.log[0]):
    from fedpedbrain.federated.accounting import account_privacy_files

    account_privacy_files(
        metrics_paths=snakemake.input.metrics,
        arm=snakemake.wildcards.arm,
        seed=int(snakemake.wildcards.seed),
        privacy=snakemake.params.privacy,
        batch_size=snakemake.params.batch_size,
        privacy_path=snakemake.output.privacy,
    )
