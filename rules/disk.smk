# Room on the disk: what the jobs of a run will write, and refusing a run that cannot fit.
import math
import shutil
from functools import cache

from snakemake.logging import logger

from fedpedbrain.planning import disk


@cache
def model_bytes():
    """Bytes of a model: of a start that is there and stays as it is, else of the network that the config describes."""
    planned = {path for job in workflow.dag.needrun_jobs() for path in job.output}
    starts = {f"results/models/initial/seed-{seed}.pth" for seed in SEEDS} - planned
    there = sorted(filter(os.path.exists, starts))
    return os.path.getsize(there[0]) if there else disk.measure_model(STUDY.model_spec)


def bytes_of_cases(num_cases, num_planes):
    """Bytes of cases on the network's grid, so many planes of uint8 each."""
    return num_cases * num_planes * math.prod(STUDY.config["preprocessing"]["grid"])


def cases_at(wildcards):
    """Cases of a site, as well as they are known by now."""
    return sizes_of_sites()[wildcards.site]


def held_out_cases():
    """Cases that every model predicts, about."""
    tested = STUDY.config["cohort"]["splits"]["test_fraction"] * sum(
        sizes_of_sites()[site] for site in STUDY.training_sites
    )
    return tested + sum(sizes_of_sites()[site] for site in STUDY.external_sites)


SIZES = disk.Sizes(model_bytes, STUDY.config["training"]["optimizer"])
CHANNELS, REGIONS = len(STUDY.model_spec["channels"]), len(STUDY.model_spec["regions"])
# Kind and bytes of large outputs, by the script that writes them and their name there.
LARGE_OUTPUTS = {
    ("build_shard", "images"): ("cohort", lambda wildcards: bytes_of_cases(cases_at(wildcards), CHANNELS)),
    ("build_shard", "masks"): ("cohort", lambda wildcards: bytes_of_cases(cases_at(wildcards), REGIONS)),
    ("initialize_model", "model"): ("models", lambda wildcards: model_bytes()),
    ("train_site", "site_update"): ("updates", lambda wildcards: SIZES.update(STUDY.arms[wildcards.arm])),
    ("train_site", "state"): ("states", lambda wildcards: SIZES.site_state(STUDY.arms[wildcards.arm])),
    ("aggregate_round", "model"): ("models", lambda wildcards: model_bytes()),
    ("aggregate_round", "state"): ("states", lambda wildcards: SIZES.server_state(STUDY.arms[wildcards.arm])),
    ("select_model", "best"): ("models", lambda wildcards: model_bytes()),
    ("select_phase_start", "best"): ("models", lambda wildcards: model_bytes()),
    ("personalize_model", "model"): ("models", lambda wildcards: model_bytes()),
    ("predict_cases", "masks"): ("predictions", lambda wildcards: bytes_of_cases(held_out_cases(), REGIONS)),
    ("write_model_folders", "models"): ("models", lambda wildcards: model_bytes()),
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
