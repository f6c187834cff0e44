"""Train one site for one round."""

from fedpedbrain.jobs.job import job_log
from fedpedbrain.jobs.worker import fork_from_worker

fork_from_worker(snakemake.log[0])
with job_log(snakemake.log[0]):
    from fedpedbrain.federated.site import SitePlan
    from fedpedbrain.federated.site_files import SiteFiles, run_site_round
    from fedpedbrain.jobs.devices import take_device
    from fedpedbrain.training.batches import SiteRound

    of, given = snakemake.wildcards, snakemake.input
    plan = SitePlan(**snakemake.params.plan)
    files = SiteFiles(
        start=given.start,
        shards=snakemake.params.shards,
        update=snakemake.output.site_update,
        new_state=snakemake.output.state,
        metrics=snakemake.output.metrics,
        state=given.get("state") or None,
        server_state=given.get("server") or None,
        secret_key=given.get("secret_key") or None,
        public_keys=dict(zip(plan.sites, given.get("public_keys", ()), strict=False)),
    )
    work = SiteRound(of.arm, int(of.seed), int(of.round), of.site)
    device = take_device(snakemake.resources.gpu, snakemake.resources.num_threads)
    run_site_round(files, work, plan, device, snakemake.resources.attempt, bool(snakemake.resources.may_be_missing))
