"""Preprocess one site's cases."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.data.shards import build_shard_files

    build_shard_files(
        index_path=snakemake.input.index,
        splits_path=snakemake.input.splits,
        images_path=snakemake.output.images,
        masks_path=snakemake.output.masks,
        cases_path=snakemake.output.cases,
        outlines_path=snakemake.output.outlines,
        frames_path=snakemake.output.frames,
        source_settings=snakemake.params.source,
        preprocessing=snakemake.params.preprocessing,
    )
