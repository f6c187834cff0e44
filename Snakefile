# Federated studies on multi-site brain MRI, from a cohort to one report. Run: make run, or snakemake --cores all
from snakemake.utils import min_version

min_version("9.0")


configfile: workflow.source_path("config.yaml")


include: "rules/common.smk"
include: "rules/cohort.smk"
include: "rules/audit.smk"
include: "rules/start.smk"
include: "rules/rounds.smk"
include: "rules/records.smk"
include: "rules/training.smk"
include: "rules/inspection.smk"
include: "rules/selection.smk"
include: "rules/accounting.smk"
include: "rules/lineage.smk"
include: "rules/evaluation.smk"
include: "rules/figures.smk"
include: "rules/agreement.smk"
include: "rules/gallery.smk"
include: "rules/reporting.smk"
include: "rules/scans.smk"
include: "rules/inference.smk"
include: "rules/conversion.smk"


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


rule all:
    """The whole study."""
    default_target: True
    input:
        "results/report.html",
        "results/cohort/audit.html",
        rules.models.input,


rule predict:
    """New scans: --config scan=PATH model=PATH, or inbox=FOLDER instead of scan."""
    input:
        pages_of_scans,
