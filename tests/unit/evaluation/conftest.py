"""Simulated studies of the benchmark of intervals and tests; tables of a comparison of scored cases."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from fedpedbrain.base.files import read_table, write_table
from fedpedbrain.evaluation.comparison import compare_arms_files
from fedpedbrain.evaluation.scores import SCORE_COLUMNS
from scored_cases import CLASSES, SETTINGS, TABLES, Scored, Tables

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "coverage.py"


@pytest.fixture(scope="session")
def simulated() -> ModuleType:
    """The benchmark as a module; under its file's name another package is known."""
    spec = spec_from_file_location("simulated_studies", BENCHMARK)
    # Where dataclasses look up their module.
    sys.modules[spec.name] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def compare(tmp_path):
    """Compare arms by their scored cases; sites stand in the order given."""

    def _compare(
        arms: dict[str, list[Scored]],
        sites=("north", "south", "west"),
        classes=CLASSES,
        normal_class="normal",
        trained_on=None,
    ) -> Tables:
        paths = []
        for arm, cases in arms.items():
            for seed in sorted({case.seed for case in cases}):
                rows = [row for case in cases if case.seed == seed for row in case.rows(arm)]
                paths.append(tmp_path / f"{arm}-{seed}.tsv")
                write_table(paths[-1], SCORE_COLUMNS, rows)
        outputs = {name: tmp_path / f"{name}.tsv" for name in TABLES}
        compare_arms_files(
            paths,
            outputs,
            arms={arm: ["north", "south"] for arm in arms} | (trained_on or {}),
            sites=list(sites),
            classes=classes,
            normal_class=normal_class,
            settings=SETTINGS,
        )
        return Tables(**{name: read_table(path) for name, path in outputs.items()})

    return _compare
