"""Lay out the held-out cases of a site in their scans' own voxels."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.data.scans import lay_out_scans_files

    lay_out_scans_files(
        cases_path=snakemake.input.cases,
        images_path=snakemake.output.images,
        masks_path=snakemake.output.masks,
        table_path=snakemake.output.table,
        source_settings=snakemake.params.source,
        foreground=snakemake.params.foreground,
    )
