"""Put together when the jobs of the run ran."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.jobs.course.timeline import measure_timeline_files

    measure_timeline_files(
        logs=snakemake.params.logs,
        requests=snakemake.params.requests,
        records=snakemake.params.records,
        jobs_path=snakemake.output.jobs,
        summary_path=snakemake.output.summary,
        arms=snakemake.params.arms,
        seeds=snakemake.params.seeds,
        last_round=snakemake.params.last_round,
    )
