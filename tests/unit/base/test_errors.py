from fedpedbrain.base.errors import CohortError, StudyError


def test_few_problems_are_all_said_one_a_line():
    assert str(CohortError(["first", "second"])) == "first\nsecond"


def test_many_problems_are_counted_after_the_first_ones():
    error = CohortError([f"problem {number}" for number in range(1, 13)])
    lines = str(error).splitlines()
    assert lines[:10] == [f"problem {number}" for number in range(1, 11)]
    assert lines[10:] == ["... and 2 more problems of this kind"]
    assert len(error.problems) == 12


def test_a_cohort_error_is_a_study_error():
    assert issubclass(CohortError, StudyError)
