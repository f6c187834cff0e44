"""Record the history of an arm's models."""

from fedpedbrain.jobs.job import job_log
from fedpedbrain.jobs.worker import fork_from_worker

fork_from_worker(snakemake.log[0])
with job_log(snakemake.log[0]):
    from fedpedbrain.federated.chain.chain_files import ArmFiles, record_lineage_files

    files = ArmFiles(
        arm=snakemake.wildcards.arm,
        seed=int(snakemake.wildcards.seed),
        initial_path=snakemake.input.initial,
        round_paths=snakemake.input.rounds,
        metrics_paths=snakemake.input.metrics,
        best_path=snakemake.input.best,
        lineage_path=snakemake.output.lineage,
        beside_paths=snakemake.input.beside,
        kept_rounds=snakemake.params.kept_rounds,
        rounds_of_kept_states=snakemake.params.rounds_of_kept_states,
    )
    record_lineage_files(files)
