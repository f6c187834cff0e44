# What single updates look like, before they are deleted. Nothing waits for it but the report. inspect_updates has no
# fingerprint of its code: an edit would want updates that are gone, and with them all training.


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
    priority: priorities.FREES_DISK
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


rule plot_updates:
    """Length and direction of every update, by site and round."""
    input:
        inspections=inspections,
    output:
        figure=report(
            "results/figures/updates.png",
            caption="captions/updates.rst",
            category="Training",
            labels={"figure": "updates by site and round"},
        ),
    log:
        "results/logs/reporting/plot_updates.log",
    benchmark:
        "results/benchmarks/reporting/plot_updates.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        arms=STUDY.inspected_arms,
        dpi=STUDY.config["reporting"]["figure_dpi"],
        code=code("plot_updates"),
    message:
        "report: figure of updates"
    script:
        "../workflow_scripts/plot_updates.py"
