"""Make the model that a site has for itself."""

from fedpedbrain.jobs.job import job_log
from fedpedbrain.jobs.worker import fork_from_worker

fork_from_worker(snakemake.log[0])
with job_log(snakemake.log[0]):
    from fedpedbrain.federated.personal import personalize_model_files

    personalize_model_files(
        model_path=snakemake.input.model,
        state_paths=dict(zip(snakemake.params.rounds, snakemake.input.states, strict=True)),
        phase_starts=snakemake.params.phase_starts,
        site=snakemake.wildcards.site,
        personal_path=snakemake.output.model,
    )
