# One run at a time in a folder, and a record of how each file was made, which lies with the results. To Snakemake a file
# without a record is up to date whatever the settings are; here it is not.
import re

from snakemake.persistence.file import FilePersistence

from fedpedbrain.jobs.leftover_jobs import refuse_leftover_jobs
from fedpedbrain.models.stamps import split_by_stamp
from fedpedbrain.base.files import remove_unfinished, write_out
from fedpedbrain.planning.records import UNKNOWN, complete_records, files_without_record, keep_records
from fedpedbrain.jobs.run_lock import take_run_lock

RECORDS = Path("results/records")
# What trains carries a stamp of its settings.
STAMPED = re.compile(r"results/models/([^/]+)/seed-\d+/.+\.pth")


write_record = FilePersistence._io_write


def write_record_out(persistence, folder, values, name, **options):
    """As Snakemake does, and have the disk hold it: a power cut would leave the file and take how it was made."""
    write_record(persistence, folder, values, name, **options)
    write_out(persistence._record_path(folder, name))


FilePersistence._io_write = write_record_out


def complete_lost_records(lost):
    """See to it that every job which made one of these files has records of all its outputs."""
    paths = {*lost, *(str(folder) for path in lost for folder in Path(path).parents)}
    for maker in workflow.rules:
        matches = [match for output in maker.output for path in paths if (match := output.match(path))]
        for match in matches:
            complete_records(map(str, maker.expand_output(match.groupdict())[0]), RECORDS)


def check_unknown():
    """Train nothing again that may be right, and take nothing that its stamp says is not (--touch)."""
    outputs = [output for job in workflow.dag.needrun_jobs() for output in job.output if os.path.exists(output)]
    unknown = [output for output in outputs if workflow.persistence.params(output) == [UNKNOWN]]
    if not (unknown or workflow.touch):
        return
    arms = {str(path): match[1] for path in outputs if (match := STAMPED.fullmatch(path))}
    fresh, stale = split_by_stamp({path: STUDY.settings_digests[arm] for path, arm in arms.items()})
    if workflow.touch and stale:
        raise StudyError(
            f"{stale[0]}: trained with other settings than this study's, as were {len(stale)} models and states that "
            "--touch would take; delete them first, or set the settings back"
        )
    if fresh and not workflow.touch:
        raise StudyError(
            f"{unknown[0]}: no record says how this and {len(unknown) - 1} more files were made, and {len(fresh)} models "
            "and states that carry this study's settings would be trained again. Bring results/records back; or, if "
            "neither code nor cohort has changed since, take all as it is: snakemake --touch; or delete these files"
        )


if workflow.is_main_process:
    keep_records(Path(".snakemake"), RECORDS)
    complete_lost_records(files_without_record(RECORDS.parent, RECORDS))


onstart:
    try:
        # In place of Snakemake's own locks (nolock in the profile), which a killed run leaves behind.
        take_run_lock(".snakemake/run.lock")
        if workflow.executor_plugin.name == "slurm":
            refuse_leftover_jobs(os.getcwd())
        # Elsewhere jobs of a killed run may still be at work.
        if workflow.local_exec or workflow.executor_plugin.name == "slurm":
            remove_unfinished("results")
        check_unknown()
        check_disk()
    except StudyError as error:
        raise WorkflowError(str(error)) from None
