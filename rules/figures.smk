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
    benchmark:
        "results/benchmarks/reporting/plot_cohort.tsv"
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
    benchmark:
        "results/benchmarks/reporting/plot_convergence.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        exchanging=STUDY.exchanging_arms,
        style=STUDY.arm_style,
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
    benchmark:
        "results/benchmarks/reporting/plot_comparison.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        style=STUDY.arm_style,
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
    benchmark:
        "results/benchmarks/reporting/plot_confusion.tsv"
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
