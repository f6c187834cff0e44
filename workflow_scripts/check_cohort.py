"""Hold all sites of the cohort against each other."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.data.checks.cohort_check import check_cohort_files

    check_cohort_files(
        site_index_paths=snakemake.input.indexes,
        site_splits_paths=snakemake.input.splits,
        index_path=snakemake.output.index,
        splits_path=snakemake.output.splits,
        left_out_path=snakemake.output.left_out,
        left_out=snakemake.params.left_out,
        keep_file=snakemake.params.keep_file,
    )
