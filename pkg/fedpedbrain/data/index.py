"""The index of a cohort: every case of the study, checked before anything trains."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from fedpedbrain.cohort import Case, write_cases
from fedpedbrain.data.copies import describe_copies
from fedpedbrain.data.sources import open_source
from fedpedbrain.data.splits import MIN_PATIENTS_PER_TRAINING_SITE
from fedpedbrain.errors import CohortError
from fedpedbrain.files import write_table

LEFT_OUT_COLUMNS = ("site", "num_participants")


def check_sites(cases: list[Case], training_sites: list[str]) -> None:
    """Refuse a training site too small to be split, a case name used twice, and one image under two patients."""
    patients = {site: {case.patient for case in cases if case.site == site} for site in training_sites}
    problems = [
        f"site {site}: {len(names)} patient(s), a training site needs at least {MIN_PATIENTS_PER_TRAINING_SITE} "
        "(one to train on, one to test on); move it to cohort.sites.external or leave it out"
        for site, names in patients.items()
        if len(names) < MIN_PATIENTS_PER_TRAINING_SITE
    ]
    counts = Counter(case.case for case in cases)
    problems += [
        f"case {name}: listed {count} times; names must be unique" for name, count in counts.items() if count > 1
    ]
    problems += describe_copies(cases)
    if problems:
        raise CohortError(problems)


def index_cohort_files(source_settings: Mapping, index_path: str | Path, left_out_path: str | Path) -> None:
    """List and check all cases of the study and write the index, ordered by site and case.

    ``left_out`` counts the source's participants at sites that are none of the study's.
    """
    source = open_source(source_settings)
    cases = source.find_cases()
    check_sites(cases, source_settings["cohort"]["sites"]["training"])
    left_out = source.count_left_out().items()
    write_table(left_out_path, LEFT_OUT_COLUMNS, ({"site": site, "num_participants": n} for site, n in left_out))
    write_cases(index_path, sorted(cases, key=lambda case: (case.site, case.case)))
