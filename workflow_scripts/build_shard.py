"""Preprocess one site's cases."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.data.shards import build_shard_files

    build_shard_files(
        index_path=snakemake.input.index,
        images_path=snakemake.output.images,
        masks_path=snakemake.output.masks,
        table_path=snakemake.output.table,
        outlines_path=snakemake.output.outlines,
        frames_path=snakemake.output.frames,
        source_settings=snakemake.params.source,
        preprocessing=snakemake.params.preprocessing,
    )
