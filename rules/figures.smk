# Figures, each from one kind of table, registered for Snakemake's own report too.


rule plot_cohort:
    """Cases by site, class and split."""
    input:
        audit="results/cohort/audit.json",
    output:
        figure=report(
            "results/figures/cohort.png",
            caption="captions/cohort.rst",
            category="Cohort",
            labels={"figure": "cases by site"},
        ),
    log:
        "results/logs/reporting/plot_cohort.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        dpi=STUDY.config["reporting"]["figure_dpi"],
        code=code("plot_cohort"),
    message:
        "report: cohort figure"
    script:
        "../workflow_scripts/plot_cohort.py"


rule plot_convergence:
    """Validation scores of every arm by round."""
    input:
        histories=every_arm("results/models/{arm}/seed-{seed}/history.tsv"),
    output:
        figure=report(
            "results/figures/convergence.png",
            caption="captions/convergence.rst",
            category="Training",
            labels={"figure": "convergence of all arms"},
        ),
    log:
        "results/logs/reporting/plot_convergence.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        exchanging=STUDY.exchanging_arms,
        style=STUDY.arm_style,
        finding=STUDY.anatomy["finding"],
        dpi=STUDY.config["reporting"]["figure_dpi"],
        code=code("plot_convergence"),
    message:
        "report: convergence figure"
    script:
        "../workflow_scripts/plot_convergence.py"


rule plot_comparison:
    """Scores of every arm on the held-out patients of every site."""
    input:
        summary="results/tables/summary.tsv",
    output:
        figure=report(
            "results/figures/comparison.png",
            caption="captions/comparison.rst",
            category="Results",
            labels={"figure": "arms on the same held-out patients"},
        ),
    log:
        "results/logs/reporting/plot_comparison.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        style=STUDY.arm_style,
        finding=STUDY.anatomy["finding"],
        dpi=STUDY.config["reporting"]["figure_dpi"],
        code=code("plot_comparison"),
    message:
        "report: comparison figure"
    script:
        "../workflow_scripts/plot_comparison.py"


rule plot_confusion:
    """Confusion matrices."""
    input:
        confusion="results/tables/confusion.tsv",
    output:
        figure=report(
            "results/figures/confusion.png",
            caption="captions/confusion.rst",
            category="Results",
            labels={"figure": "confusion matrices"},
        ),
    log:
        "results/logs/reporting/plot_confusion.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        arms=STUDY.shared_arms,
        colour_map=STUDY.config["reporting"]["confusion_colour_map"],
        dpi=STUDY.config["reporting"]["figure_dpi"],
        code=code("plot_confusion"),
    message:
        "report: confusion figure"
    script:
        "../workflow_scripts/plot_confusion.py"


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
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        arms=CANDIDATES,
        finding=STUDY.anatomy["finding"],
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
        scores=every_candidate("results/scores/{candidate}/seed-{seed}.tsv"),
    output:
        figure=report(
            "results/figures/volumes.png",
            caption="captions/volumes.rst",
            category="Results",
            labels={"figure": "predicted and true volumes"},
        ),
    log:
        "results/logs/reporting/plot_volumes.log",
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


rule plot_timeline:
    """A lane a core and GPU with its jobs, the critical path, and how much was busy."""
    input:
        jobs="results/timeline/jobs.tsv",
        summary="results/timeline/summary.json",
    output:
        figure=report(
            "results/figures/timeline.png",
            caption="captions/timeline.rst",
            category="Training",
            labels={"figure": "when jobs ran"},
        ),
    log:
        "results/logs/reporting/plot_timeline.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        style=STUDY.arm_style,
        dpi=STUDY.config["reporting"]["figure_dpi"],
        code=code("plot_timeline"),
    message:
        "report: figure of the run"
    script:
        "../workflow_scripts/plot_timeline.py"


rule plot_quality:
    """One site's cases as the network sees them, on three axes, with what is outlined."""
    input:
        shards=shards(["{site}"]),
    output:
        picture=report(
            "results/figures/quality/{site}.png",
            caption="captions/quality.rst",
            category="Cohort",
            labels={"figure": "cases of site {site}"},
        ),
    log:
        "results/logs/reporting/plot_quality-{site}.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        shards=shards_read,
        regions=STUDY.regions,
        code=code("plot_quality"),
    message:
        "report: cases of site {wildcards.site}"
    script:
        "../workflow_scripts/plot_quality.py"
