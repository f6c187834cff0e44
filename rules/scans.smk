# Input functions of what a call of predict, import_model or convert_to_bids names.
from fedpedbrain.data.conversion.dicom_files import list_dicom_files


def scan_files(wildcards):
    """Every file of a scan, but not what the workflow writes, where a scan lies in the folder that it runs in."""
    return STUDY.requests.scans.files_of(wildcards.scan, besides="results")


def scan_model(wildcards):
    """The file of a model."""
    return STUDY.requests.scans.models[wildcards.model]


def scan_model_intensities(wildcards):
    """What a model's training images look like, where that is known."""
    return STUDY.requests.scans.intensities_of(wildcards.model) or []


def scan_model_filters(wildcards):
    """The component filters that were chosen for a model, where there are any."""
    return STUDY.requests.scans.filters_of(wildcards.model) or []


def scan_paths(wildcards):
    """A scan as it was named: one file or folder a channel."""
    return STUDY.requests.scans.scans[wildcards.scan]


def predictions_of_scan(wildcards):
    """What every model says of a scan."""
    return expand("results/inference/{scan}/{model}", scan=wildcards.scan, model=STUDY.requests.scans.models)


def pages_of_scans(wildcards):
    """The page of every scan that is asked for."""
    if not STUDY.requests.predicts_scan:
        raise WorkflowError("predict needs a scan and a model: snakemake predict --config scan=PATH model=PATH")
    return expand("results/inference/{scan}/scan.html", scan=STUDY.requests.scans.scans)


def imported_models(wildcards):
    """The model files of all checkpoints that are asked for."""
    if not STUDY.requests.imports:
        raise WorkflowError("import_model needs a checkpoint: snakemake import_model --config checkpoint=PATH")
    return expand("results/models/imported/{imported}.pth", imported=STUDY.requests.imports)


def checkpoint_of_import(wildcards):
    """The checkpoint that a model is made from: a file, or what is fetched."""
    fetched = f"results/models/imported/{wildcards.imported}/checkpoint.pth"
    return STUDY.requests.imports[wildcards.imported].path or fetched


def files_to_convert(wildcards):
    """Every file below the folder of DICOM series, or what the target needs."""
    if not STUDY.requests.converts:
        raise WorkflowError("snakemake convert_to_bids --config dicom_root=PATH bids_root=PATH")
    try:
        return list_dicom_files(STUDY.config["dicom_root"])
    except StudyError as error:
        raise WorkflowError(str(error)) from None
