"""Score an arm's predictions."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.evaluation.scores import score_predictions_files

    score_predictions_files(
        masks_paths=dict(zip(snakemake.params.geometries, snakemake.input.masks, strict=True)),
        probabilities_path=snakemake.input.probabilities,
        shards=snakemake.params.shards,
        scores_path=snakemake.output.scores,
        arm=snakemake.wildcards.candidate,
        seed=int(snakemake.wildcards.seed),
        regions=snakemake.params.regions,
        settings=snakemake.params.settings,
    )
