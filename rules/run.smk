# One run at a time in a folder, and a record of how each file was made, which lies with the results. To Snakemake a file
# without a record is up to date whatever the settings are; here it is not.
import re
import shutil
from functools import cache

from fedpedbrain.base.files import remove_unfinished
from fedpedbrain.jobs.leftover_jobs import refuse_leftover_jobs
from fedpedbrain.jobs.run_lock import take_run_lock
from fedpedbrain.models.stamps import split_by_stamp
from fedpedbrain.planning import disk
from fedpedbrain.planning.records import UNKNOWN, complete_records, files_without_record, keep_records


# Room on the disk: what the jobs of a run will write, and refusing a run that cannot fit.
@cache
def model_bytes(network):
    """Bytes of a network's model: of a start that is there and stays as it is, else as the config describes it."""
    planned = {path for job in workflow.dag.needrun_jobs() for path in job.output}
    starts = {f"results/models/initial/{network}/seed-{seed}.pth" for seed in SEEDS} - planned
    there = sorted(filter(os.path.exists, starts))
    return os.path.getsize(there[0]) if there else disk.measure_model(STUDY.model_spec(STUDY.starts[network]))


def bytes_of_model(wildcards):
    """Bytes of a model of an arm, or of a network's start."""
    named = "network" in wildcards.keys()
    return model_bytes(wildcards.network if named else STUDY.recipes[wildcards.arm].start)


def bytes_of_largest_model(wildcards):
    """Bytes of the largest model of the study."""
    return max(map(model_bytes, STUDY.starts))


def sizes_of(wildcards):
    """Bytes of what an arm's rounds write."""
    return disk.Sizes(partial(bytes_of_model, wildcards), STUDY.recipes[wildcards.arm].training_settings["optimizer"])


def voxels_at(site):
    """Voxels of a site's cases on the network's grid, as well as they are known by now."""
    index, extent_mm = f"results/cohort/sites/{site}/index.tsv", STUDY.anatomy["extent_mm"]
    return disk.voxels_of_site(STUDY.config["preprocessing"], sizes_of_sites()[site], extent_mm, index)


def scan_voxels_at(site):
    """Voxels of the scans of a site's cases, as well as they are known by now."""
    native = {"grid": None, "voxel_spacing_mm": "native"}
    index, extent_mm = f"results/cohort/sites/{site}/index.tsv", STUDY.anatomy["extent_mm"]
    return disk.voxels_of_site(native, sizes_of_sites()[site], extent_mm, index)


def held_out_fraction(site):
    """Part of a site's cases that no training sees."""
    return 1.0 if site in STUDY.external_sites else STUDY.config["cohort"]["splits"]["test_fraction"]


def bits_of_held_out(site, voxels):
    """Bits of the masks of the held-out part of a site's voxels."""
    return REGIONS * held_out_fraction(site) * voxels


def bytes_of_predictions(wildcards):
    """Bytes of the masks of the cases that every model predicts, about."""
    on_grid = sum(bits_of_held_out(site, voxels_at(site)) for site in SITES)
    in_scans = sum(bits_of_held_out(site, scan_voxels_at(site)) for site in SITES)
    return sum({"grid": on_grid, "scan": in_scans}[geometry] for geometry in STUDY.geometries) / 8


CHANNELS, REGIONS = len(STUDY.config["cohort"]["channels"]), len(STUDY.regions)
BYTES_OF_VOXEL = CHANNELS * disk.bytes_of_intensity(STUDY.config["preprocessing"])
# Kind and bytes of large outputs, by the script that writes them and their name there.
LARGE_OUTPUTS = {
    ("build_shard", "images"): ("cohort", lambda wildcards: BYTES_OF_VOXEL * voxels_at(wildcards.site)),
    ("build_shard", "masks"): ("cohort", lambda wildcards: REGIONS * voxels_at(wildcards.site)),
    ("lay_out_scans", "images"): (
        "cohort",
        lambda wildcards: held_out_fraction(wildcards.site) * scan_voxels_at(wildcards.site),
    ),
    ("initialize_model", "model"): ("models", bytes_of_model),
    ("train_site", "site_update"): ("updates", lambda wildcards: sizes_of(wildcards).update(STUDY.arms[wildcards.arm])),
    ("train_site", "state"): ("states", lambda wildcards: sizes_of(wildcards).site_state(STUDY.arms[wildcards.arm])),
    ("aggregate_round", "model"): ("models", bytes_of_model),
    ("aggregate_round", "state"): (
        "states",
        lambda wildcards: sizes_of(wildcards).server_state(STUDY.arms[wildcards.arm]),
    ),
    ("select_model", "best"): ("models", bytes_of_model),
    ("select_phase_start", "best"): ("models", bytes_of_model),
    ("personalize_model", "model"): ("models", bytes_of_model),
    ("predict_cases", "masks"): ("predictions", bytes_of_predictions),
    ("write_model_folders", "models"): ("models", bytes_of_largest_model),
    ("write_report", "report"): ("report", lambda wildcards: disk.BYTES_OF_REPORT),
}


def large_outputs(job):
    """The large files that a job will write."""
    for name, files in job.output.items():
        kind, size_of = LARGE_OUTPUTS.get((Path(job.rule.script or "").stem, name), (None, None))
        for path in ([files] if isinstance(files, str) else files) if kind else []:
            passes = path in job.temp_output
            chain = (job.wildcards.arm, job.wildcards.seed) if passes else None
            number = int(job.wildcards.round) if passes else 0
            yield disk.Output(kind, path, size_of(job.wildcards), chain, number, name != "site_update")


def check_disk():
    """Say what the planned jobs need of the disk, and refuse a run that cannot fit."""
    jobs = list(workflow.dag.needrun_jobs())
    needed = disk.estimate_disk((output for job in jobs for output in large_outputs(job)), len(jobs))
    # A link to another disk, maybe.
    folder = os.path.realpath("results" if os.path.exists("results") else ".")
    text = disk.admit(needed, shutil.disk_usage(folder).free, folder)
    if len(needed.bytes_of) > 1:
        logger.info(text)


RECORDS = Path("results/records")
# What trains carries a stamp of its settings.
STAMPED = re.compile(r"results/models/([^/]+)/seed-\d+/.+\.pth")


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
