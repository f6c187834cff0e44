"""Write the page of a new scan."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.reporting.pages.scan_page import write_scan_page_files

    write_scan_page_files(
        scan=snakemake.wildcards.scan,
        prediction_folders=snakemake.input.predictions,
        video_path=snakemake.input.video,
        poster_path=snakemake.input.poster,
        overview_path=snakemake.input.overview,
        page_path=snakemake.output.page,
        configured_colours=snakemake.params.colours,
    )
