# What an arm spends: privacy, where it has noise, and time, memory and energy.


rule account_privacy:
    """Compute epsilon of an arm's noise, over all of its rounds."""
    input:
        metrics=partial(of_rounds, "metrics.json"),
    output:
        privacy="results/models/{arm}/seed-{seed}/privacy.json",
    log:
        "results/logs/models/{arm}/seed-{seed}/account_privacy.log",
    benchmark:
        "results/benchmarks/models/{arm}/seed-{seed}/account_privacy.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        privacy=lambda wildcards: STUDY.arms[wildcards.arm].block["privacy"],
        batch_size=STUDY.config["training"]["batch_size"],
        code=code("account_privacy"),
    message:
        "{wildcards.arm}, seed {wildcards.seed}: accounting for its privacy"
    script:
        "../workflow_scripts/account_privacy.py"


rule measure_cost:
    """Add up what the jobs of an arm took of time, memory and GPU."""
    input:
        # Not their logs, which are read beside them: for one that is gone, nothing trains again.
        averaging=partial(of_rounds, "lineage.json"),
        validation=partial(of_kept_rounds, "validation.json"),
        prediction=["results/predictions/{arm}/seed-{seed}/masks.npy"],
    output:
        cost="results/models/{arm}/seed-{seed}/cost.tsv",
    log:
        "results/logs/models/{arm}/seed-{seed}/cost.log",
    benchmark:
        "results/benchmarks/models/{arm}/seed-{seed}/cost.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        logs=logs_of_arm,
        is_chain=lambda wildcards: STUDY.arms[wildcards.arm].is_cyclic,
        code=code("measure_cost"),
    message:
        "{wildcards.arm}, seed {wildcards.seed}: adding up its cost"
    script:
        "../workflow_scripts/measure_cost.py"
