"""Draw one site's cases as the network sees them."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.reporting.pictures.quality_pictures import plot_quality_files

    plot_quality_files(
        shard=snakemake.params.shards[0],
        picture_path=snakemake.output.picture,
        site=snakemake.wildcards.site,
        regions=snakemake.params.regions,
    )
