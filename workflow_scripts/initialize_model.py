"""Make the weights that all arms of a seed start from."""

from fedpedbrain.jobs.job import job_log
from fedpedbrain.jobs.worker import fork_from_worker

fork_from_worker(snakemake.log[0])
with job_log(snakemake.log[0]):
    from fedpedbrain.models.pretrained import initialize_model_files

    initialize_model_files(
        path=snakemake.output.model,
        spec=snakemake.params.spec,
        seed=int(snakemake.wildcards.seed),
        model_seed=snakemake.params.model_seed,
        pretrained_path=snakemake.input.get("pretrained") or None,
        pretrained=snakemake.params.pretrained,
    )
