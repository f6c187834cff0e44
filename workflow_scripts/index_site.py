"""List and check every case of one site."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.data.index import index_site_files

    index_site_files(source_settings=snakemake.params.source, index_path=snakemake.output.index)
