"""Which patients train, validate and test."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fedpedbrain.base.cases import EXTERNAL, SPLITS, TEST, TRAIN, VALIDATION, read_cases
from fedpedbrain.base.errors import CohortError, StudyError
from fedpedbrain.base.files import read_table, write_table
from fedpedbrain.base.seeds import derive_seed

SPLIT_COLUMNS = ("patient", "site", "split")
MIN_PATIENTS_PER_TRAINING_SITE = 2
_SEED_RANGE = 2.0**63


def _unit_hash(*parts: str | int) -> float:
    """A number in [0, 1) that is a pure function of its parts."""
    return derive_seed(*parts) / _SEED_RANGE


def assign_splits(
    patients: Mapping[str, tuple[str, str]],
    external_sites: Iterable[str],
    test_fraction: float,
    validation_fraction: float,
    seed: int,
    kept: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Assign every patient to a split, stratified by site and class.

    Within a stratum patients stand in the order of a hash of their name, and the first ones test, the next ones
    validate. How many is ``fraction x patients``, rounded up or down by a fixed draw of the stratum, so that the
    fractions hold over many small strata too. A new patient therefore touches its own stratum alone and moves at most
    one patient across each of its two borders; with ``kept`` it moves none.

    Parameters
    ----------
    patients : patient to (site, class)
    external_sites : sites whose patients are all ``external``
    test_fraction, validation_fraction : of the patients of a training site
    seed : of the order and the draws
    kept : patient to split of an earlier study, which these patients keep

    Returns
    -------
    patient to split; every training site of at least two patients has at least one to train and one to test
    """
    external = set(external_sites)
    # A site that was external and trains now is split like any other.
    kept = {patient: split for patient, split in (kept or {}).items() if split != EXTERNAL}
    strata: dict[tuple[str, str], list[str]] = defaultdict(list)
    for patient, (site, class_name) in patients.items():
        strata[site, class_name].append(patient)
    splits: dict[str, str] = {}
    for (site, class_name), members in sorted(strata.items()):
        if site in external:
            splits.update(dict.fromkeys(members, EXTERNAL))
            continue
        # One draw for both borders: each moves by at most one patient when the stratum grows by one.
        draw = _unit_hash(seed, "quota", site, class_name)
        held = [math.floor(part * len(members) + draw) for part in (test_fraction, test_fraction + validation_fraction)]
        quotas = {TEST: held[0], VALIDATION: held[1] - held[0]}
        members.sort(key=lambda patient: (_unit_hash(seed, "order", patient), patient))
        splits.update(_fill_quotas(members, quotas, kept))
    for site in sorted({site for site, _ in patients.values()} - external):
        members = [name for name, (home, _) in patients.items() if home == site]
        _ensure_train_and_test(members, splits, kept, seed)
    return splits


def _fill_quotas(members: Sequence[str], quotas: Mapping[str, int], kept: Mapping[str, str]) -> dict[str, str]:
    """Give each split its quota of a stratum's patients in order; kept patients count towards their split first."""
    splits = {patient: kept[patient] for patient in members if patient in kept}
    for split, quota in quotas.items():
        missing = quota - sum(1 for assigned in splits.values() if assigned == split)
        free = [patient for patient in members if patient not in splits]
        splits.update(dict.fromkeys(free[: max(missing, 0)], split))
    return {patient: splits.get(patient, TRAIN) for patient in members}


def _ensure_train_and_test(members: list[str], splits: dict[str, str], kept: Mapping[str, str], seed: int) -> None:
    """Move one patient where a small site would have nobody to train on or nobody to test on; kept ones stay."""
    if len(members) < MIN_PATIENTS_PER_TRAINING_SITE:
        return
    free = sorted(set(members) - set(kept), key=lambda patient: (_unit_hash(seed, "order", patient), patient))
    for wanted, other in ((TEST, TRAIN), (TRAIN, TEST)):
        if any(splits[patient] == wanted for patient in members):
            continue
        donors = [patient for patient in free if splits[patient] == VALIDATION]
        if sum(splits[patient] == other for patient in members) > 1:
            donors += [patient for patient in free if splits[patient] == other]
        if donors:
            splits[donors[0]] = wanted


def read_kept(path: str | Path) -> dict[str, str]:
    """The splits of an earlier study; refused where they contradict themselves."""
    kept: dict[str, str] = {}
    for row in read_table(path):
        if row.get("patient") is None or row.get("split") not in SPLITS:
            raise StudyError(
                f"{path}: expected columns patient and split, one of {', '.join(SPLITS)}, found the row {row}; "
                "give a splits.tsv in cohort.splits.keep_file"
            )
        if kept.setdefault(row["patient"], row["split"]) != row["split"]:
            raise StudyError(
                f"{path}: patient {row['patient']} is {kept[row['patient']]} and {row['split']}; keep one of the rows"
            )
    return kept


def check_training_site(site: str, splits: Mapping[str, str]) -> None:
    """Refuse a training site too small to be split, or whose kept patients leave nobody to train on or to test on.

    Parameters
    ----------
    splits : patient of the site to split
    """
    if len(splits) < MIN_PATIENTS_PER_TRAINING_SITE:
        raise CohortError(
            [
                f"site {site}: {len(splits)} patient(s), a training site needs at least "
                f"{MIN_PATIENTS_PER_TRAINING_SITE} (one to train on, one to test on); move it to cohort.sites.external "
                "or leave it out"
            ]
        )
    problems = [
        f"site {site}: no patient is left for {split}; change cohort.splits.keep_file or add patients"
        for split in (TRAIN, TEST)
        if split not in splits.values()
    ]
    if problems:
        raise CohortError(problems)


def split_site_files(
    index_path: str | Path, splits_path: str | Path, site: str, is_external: bool, settings: Mapping
) -> None:
    """Read the index of a site and write one split a patient: that of a stratum, which other sites are no part of.

    Parameters
    ----------
    settings : the ``cohort.splits`` block: ``seed``, ``test_fraction``, ``validation_fraction``, ``keep_file``
    """
    strata: dict[str, tuple[str, str]] = {}
    for case in read_cases(index_path):
        strata.setdefault(case.patient, (site, case.class_name))
    splits = assign_splits(
        strata,
        [site] if is_external else [],
        settings["test_fraction"],
        settings["validation_fraction"],
        settings["seed"],
        {} if settings["keep_file"] is None else read_kept(settings["keep_file"]),
    )
    if not is_external:
        check_training_site(site, splits)
    rows = ({"patient": name, "site": site, "split": splits[name]} for name in sorted(splits))
    write_table(splits_path, SPLIT_COLUMNS, rows)
