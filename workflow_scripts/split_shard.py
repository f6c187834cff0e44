"""Say in which split each case of a shard is."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.data.shards import split_shard_files

    split_shard_files(
        table_path=snakemake.input.table,
        splits_path=snakemake.input.splits,
        cases_path=snakemake.output.cases,
    )
