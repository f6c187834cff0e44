# A new scan: snakemake predict --config scan=PATH model=PATH


def scan_files(wildcards):
    """Every file of a scan, but not what the workflow writes, where a scan lies in the folder that it runs in."""
    return STUDY.scan_request.files_of(wildcards.scan, besides="results")


def scan_model(wildcards):
    """The file of a model."""
    return STUDY.scan_request.models[wildcards.model]


def scan_model_intensities(wildcards):
    """What a model's training images look like, where that is known."""
    return STUDY.scan_request.intensities_of(wildcards.model) or []


def scan_paths(wildcards):
    """A scan as it was named: one file or folder a channel."""
    return STUDY.scan_request.scans[wildcards.scan]


def predictions_of_scan(wildcards):
    """What every model says of a scan."""
    return expand("results/inference/{scan}/{model}", scan=wildcards.scan, model=STUDY.scan_request.models)


def pages_of_scans(wildcards):
    """The page of every scan that is asked for."""
    if not STUDY.predicts_scan:
        raise WorkflowError("predict needs a scan and a model: snakemake predict --config scan=PATH model=PATH")
    return expand("results/inference/{scan}/scan.html", scan=STUDY.scan_request.scans)


rule predict_scan:
    """Predict a new scan with one model: a mask in its own geometry, class probabilities, quality flags."""
    input:
        scan=scan_files,
        model=scan_model,
        intensities=scan_model_intensities,
    output:
        folder=directory("results/inference/{scan}/{model}"),
    log:
        "results/logs/inference/{scan}/predict-{model}.log",
    benchmark:
        "results/benchmarks/inference/{scan}/predict-{model}.tsv"
    conda:
        "../envs/study.yaml"
    threads: STUDY.config["training"]["threads"]
    resources:
        gpu=1,
        mem_mb=4000,
    params:
        scan=scan_paths,
        plan=STUDY.scan_plan,
        code=code("predict_scan"),
    message:
        "scan {wildcards.scan}: predicting with {wildcards.model}"
    script:
        "../workflow_scripts/predict_scan.py"


rule render_scan:
    """A new scan slice by slice, with what the models outline."""
    input:
        scan=scan_files,
        predictions=predictions_of_scan,
    output:
        video="results/inference/{scan}/slices.mp4",
        poster="results/inference/{scan}/slices.jpg",
        overview="results/inference/{scan}/overview.jpg",
    log:
        "results/logs/inference/{scan}/render.log",
    benchmark:
        "results/benchmarks/inference/{scan}/render.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        scan=scan_paths,
        formats=STUDY.format_settings,
        colours=STUDY.config["reporting"]["arm_colours"],
        video=STUDY.scan_video_settings,
        code=code("render_scan"),
    message:
        "scan {wildcards.scan}: drawing its slices"
    script:
        "../workflow_scripts/render_scan.py"


rule write_scan_page:
    """What the models say of a new scan, on one page."""
    input:
        predictions=predictions_of_scan,
        video="results/inference/{scan}/slices.mp4",
        poster="results/inference/{scan}/slices.jpg",
        overview="results/inference/{scan}/overview.jpg",
    output:
        page="results/inference/{scan}/scan.html",
    log:
        "results/logs/inference/{scan}/page.log",
    benchmark:
        "results/benchmarks/inference/{scan}/page.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        colours=STUDY.config["reporting"]["arm_colours"],
        code=code("write_scan_page"),
    message:
        "scan {wildcards.scan}: writing results/inference/{wildcards.scan}/scan.html"
    script:
        "../workflow_scripts/write_scan_page.py"
