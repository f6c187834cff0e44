# Pictures that a reader checks the cohort by.


rule plot_quality:
    """One site's cases as the network sees them, on three axes, with what is outlined."""
    input:
        shard=shards(["{site}"]),
    output:
        picture=report(
            "results/figures/quality/{site}.png",
            caption="captions/quality.rst",
            category="Cohort",
            labels={"figure": "cases of site {site}"},
        ),
    log:
        "results/logs/reporting/plot_quality-{site}.log",
    benchmark:
        "results/benchmarks/reporting/plot_quality-{site}.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        folder="results/cohort/sites/{site}",
        regions=STUDY.model_spec["regions"],
        code=code("plot_quality"),
    message:
        "report: cases of site {wildcards.site}"
    script:
        "../workflow_scripts/plot_quality.py"
