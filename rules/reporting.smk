# The report: made from tables and pictures, never from models.

# What the report shows beside cohort, arms and videos.
REPORT_TABLES = ["summary", "differences", "tests", "confusion", "reliability"]
REPORT_TABLES += ["sites", "gains", "cross_sites"]
REPORT_FIGURES = ["cohort", "convergence", "comparison", "confusion"]
REPORT_FIGURES += ["classes", "cross_sites", "reliability", "volumes", "updates", "timeline"]


rule write_report:
    """The study's report: one HTML file that needs nothing else, and its numbers as JSON."""
    input:
        tables=expand("results/tables/{table}.tsv", table=REPORT_TABLES),
        audit="results/cohort/audit.json",
        histories=every_arm("results/models/{arm}/seed-{seed}/history.tsv"),
        selections=every_arm("results/models/{arm}/seed-{seed}/selection.json"),
        costs=every_arm("results/models/{arm}/seed-{seed}/cost.tsv"),
        timeline="results/timeline/summary.json",
        privacy=of_private_arms("results/models/{arm}/seed-{seed}/privacy.json"),
        inspections=inspections,
        figures=expand("results/figures/{figure}.png", figure=REPORT_FIGURES),
        quality=expand("results/figures/quality/{site}.png", site=SITES),
        videos="results/videos",
        explanations="results/figures/explanations",
    output:
        report="results/report.html",
        record="results/report.json",
    log:
        "results/logs/reporting/write_report.log",
    benchmark:
        "results/benchmarks/reporting/write_report.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        study=STUDY.description,
        versions=package_versions(),
        code=code("write_report"),
    message:
        "report: writing results/report.html"
    script:
        "../workflow_scripts/write_report.py"
