"""Convert DICOM series to a BIDS folder."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.data.conversion.bids_conversion import convert_dicom_files

    convert_dicom_files(
        dicom_root=snakemake.params.dicom_root,
        bids_root=snakemake.params.bids_root,
        table_path=snakemake.output.table,
        settings=snakemake.params.conversion,
        sites=snakemake.params.sites,
        dicom=snakemake.params.dicom,
        columns=snakemake.params.columns,
    )
