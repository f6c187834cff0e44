"""Add up what the jobs of an arm took of time, memory and GPU."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.jobs.course.cost import measure_cost_files

    of = snakemake.wildcards
    measure_cost_files(
        logs=snakemake.params.logs,
        cost_path=snakemake.output.cost,
        arm=of.arm,
        seed=int(of.seed),
        is_chain=snakemake.params.is_chain,
    )
