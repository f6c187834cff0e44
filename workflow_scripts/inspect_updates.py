"""Compare the updates of a round."""

from fedpedbrain.jobs.job import job_log
from fedpedbrain.jobs.worker import fork_from_worker

fork_from_worker(snakemake.log[0])
with job_log(snakemake.log[0]):
    from fedpedbrain.federated.inspection import InspectionFiles, inspect_updates_files

    files = InspectionFiles(
        start=snakemake.input.start,
        updates=dict(zip(snakemake.params.sites, snakemake.input.updates, strict=True)),
        result=snakemake.input.model,
        table=snakemake.output.table,
    )
    inspect_updates_files(files, snakemake.params.exchange, snakemake.params.is_chain)
