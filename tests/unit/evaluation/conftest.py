"""Simulated studies of the benchmark of intervals and tests."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "coverage.py"


@pytest.fixture(scope="session")
def simulated() -> ModuleType:
    """The benchmark as a module; under its file's name another package is known."""
    spec = spec_from_file_location("simulated_studies", BENCHMARK)
    # Where dataclasses look up their module.
    sys.modules[spec.name] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
