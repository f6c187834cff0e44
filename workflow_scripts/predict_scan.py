"""Predict one new scan."""

from fedpedbrain.jobs import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.devices import take_device
    from fedpedbrain.inference.scan import predict_scan_files

    predict_scan_files(
        scan_paths=snakemake.input.scan,
        model_path=snakemake.input.model,
        mask_path=snakemake.output.mask,
        result_path=snakemake.output.result,
        decision=snakemake.params.decision,
        device=take_device(snakemake.resources.gpu, snakemake.threads),
    )
