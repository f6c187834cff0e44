"""Fetch the files of one site."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.data.sources.flpedbrain.fetching import fetch_site_files

    fetch_site_files(
        site=snakemake.wildcards.site,
        settings=snakemake.params.files,
        receipt_path=snakemake.output.receipt,
    )
