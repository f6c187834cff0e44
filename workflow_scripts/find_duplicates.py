"""Find cases that are one image, or look like it."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.data.checks.duplicates import find_duplicates_files

    find_duplicates_files(
        shards=snakemake.params.shards,
        duplicates_path=snakemake.output.duplicates,
        settings=snakemake.params.settings,
    )
