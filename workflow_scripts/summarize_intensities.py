"""Describe what the training images of an arm look like."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.data.checks.training_intensities import summarize_intensities_files

    summarize_intensities_files(
        shards=snakemake.params.shards,
        intensities_path=snakemake.output.intensities,
        channels=snakemake.params.channels,
        foreground=snakemake.params.foreground,
    )
