# A new scan: snakemake predict --config scan=PATH model=PATH


rule predict_scan:
    """Predict one new scan: a mask in its own geometry and class probabilities."""
    input:
        scan=STUDY.scan_paths,
        model=STUDY.scan_model,
    output:
        mask=f"results/inference/{STUDY.scan_name}/mask.nii.gz",
        result=f"results/inference/{STUDY.scan_name}/prediction.json",
    log:
        f"results/logs/inference/{STUDY.scan_name}.log",
    benchmark:
        f"results/benchmarks/inference/{STUDY.scan_name}.tsv"
    conda:
        "../envs/study.yaml"
    threads: STUDY.config["training"]["threads"]
    resources:
        gpu=1,
        mem_mb=4000,
    params:
        decision=STUDY.decision_settings,
        code=code("predict_scan"),
    message:
        "predicting a new scan"
    script:
        "../workflow_scripts/predict_scan.py"
