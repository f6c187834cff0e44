"""What is scored: the arms, and models made elsewhere beside them."""

import pytest
from fedpedbrain.base.errors import StudyError
from fedpedbrain.study.study import load_study

ELSEWHERE = {"name": "published", "model": "published.pth"}


@pytest.fixture
def load(config, schema_path):
    def _load(*candidates, **reporting):
        config["candidates"] = list(candidates)
        config["reporting"]["video"] |= reporting
        return load_study(config, schema_path)

    return _load


def test_candidates_are_the_arms_and_then_models_made_elsewhere(load):
    study = load(ELSEWHERE)
    assert list(study.candidates) == [*study.arms, "published"]
    assert study.imported_candidates == ["published"]
    assert study.candidate_sites["published"] == []
    assert study.description["candidates"] == [{"name": "published", "model": "published.pth", "sites": []}]
    assert not load().imported_candidates


def plan_of(study, candidate):
    return study.prediction.plan(study.candidates[candidate].mean_of)


FOLDS = {"name": "folds", "models": ["a.pth", "b.pth"], "mean_of": "logits"}


def test_several_models_made_elsewhere_are_one_candidate(load):
    study = load(ELSEWHERE, FOLDS)
    assert study.candidates["folds"].model_paths == ["a.pth", "b.pth"]
    assert plan_of(study, "folds")["mean_of"] == "logits"
    assert {plan_of(study, name)["mean_of"] for name in ("published", "fedavg")} == {"probabilities"}
    assert study.description["candidates"][1]["model"] == "a.pth, b.pth"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "c.pth"}, "'folds' needs either model, a path, or models, a list of paths"),
        ({"models": None, "mean_of": None}, "'folds' needs either model, a path, or models, a list of paths"),
        ({"models": None, "model": "c.pth"}, "'folds' has one model, so there is no mean; remove mean_of"),
    ],
)
def test_a_candidate_has_one_model_or_several(load, changes, message):
    block = {key: value for key, value in (FOLDS | changes).items() if value is not None}
    with pytest.raises(StudyError, match=f"^candidates: {message}"):
        load(block)


def test_a_candidate_changes_no_arm(load):
    plain, study = load(), load(ELSEWHERE)
    assert study.settings_digests == plain.settings_digests
    assert study.arm_choices == plain.arm_choices


def test_of_a_model_made_elsewhere_any_network_may_be_built(load):
    study = load(ELSEWHERE)
    assert "NETWORKS" in {table for table, _ in study.choices_of("fedavg")}
    assert "NETWORKS" not in {table for table, _ in study.choices_of("published")}


def test_the_gallery_may_show_a_candidate(load):
    assert "published" in load(ELSEWHERE, arms=["fedavg", "published"]).video_style["colours"]


def test_a_candidate_by_the_name_of_an_arm_is_refused(load):
    with pytest.raises(StudyError, match=r"^candidates: 'fedavg' is the name of another candidate or arm; rename it"):
        load({"name": "fedavg", "model": "a.pth"})


def test_a_model_that_is_not_there_is_refused(load, tmp_path):
    with pytest.raises(StudyError, match=r"^candidates: no file .+none\.pth; correct the path"):
        load({"name": "published", "model": str(tmp_path / "none.pth")}).check_files()
