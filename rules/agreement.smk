# Figures of agreement: of arms over sites, of probabilities and classes with outcomes, of predicted with true volumes.


rule plot_cross_sites:
    """Every arm at every site: what was trained where, and how well it does there."""
    input:
        cross_sites="results/tables/cross_sites.tsv",
    output:
        figure=report(
            "results/figures/cross_sites.png",
            caption="captions/cross_sites.rst",
            category="Results",
            labels={"figure": "every arm at every site"},
        ),
    log:
        "results/logs/reporting/plot_cross_sites.log",
    benchmark:
        "results/benchmarks/reporting/plot_cross_sites.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        arms=ARMS,
        dpi=STUDY.config["reporting"]["figure_dpi"],
        code=code("plot_cross_sites"),
    message:
        "report: cross-site figure"
    script:
        "../workflow_scripts/plot_cross_sites.py"


rule plot_reliability:
    """How often the most probable class is right, by its probability."""
    input:
        reliability="results/tables/reliability.tsv",
    output:
        figure=report(
            "results/figures/reliability.png",
            caption="captions/reliability.rst",
            category="Results",
            labels={"figure": "reliability of the probabilities"},
        ),
    log:
        "results/logs/reporting/plot_reliability.log",
    benchmark:
        "results/benchmarks/reporting/plot_reliability.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        arms=STUDY.shared_arms,
        style=STUDY.arm_style,
        dpi=STUDY.config["reporting"]["figure_dpi"],
        code=code("plot_reliability"),
    message:
        "report: reliability figure"
    script:
        "../workflow_scripts/plot_reliability.py"


rule plot_volumes:
    """Predicted less true volume of every held-out case over their mean (Bland and Altman)."""
    input:
        scores=every_arm("results/scores/{arm}/seed-{seed}.tsv"),
    output:
        figure=report(
            "results/figures/volumes.png",
            caption="captions/volumes.rst",
            category="Results",
            labels={"figure": "predicted and true volumes"},
        ),
    log:
        "results/logs/reporting/plot_volumes.log",
    benchmark:
        "results/benchmarks/reporting/plot_volumes.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        arms=STUDY.shared_arms,
        style=STUDY.arm_style,
        dpi=STUDY.config["reporting"]["figure_dpi"],
        code=code("plot_volumes"),
    message:
        "report: figure of volumes"
    script:
        "../workflow_scripts/plot_volumes.py"


rule plot_classes:
    """How well each class is told from the rest."""
    input:
        summary="results/tables/summary.tsv",
    output:
        figure=report(
            "results/figures/classes.png",
            caption="captions/classes.rst",
            category="Results",
            labels={"figure": "each class against the rest"},
        ),
    log:
        "results/logs/reporting/plot_classes.log",
    benchmark:
        "results/benchmarks/reporting/plot_classes.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        classes=STUDY.config["cohort"]["classes"],
        arms=STUDY.shared_arms,
        style=STUDY.arm_style,
        dpi=STUDY.config["reporting"]["figure_dpi"],
        code=code("plot_classes"),
    message:
        "report: figure of classes"
    script:
        "../workflow_scripts/plot_classes.py"
