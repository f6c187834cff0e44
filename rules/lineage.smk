# The history of every model: recorded once its arm is done, and checked against the disk whenever one asks.


rule record_lineage:
    """Record every file of an arm, from the common start to the best model, with its SHA-256 and its lineage."""
    input:
        initial="results/models/initial/seed-{seed}.pth",
        # What jobs noted of every round, and of its files those that stay.
        rounds=partial(of_rounds, "lineage.json"),
        metrics=partial(of_rounds, "metrics.json"),
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
                "arm": model.arm,
                "seed": model.seed,
                "initial_path": f"results/models/initial/seed-{model.seed}.pth",
                "round_paths": of_rounds("lineage.json", model),
                "metrics_paths": of_rounds("metrics.json", model),
                "best_path": f"results/models/{model.arm}/seed-{model.seed}/best.pth",
                "lineage_path": f"results/models/{model.arm}/seed-{model.seed}/lineage.json",
                "beside_paths": beside_models(model),
                "kept_rounds": KEPT_ROUNDS[model.arm],
                "rounds_of_kept_states": ROUNDS_OF_KEPT_STATES[model.arm],
            }
            for model in MODELS
        ],
        code=code("verify_lineage"),
    message:
        "checking every model against its recorded history"
    script:
        "../workflow_scripts/verify_lineage.py"
