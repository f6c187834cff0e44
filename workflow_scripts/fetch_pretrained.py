"""Fetch the weights that all arms start from."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.base.downloads import download

    download(
        source=snakemake.params.pretrained["source"],
        path=snakemake.output.weights,
        sha256=snakemake.params.pretrained["sha256"],
    )
