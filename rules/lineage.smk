# The history of every model: recorded once its arm is done, and checked against the disk whenever one asks.
from types import SimpleNamespace


rule record_lineage:
    """Record every file of an arm, from the common start to the best model, with its SHA-256 and its lineage."""
    input:
        initial="results/models/initial/seed-{seed}.pth",
        # What jobs noted of every round, and of its files those that stay.
        rounds=partial(rounds_of, "results/models/{arm}/seed-{seed}/round-{round}/lineage.json"),
        metrics=partial(of_rounds_and_sites, "metrics/{site}.json"),
        models=partial(of_kept_rounds, "global.pth"),
        servers=partial(of_kept_rounds, "server.pth"),
        states=kept_states,
        beside=beside_models,
        best="results/models/{arm}/seed-{seed}/best.pth",
    output:
        lineage="results/models/{arm}/seed-{seed}/lineage.json",
    log:
        "results/logs/models/{arm}/seed-{seed}/record_lineage.log",
    benchmark:
        "results/benchmarks/models/{arm}/seed-{seed}/record_lineage.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        kept_rounds=lambda wildcards: KEPT_ROUNDS[wildcards.arm],
        rounds_of_kept_states=lambda wildcards: ROUNDS_OF_KEPT_STATES[wildcards.arm],
        code=code("record_lineage"),
    message:
        "{wildcards.arm}, seed {wildcards.seed}: recording the history of its models"
    script:
        "../workflow_scripts/record_lineage.py"


# Without input, output and benchmark file: it runs whenever it is named, on the files as they are. With an input a changed
# file would first be made anew, and its damage would go unseen; with an output or benchmark file it would be up to date.
rule verify_lineage:
    """Check every model and site state on disk against the recorded histories; makes nothing anew."""
    log:
        "results/logs/models/verify_lineage.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        arms=lambda wildcards: [
            {
                "arm": arm,
                "seed": seed,
                "initial_path": f"results/models/initial/seed-{seed}.pth",
                "round_paths": rounds_of(
                    "results/models/{arm}/seed-{seed}/round-{round}/lineage.json",
                    SimpleNamespace(arm=arm, seed=seed),
                ),
                "metrics_paths": of_rounds_and_sites("metrics/{site}.json", SimpleNamespace(arm=arm, seed=seed)),
                "best_path": f"results/models/{arm}/seed-{seed}/best.pth",
                "lineage_path": f"results/models/{arm}/seed-{seed}/lineage.json",
                "beside_paths": beside_models(SimpleNamespace(arm=arm, seed=seed)),
                "kept_rounds": KEPT_ROUNDS[arm],
                "rounds_of_kept_states": ROUNDS_OF_KEPT_STATES[arm],
            }
            for arm in ARMS
            for seed in SEEDS
        ],
        code=code("verify_lineage"),
    message:
        "checking every model against its recorded history"
    script:
        "../workflow_scripts/verify_lineage.py"
