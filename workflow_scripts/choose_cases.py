"""Choose the cases of the gallery."""

from fedpedbrain.jobs.job import job_log

with job_log(snakemake.log[0]):
    from fedpedbrain.evaluation.case_choice import choose_cases_files

    choose_cases_files(
        scores_path=snakemake.input.scores,
        shards=snakemake.params.shards,
        choice_path=snakemake.output.choice,
        classes=snakemake.params.classes,
        num_cases=snakemake.params.num_cases,
        geometry=snakemake.params.geometry,
    )
