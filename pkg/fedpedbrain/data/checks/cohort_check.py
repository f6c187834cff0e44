"""What can be seen of a cohort only where all its sites are: checked before anything is preprocessed or trains."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fedpedbrain.base.cases import VALIDATION, Case, read_cases, write_cases
from fedpedbrain.base.errors import CohortError
from fedpedbrain.base.files import read_table, write_table
from fedpedbrain.data.checks.splits import SPLIT_COLUMNS, read_kept
from fedpedbrain.data.sources.copies import describe_copies

LEFT_OUT_COLUMNS = ("site", "num_participants")


def describe_contradictions(cases: Sequence[Case]) -> list[str]:
    """One line for every case name used twice, every image under two patients, and every patient at two sites."""
    counts = Counter(case.case for case in cases)
    problems = [
        f"case {name}: listed {count} times; names must be unique" for name, count in counts.items() if count > 1
    ]
    problems += describe_copies(cases)
    sites_of: dict[str, dict[str, None]] = {}
    for case in cases:
        sites_of.setdefault(case.patient, {})[case.site] = None
    problems += [
        f"patient {patient}: found at sites {' and '.join(map(repr, sites))}; a patient belongs to one site"
        for patient, sites in sites_of.items()
        if len(sites) > 1
    ]
    return problems


def check_splits(split_of: Mapping[str, str], keep_file: str | Path | None) -> list[str]:
    """One line where nobody validates, and one where the splits to keep are those of other patients.

    Parameters
    ----------
    split_of : split of every patient
    keep_file : ``cohort.splits.keep_file``
    """
    problems = []
    if VALIDATION not in split_of.values():
        problems.append(
            "cohort.splits: no patient is left for validation, which chooses each arm's best round; "
            "raise validation_fraction or add cases"
        )
    kept = None if keep_file is None else read_kept(keep_file)
    if kept is not None and kept.keys().isdisjoint(split_of):
        problems.append(
            f"{keep_file}: none of its {len(kept)} patients is in the cohort; correct cohort.splits.keep_file or "
            "write null"
        )
    return problems


def check_cohort_files(
    site_index_paths: Iterable[str | Path],
    site_splits_paths: Iterable[str | Path],
    index_path: str | Path,
    splits_path: str | Path,
    left_out_path: str | Path,
    left_out: Mapping[str, int],
    keep_file: str | Path | None,
) -> None:
    """Refuse sites that contradict each other; write all cases, by site and case, and all patients with their split.

    Parameters
    ----------
    left_out : the source's participants by site, of those sites that are none of the study's
    keep_file : ``cohort.splits.keep_file``

    Raises
    ------
    CohortError : names all problems at once
    """
    cases = sorted((case for path in site_index_paths for case in read_cases(path)), key=lambda c: (c.site, c.case))
    splits = sorted((row for path in site_splits_paths for row in read_table(path)), key=lambda row: row["patient"])
    problems = describe_contradictions(cases)
    problems += check_splits({row["patient"]: row["split"] for row in splits}, keep_file)
    if problems:
        raise CohortError(problems)
    rows = ({"site": site, "num_participants": number} for site, number in left_out.items())
    write_table(left_out_path, LEFT_OUT_COLUMNS, rows)
    write_table(splits_path, SPLIT_COLUMNS, splits)
    write_cases(index_path, cases)
