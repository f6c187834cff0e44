"""Write the page of the audit."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.reporting.pages.audit_page import write_audit_page_files

    write_audit_page_files(
        audit_path=snakemake.input.audit,
        duplicates_path=snakemake.input.duplicates,
        shards=snakemake.params.shards,
        quality_paths=snakemake.input.quality,
        page_path=snakemake.output.page,
        title=snakemake.params.title,
        cohort=snakemake.params.cohort,
        settings=snakemake.params.settings,
    )
