"""Predict one new scan with one model."""

from fedpedbrain.jobs import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.devices import take_device
    from fedpedbrain.inference.scan import ScanPlan, predict_scan_files

    predict_scan_files(
        scan_paths=snakemake.params.scan,
        model_path=snakemake.input.model,
        intensities_path=snakemake.input.intensities or None,
        folder=snakemake.output.folder,
        model_name=snakemake.wildcards.model,
        plan=ScanPlan(**snakemake.params.plan),
        device=take_device(snakemake.resources.gpu, snakemake.threads),
    )
