# When every job ran, and where: what cores and GPUs did, and which jobs the end waited for.


rule measure_timeline:
    """Put together when the jobs of the run ran, and find its critical path."""
    input:
        costs=every_arm("results/models/{arm}/seed-{seed}/cost.tsv"),
        comparison="results/tables/summary.tsv",
    output:
        jobs="results/timeline/jobs.tsv",
        summary="results/timeline/summary.json",
    log:
        "results/logs/reporting/measure_timeline.log",
    benchmark:
        "results/benchmarks/reporting/measure_timeline.tsv"
    # After figures and videos, where cores are few, so that they are part of it.
    priority: priorities.LAST
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        # Read beside the inputs: for a log that is gone, nothing runs again.
        logs="results/logs",
        arms=ARMS,
        seeds=SEEDS,
        last_round=LAST_ROUND,
        chains=[name for name, arm in STUDY.arms.items() if arm.is_cyclic],
        code=code("measure_timeline"),
    message:
        "report: putting together when jobs ran"
    script:
        "../workflow_scripts/measure_timeline.py"


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
    benchmark:
        "results/benchmarks/reporting/plot_timeline.tsv"
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
