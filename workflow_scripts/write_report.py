"""Write the study's report."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.reporting.pages.report import ReportInputs, write_report_files

    given = snakemake.input
    inputs = ReportInputs(
        tables=given.tables,
        audit=given.audit,
        histories=given.histories,
        selections=given.selections,
        figures=given.figures,
        videos=given.videos,
        explanations=given.explanations,
        report=snakemake.output.report,
        record=snakemake.output.record,
        inspections=given.inspections,
        privacy=given.privacy,
        quality=given.quality,
        costs=given.costs,
        timeline=given.timeline,
    )
    write_report_files(inputs, {**snakemake.params.study, "versions": snakemake.params.versions})
