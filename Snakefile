# Federated studies on multi-site brain MRI, from a cohort to one report. Run: make run, or snakemake --cores all
from snakemake.utils import min_version

min_version("9.27")


configfile: workflow.source_path("config.yaml")


# The phases, in the order in which data flow.
PHASES = "common planning reasons schedule cohort audit start rounds kept training passing inspection selection"
PHASES += " accounting lineage evaluation figures agreement gallery timeline reporting exports scans inference"
PHASES += " conversion disk records"
for phase in PHASES.split():

    include: f"rules/{phase}.smk"


report: "rules/captions/workflow.rst"


rule cohort:
    """The checked and preprocessed cohort alone: index, splits, shards and audit."""
    input:
        "results/cohort/audit.html",


rule models:
    """The best model of every arm and seed, and where it comes from."""
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


rule predict:
    """New scans: --config scan=PATH model=PATH, or inbox=FOLDER instead of scan."""
    input:
        pages_of_scans,
