"""Train one site for one round."""

from fedpedbrain.jobs import job_log
from fedpedbrain.worker import fork_from_worker

fork_from_worker()
with job_log(snakemake.log[0]):
    from fedpedbrain.devices import take_device
    from fedpedbrain.federated.site import train_site_files
    from fedpedbrain.training.epochs import SiteRound

    of = snakemake.wildcards
    train_site_files(
        start_path=snakemake.input.start,
        shard_folders=snakemake.params.folders,
        previous_state_path=snakemake.input.get("state") or None,
        update_path=snakemake.output.site_update,
        state_path=snakemake.output.state,
        metrics_path=snakemake.output.metrics,
        work=SiteRound(of.arm, int(of.seed), int(of.round), of.site),
        settings=snakemake.params.training,
        keep_optimizer_state=snakemake.params.keep_optimizer_state,
        digest=snakemake.params.digest,
        device=take_device(snakemake.resources.gpu, snakemake.threads),
    )
