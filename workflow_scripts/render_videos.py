"""Render the videos of the case gallery."""

from fedpedbrain.jobs import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.reporting.video import render_videos_files

    render_videos_files(
        shard_folders=snakemake.params.folders,
        masks_paths=snakemake.input.masks,
        scores_paths=snakemake.input.scores,
        videos_folder=snakemake.output.videos,
        study_arms=snakemake.params.arms,
        regions=snakemake.params.regions,
        classes=snakemake.params.classes,
        configured_colours=snakemake.params.colours,
        **snakemake.params.video,
    )
