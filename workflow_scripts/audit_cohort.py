"""Audit the preprocessed cohort."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.data.checks.audit import audit_cohort_files

    audit_cohort_files(
        shards=snakemake.params.shards,
        left_out_path=snakemake.input.left_out,
        duplicates_path=snakemake.input.duplicates,
        audit_path=snakemake.output.audit,
        table_path=snakemake.output.table,
        case_table_paths=snakemake.output.cases,
        cohort=snakemake.params.cohort,
        settings=snakemake.params.settings,
    )
