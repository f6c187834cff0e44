"""Fetch a checkpoint made elsewhere."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.base.downloads import download

    download(path=snakemake.output.checkpoint, **snakemake.params.fetch)
