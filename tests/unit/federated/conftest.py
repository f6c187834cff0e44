"""An arm's files, before and after their history is recorded."""

import pytest
from arm_history import Study


@pytest.fixture
def study(tmp_path, spec) -> Study:
    return Study(tmp_path, spec)


@pytest.fixture
def recorded(study) -> Study:
    study.record()
    return study
