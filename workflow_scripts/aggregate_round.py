"""Average the updates of a round."""

from fedpedbrain.jobs import job_log
from fedpedbrain.worker import fork_from_worker

fork_from_worker()
with job_log(snakemake.log[0]):
    from fedpedbrain.federated.rounds import aggregate_round_files

    aggregate_round_files(
        parent_path=snakemake.input.start,
        update_paths=dict(zip(snakemake.params.sites, snakemake.input.updates, strict=True)),
        global_path=snakemake.output.model,
        arm=snakemake.wildcards.arm,
        seed=int(snakemake.wildcards.seed),
        round_number=int(snakemake.wildcards.round),
        weighting=snakemake.params.weighting,
        digest=snakemake.params.digest,
    )
