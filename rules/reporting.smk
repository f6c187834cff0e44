# The report, made from tables and pictures, never from models; the course of the run; the exports.


# Of Snakemake's own report.
report: "captions/workflow.rst"


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
    # After figures and videos, where cores are few, so that they are part of it.
    priority: priorities.LAST
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        # Read beside the inputs: for a log or a record that is gone, nothing runs again.
        logs="results/logs",
        # Of jobs that are no part of the study.
        requests="results/logs/requests",
        records="results/records",
        arms=ARMS,
        seeds=SEEDS,
        last_round=LAST_ROUND,
        code=code("measure_timeline"),
    message:
        "report: putting together when jobs ran"
    script:
        "../workflow_scripts/measure_timeline.py"


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


# The study's results for other programs, and a folder for every model that can be published as it is.


rule write_model_folders:
    """Write the folder of every model: its weights, what its training images look like, and a model card."""
    input:
        models=every_arm("results/models/{arm}/seed-{seed}/best.pth"),
        intensities=every_arm("results/models/{arm}/seed-{seed}/intensities.json"),
        selections=every_arm("results/models/{arm}/seed-{seed}/selection.json"),
        privacy=of_private_arms("results/models/{arm}/seed-{seed}/privacy.json"),
        scores="results/tables/models.tsv",
        summary="results/tables/summary.tsv",
        audit="results/cohort/audit.json",
    output:
        cards=every_arm("results/exports/models/{arm}/seed-{seed}/README.md"),
        models=every_arm("results/exports/models/{arm}/seed-{seed}/best.pth"),
        intensities=every_arm("results/exports/models/{arm}/seed-{seed}/intensities.json"),
    log:
        "results/logs/exports/write_model_folders.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        study=STUDY.export_description,
        versions=package_versions(),
        code=code("write_model_folders"),
    message:
        "exports: model cards"
    script:
        "../workflow_scripts/write_model_folders.py"


rule export_results:
    """Write scores and rounds as CSV, and for TensorBoard and MLflow."""
    input:
        scores=every_candidate("results/scores/{candidate}/seed-{seed}.tsv"),
        models="results/tables/models.tsv",
        histories=every_arm("results/models/{arm}/seed-{seed}/history.tsv"),
        selections=every_arm("results/models/{arm}/seed-{seed}/selection.json"),
        metrics=lambda wildcards: of_all_rounds("metrics.json"),
        validations=validations_of_all_arms,
        inspections=inspections,
        cards=every_arm("results/exports/models/{arm}/seed-{seed}/README.md"),
    output:
        metrics="results/exports/metrics.csv",
        rounds="results/exports/rounds.csv",
        events=directory("results/exports/tensorboard"),
        mlflow=directory("results/exports/mlflow"),
    log:
        "results/logs/exports/export_results.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        study=STUDY.export_description,
        versions=package_versions(),
        code=code("export_results"),
    message:
        "exports: CSV, TensorBoard and MLflow"
    script:
        "../workflow_scripts/export_results.py"
