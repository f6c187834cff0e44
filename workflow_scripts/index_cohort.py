"""List and check every case of the study's sites."""

from fedpedbrain.jobs import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.data.index import index_cohort_files

    index_cohort_files(
        source_settings=snakemake.params.source,
        index_path=snakemake.output.index,
        left_out_path=snakemake.output.left_out,
    )
