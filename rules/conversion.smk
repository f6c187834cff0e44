# From DICOM series to a BIDS folder: snakemake convert_to_bids --config dicom_root=PATH bids_root=PATH

# A data set that is gone is made again.
CONVERTED = f"{STUDY.config['bids_root'] or 'results/conversion'}/dataset_description.json"


rule convert_to_bids:
    """Convert every DICOM series below a folder to BIDS, under pseudonyms, and list what became of each."""
    input:
        files_to_convert,
    output:
        table=update("results/conversion/series.tsv"),
        # Of a data set that is added to, what is there stays until all is done.
        description=update(CONVERTED),
    log:
        "results/logs/requests/convert_to_bids.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        dicom_root=STUDY.config["dicom_root"],
        bids_root=STUDY.config["bids_root"],
        conversion=STUDY.config["conversion"],
        sites=STUDY.sites,
        dicom=STUDY.format_settings["dicom"],
        columns=STUDY.participant_columns,
        code=code("convert_to_bids"),
    message:
        "converting DICOM series to BIDS"
    script:
        "../workflow_scripts/convert_to_bids.py"
