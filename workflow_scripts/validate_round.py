"""Score a round's global model on the validation patients."""

from fedpedbrain.jobs.job import job_log
from fedpedbrain.jobs.worker import fork_from_worker

fork_from_worker(snakemake.log[0])
with job_log(snakemake.log[0]):
    from fedpedbrain.evaluation.validation import validate_round_files
    from fedpedbrain.jobs.devices import take_device

    validate_round_files(
        model_path=snakemake.input.model,
        personal_states=dict(zip(snakemake.params.personal_sites, snakemake.input.states, strict=True)),
        shards=snakemake.params.shards,
        validation_path=snakemake.output.validation,
        decision=snakemake.params.decision,
        device=take_device(snakemake.resources.gpu, snakemake.threads),
    )
