# Facts of the study as upper-case names, wildcard constraints and input functions. The config is read in
# fedpedbrain.study.study alone.
import os
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

from snakemake.exceptions import WorkflowError

from fedpedbrain.base.cases import Shard
from fedpedbrain.data.sources.flpedbrain.files import block_of_sites
from fedpedbrain.data.sources.source_files import (
    count_cases,
    count_left_out,
    digest_of_rows,
    list_source_files,
    settings_of_site,
)
from fedpedbrain.base.errors import StudyError
from fedpedbrain.planning.fingerprint import code_fingerprint, remember_sources
from fedpedbrain.jobs.job import limit_jobs
from fedpedbrain.study.study import load_study
from fedpedbrain.study.tables import modules_that_train
from fedpedbrain.jobs.worker import announce_worker

try:
    STUDY = load_study(config, workflow.source_path("schemas/config.schema.yaml"), count_cases)
    STUDY.check_files()
    SITE_SOURCES = {site: settings_of_site(STUDY.source_settings, site) for site in STUDY.sites}
    # A new scan is predicted where the cohort is not.
    COHORT_FILES = {site: list_source_files(SITE_SOURCES[site], STUDY.requests.need_cohort) for site in STUDY.sites}
    if "results/cohort/splits.tsv" in map(os.path.relpath, STUDY.kept_splits):
        raise StudyError("cohort.splits.keep_file: this study's own splits.tsv is made anew; name a copy of it")
except StudyError as error:
    raise WorkflowError(str(error)) from None


# Short jobs of this run fork from one process that has imported what they need; one sent elsewhere is its own process.
PRELOAD = ["snakemake.script", "torch", "fedpedbrain.federated.site_files", "fedpedbrain.evaluation.validation"]
PRELOAD += modules_that_train(STUDY.choices)
announce_worker(os.getpid() if workflow.is_main_process else None, preload=PRELOAD)
limit_jobs(STUDY.config["job_limit_minutes"])
ARMS = list(STUDY.arms)
CANDIDATES = list(STUDY.candidates)
SEEDS = STUDY.seeds
# Every model of the study, in place of the wildcards of a job.
MODELS = [SimpleNamespace(arm=arm, seed=seed) for arm in ARMS for seed in SEEDS]
SITES = STUDY.sites
LAST_ROUND = STUDY.num_rounds
# Candidates that the case gallery shows; the first one's scores choose the cases.
GALLERY_ARMS = STUDY.config["reporting"]["video"]["arms"]
# What a study leaves behind of every arm and seed.
MODEL_FILES = ["best.pth", "lineage.json", "intensities.json"]


# The environment of every job with --sdm apptainer; docs/how-to/clusters.md says how it is made.
container: "envs/study.sif"


wildcard_constraints:
    arm="|".join(ARMS),
    candidate="|".join(CANDIDATES),
    network="|".join(STUDY.starts),
    seed=r"\d+",
    round=r"\d{3}",
    site=r"[A-Za-z0-9_]+",
    scan=r"[A-Za-z0-9._-]+",
    model=r"[A-Za-z0-9_-]+",
    # A model that was imported before and is not asked for is a file like any other.
    imported="|".join(STUDY.requests.imports) or "(?!)",


remember_sources(Path(".snakemake/parsed_sources.json"))


def code(rule_name, *choices):
    """Fingerprint of a rule's script and the package code that it reaches, of tables of choices what is chosen.

    ``choices`` are a rule's own, each a table's name and a word of it, beside those of the study.
    """
    script = str(Path(workflow.basedir, "workflow_scripts", f"{rule_name}.py"))
    return lambda wildcards: code_fingerprint(script, choices_of(wildcards).union(choices))


def choices_of(wildcards):
    """What a job's arm or network chooses, the study's own recipe for an imported model, else all arms."""
    if "network" in wildcards.keys():
        return STUDY.starts[wildcards.network].choices
    if "candidate" in wildcards.keys():
        return STUDY.choices_of(wildcards.candidate)
    if "imported" in wildcards.keys():
        return STUDY.own_recipe.choices
    return STUDY.arm_choices[wildcards.arm] if "arm" in wildcards.keys() else STUDY.choices


def receipts_of_site(wildcards):
    """Receipts of the fetched files that a site's cases are made from."""
    source = SITE_SOURCES[wildcards.site]
    sites = [site for site in (*source["sites_before"], *source["sites"]) if site in STUDY.fetched_sites]
    return expand("results/downloads/{site}.json", site=sites)


def source_of_site(wildcards):
    """What decides a site's cases: the argument of ``open_source``."""
    return SITE_SOURCES[wildcards.site] | {"receipts": receipts_of_site(wildcards)}


def shards(sites):
    """Arrays of sites and the tables of their cases with splits, by the order of the sites."""
    return expand(
        "results/cohort/sites/{site}/{part}",
        site=sites,
        part=["images.npy", "masks.npy", "cases.tsv"],
    )


# Files of a site that hold its held-out cases in a geometry.
FILES_OF_GEOMETRY = {"scan": ["scan_images.npy", "scan_masks.npy", "scans.tsv"], "grid": ["images.npy", "masks.npy"]}


def held_out_cases(*geometries):
    """Held-out cases of all sites in these geometries, and the tables of their splits, by the order of the sites."""
    parts = [part for geometry in geometries for part in FILES_OF_GEOMETRY[geometry]]
    return expand("results/cohort/sites/{site}/{part}", site=SITES, part=[*parts, "cases.tsv"])


def frames(sites):
    """Tables of where grids and scans lie."""
    return expand("results/cohort/sites/{site}/frames.tsv", site=sites)


def predicted_masks(geometry):
    """Masks that a candidate predicts, in a geometry."""
    name = "masks" if geometry == STUDY.geometries[0] else f"masks_on_{geometry}"
    return f"results/predictions/{{candidate}}/seed-{{seed}}/{name}.npy"


# Whether jobs read from a storage, which brings them the files that they name and no others.
READS_FROM_STORAGE = bool(workflow.storage_settings.default_storage_prefix)


def shard_tables(sites):
    """Tables of cases with splits, in which each array's digests stand for it: one input per site for the many jobs of rounds."""
    return shards(sites) if READS_FROM_STORAGE else [f"results/cohort/sites/{site}/cases.tsv" for site in sites]


def shards_read(wildcards, input):
    """The shards among a job's inputs, wherever a storage puts them."""
    return [Shard(os.path.dirname(path), path) for path in input.shards if path.endswith("cases.tsv")]


def of_gallery_arms(pattern):
    """A file of every candidate that the gallery shows, of the first seed."""
    return expand(pattern, candidate=GALLERY_ARMS, seed=SEEDS[0])


def package_versions():
    """Versions of the packages that decide results."""
    names = ["fedpedbrain", "snakemake", "torch", "numpy", "scipy", "SimpleITK", "pandas", "scikit-learn"]
    return {name: version(name) for name in names}


def every_candidate(pattern):
    """A file of every candidate and seed."""
    return expand(pattern, candidate=CANDIDATES, seed=SEEDS)


def every_arm(pattern):
    """A file of every arm and seed."""
    return expand(pattern, arm=ARMS, seed=SEEDS)


def of_private_arms(pattern):
    """A file of every differentially private arm and seed."""
    return expand(pattern, arm=[name for name, arm in STUDY.arms.items() if arm.is_private], seed=SEEDS)
