"""Score the models of a block of rounds on one site's validation patients."""

from fedpedbrain.jobs.job import job_log
from fedpedbrain.jobs.worker import fork_from_worker

fork_from_worker(snakemake.log[0])
with job_log(snakemake.log[0]):
    from fedpedbrain.evaluation.validation import validate_site_files
    from fedpedbrain.jobs.devices import take_device

    validate_site_files(
        model_paths=snakemake.input.models,
        state_paths=snakemake.input.states,
        state_rounds=snakemake.params.state_rounds,
        shards=snakemake.params.shards,
        site=snakemake.wildcards.site,
        validation_path=snakemake.output.validation,
        settings=snakemake.params.settings,
        device=take_device(snakemake.resources.gpu, snakemake.threads),
    )
