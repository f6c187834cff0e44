# Figures of training: scores by round, and what the sites sent.


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
