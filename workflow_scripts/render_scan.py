"""Render the slices of a new scan with what the models outline."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.reporting.pictures.scan_video import render_scan_files

    render_scan_files(
        scan_name=snakemake.wildcards.scan,
        scan_path=snakemake.params.scan[0],
        prediction_folders=snakemake.input.predictions,
        video_path=snakemake.output.video,
        poster_path=snakemake.output.poster,
        overview_path=snakemake.output.overview,
        formats=snakemake.params.formats,
        configured_colours=snakemake.params.colours,
        **snakemake.params.video,
    )
