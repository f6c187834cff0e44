# What single updates look like, before they are deleted. Nothing waits for it but the report. Without the code's
# fingerprint: an edit would want updates that are gone, and with them all training.


rule inspect_updates:
    """Compare the updates of a round: how long each is, and whether it points where the others do."""
    input:
        start=start_of_round,
        updates=partial(of_round, "updates/{site}.pth"),
        model="results/models/{arm}/seed-{seed}/round-{round}/global.pth",
    output:
        table="results/models/{arm}/seed-{seed}/round-{round}/inspection.tsv",
    log:
        "results/logs/models/{arm}/seed-{seed}/round-{round}/inspect.log",
    benchmark:
        "results/benchmarks/models/{arm}/seed-{seed}/round-{round}/inspect.tsv"
    # Before any training: the round's updates stay on the disk until it has run.
    priority: len(SITES) + 1
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        sites=sites_of_round,
        exchange=lambda wildcards: STUDY.arms[wildcards.arm].block["exchange"],
        is_chain=lambda wildcards: STUDY.arms[wildcards.arm].is_cyclic,
    message:
        f"{{wildcards.arm}}, seed {{wildcards.seed}}: round {{wildcards.round}} of {LAST_ROUND}, comparing the updates"
    script:
        "../workflow_scripts/inspect_updates.py"
