# What the noise of an arm is worth, for arms that have any.


rule account_privacy:
    """Compute epsilon of an arm's noise, over all of its rounds."""
    input:
        metrics=partial(of_rounds_and_sites, "metrics/{site}.json"),
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
