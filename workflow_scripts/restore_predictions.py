"""Write an arm's predictions in the scans' own geometry."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.evaluation.restoration import restore_predictions_files

    restore_predictions_files(snakemake.input.masks, snakemake.params.shards, snakemake.output.folder)
