"""Render the videos of the case gallery."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.reporting.pictures.video import VideoStyle, render_videos_files

    render_videos_files(
        choice_path=snakemake.input.choice,
        shards=snakemake.params.shards,
        masks_paths=snakemake.input.masks,
        scores_paths=snakemake.input.scores,
        videos_folder=snakemake.output.videos,
        style=VideoStyle(**snakemake.params.style),
    )
