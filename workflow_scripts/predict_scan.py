"""Predict one new scan with one model."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.inference.scan import ScanPlan, predict_scan_files
    from fedpedbrain.jobs.devices import take_device

    predict_scan_files(
        scan_paths=snakemake.params.scan,
        model_path=snakemake.input.model,
        intensities_path=snakemake.input.intensities or None,
        filters_path=snakemake.input.filters or None,
        folder=snakemake.output.folder,
        model_name=snakemake.wildcards.model,
        plan=ScanPlan(**snakemake.params.plan),
        device=take_device(snakemake.resources.gpu, snakemake.threads),
    )
