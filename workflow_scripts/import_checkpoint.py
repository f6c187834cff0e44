"""Make a model file of a checkpoint made elsewhere."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.models.imported import import_model_files

    import_model_files(
        checkpoint_path=snakemake.input.checkpoint,
        model_path=snakemake.output.model,
        spec=snakemake.params.spec,
        source=snakemake.params.source,
        sha256=snakemake.params.sha256,
    )
