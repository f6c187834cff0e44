"""Write the study's report."""

from fedpedbrain.jobs import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.reporting.report import ReportInputs, write_report_files

    given = snakemake.input
    inputs = ReportInputs(
        summary=given.summary,
        differences=given.differences,
        confusion=given.confusion,
        audit=given.audit,
        histories=given.histories,
        selections=given.selections,
        figures={
            "cohort": given.cohort_figure,
            "convergence": given.convergence_figure,
            "comparison": given.comparison_figure,
            "confusion": given.confusion_figure,
        },
        videos=given.videos,
        report=snakemake.output.report,
        inspections=given.inspections,
        privacy=given.privacy,
        quality=given.quality,
    )
    write_report_files(inputs, {**snakemake.params.study, "versions": snakemake.params.versions})
