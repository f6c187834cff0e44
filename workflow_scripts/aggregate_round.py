"""Average the updates of a round."""

from fedpedbrain.jobs.job import job_log
from fedpedbrain.jobs.worker import fork_from_worker

fork_from_worker(snakemake.log[0])
with job_log(snakemake.log[0]):
    from fedpedbrain.federated.round_files import RoundFiles, aggregate_round_files
    from fedpedbrain.federated.rounds import RoundPlan
    from fedpedbrain.jobs.devices import take_device

    take_device(0, snakemake.threads)
    of = snakemake.wildcards
    files = RoundFiles(
        parent=snakemake.input.start,
        updates=dict(zip(snakemake.params.sites, snakemake.input.updates, strict=True)),
        metrics=dict(zip(snakemake.params.sites, snakemake.input.metrics, strict=True)),
        result=snakemake.output.model,
        new_state=snakemake.output.state,
        lineage=snakemake.output.lineage,
        all_metrics=snakemake.output.metrics,
        state=snakemake.input.get("state") or None,
    )
    plan = RoundPlan(
        **snakemake.params.plan,
        minimum_sites=snakemake.resources.minimum_sites,
        allows_missing_sites=bool(snakemake.resources.allows_missing_sites),
    )
    aggregate_round_files(files, of.arm, int(of.seed), int(of.round), plan)
