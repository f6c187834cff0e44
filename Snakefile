# Federated studies on multi-site brain MRI, from a cohort to one report. Run: make run, or snakemake --cores all
from snakemake.utils import min_version

min_version("9.27")


configfile: workflow.source_path("config.yaml")


include: "rules/common.smk"
include: "rules/snakemake_internals.smk"
include: "rules/rounds.smk"
include: "rules/priorities.smk"
include: "rules/cohort.smk"
include: "rules/training.smk"
include: "rules/models.smk"
include: "rules/evaluation.smk"
include: "rules/gallery.smk"
include: "rules/figures.smk"
include: "rules/reporting.smk"
include: "rules/scans.smk"
include: "rules/inference.smk"
include: "rules/imports.smk"
include: "rules/conversion.smk"
include: "rules/run.smk"


rule cohort:
    """The checked and preprocessed cohort alone: index, splits, shards and audit."""
    input:
        "results/cohort/audit.html",


rule models:
    """The best model of every arm and seed, and its lineage."""
    input:
        expand("results/models/{arm}/seed-{seed}/{file}", arm=ARMS, seed=SEEDS, file=MODEL_FILES),
        # Made of updates that are gone afterwards: the report would want all training anew.
        inspections,


rule exports:
    """The results for other programs alone: CSV, TensorBoard, MLflow, a folder a model with its card."""
    input:
        rules.write_model_folders.output,
        rules.export_results.output,


rule all:
    """The whole study."""
    default_target: True
    input:
        "results/report.html",
        "results/cohort/audit.html",
        rules.models.input,
        rules.exports.input,
