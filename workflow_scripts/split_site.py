"""Assign every patient of one site to a split."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.data.checks.splits import split_site_files

    split_site_files(
        index_path=snakemake.input.index,
        splits_path=snakemake.output.splits,
        site=snakemake.wildcards.site,
        is_external=snakemake.params.is_external,
        settings=snakemake.params.splits,
    )
