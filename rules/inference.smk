# A new scan: snakemake predict --config scan=PATH model=PATH


rule predict_scan:
    """Predict a new scan with one model: a mask in its own geometry, class probabilities, quality flags."""
    input:
        scan=scan_files,
        model=scan_model,
        intensities=scan_model_intensities,
        filters=scan_model_filters,
    output:
        folder=directory("results/inference/{scan}/{model}"),
    log:
        "results/logs/requests/scans/{scan}/predict-{model}.log",
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
        "results/logs/requests/scans/{scan}/render.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        scan=scan_paths,
        formats=STUDY.format_settings,
        colours=STUDY.config["reporting"]["arm_colours"],
        video=STUDY.video_settings,
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
        "results/logs/requests/scans/{scan}/page.log",
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


rule predict:
    """New scans: --config scan=PATH model=PATH, or inbox=FOLDER instead of scan."""
    input:
        pages_of_scans,
