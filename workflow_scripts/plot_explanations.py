"""Draw what explains the models on the chosen cases."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.reporting.pictures.explanation_pictures import plot_explanations_files

    plot_explanations_files(
        choice_path=snakemake.input.choice,
        shards=snakemake.params.shards,
        explanations_paths=snakemake.input.explanations,
        scores_paths=snakemake.input.scores,
        pictures_folder=snakemake.output.pictures,
        arms=snakemake.params.arms,
        regions=snakemake.params.regions,
        dpi=snakemake.params.dpi,
        geometry=snakemake.params.geometry,
    )
