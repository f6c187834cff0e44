"""Assign every patient to a split."""

from fedpedbrain.jobs import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.data.splits import split_cohort_files

    split_cohort_files(
        index_path=snakemake.input.index,
        splits_path=snakemake.output.splits,
        sites=snakemake.params.sites,
        settings=snakemake.params.splits,
    )
