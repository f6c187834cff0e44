"""Write an arm's predictions in the scans' own geometry."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.evaluation.restoration import restore_predictions_files

    restore_predictions_files(
        masks_path=snakemake.input.masks,
        shards=snakemake.params.shards,
        masks_folder=snakemake.output.folder,
        geometry=snakemake.params.geometry,
        num_regions=snakemake.params.num_regions,
    )
