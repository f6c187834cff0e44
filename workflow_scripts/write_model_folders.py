"""Write a folder for every model that can be published as it is."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.exports.model_folders import FolderFiles, write_model_folders_files

    given, written = snakemake.input, snakemake.output
    files = FolderFiles(
        models=given.models,
        intensities=given.intensities,
        selections=given.selections,
        scores=given.scores,
        summary=given.summary,
        audit=given.audit,
        privacy=given.privacy,
        cards=written.cards,
        published_models=written.models,
        published_intensities=written.intensities,
    )
    write_model_folders_files(files, {**snakemake.params.study, "versions": snakemake.params.versions})
