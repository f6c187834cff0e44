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
    benchmark:
        "results/benchmarks/exports/write_model_folders.tsv"
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
        scores=every_arm("results/scores/{arm}/seed-{seed}.tsv"),
        models="results/tables/models.tsv",
        histories=every_arm("results/models/{arm}/seed-{seed}/history.tsv"),
        selections=every_arm("results/models/{arm}/seed-{seed}/selection.json"),
        metrics=lambda wildcards: of_all_rounds("metrics.json"),
        validations=lambda wildcards: of_all_kept_rounds("validation.json"),
        inspections=inspections,
        cards=every_arm("results/exports/models/{arm}/seed-{seed}/README.md"),
    output:
        metrics="results/exports/metrics.csv",
        rounds="results/exports/rounds.csv",
        events=directory("results/exports/tensorboard"),
        mlflow=directory("results/exports/mlflow"),
    log:
        "results/logs/exports/export_results.log",
    benchmark:
        "results/benchmarks/exports/export_results.tsv"
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
