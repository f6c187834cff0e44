"""How much room a run needs on its disk, and refusing one that has not."""

import pytest
from fedpedbrain.base.cases import write_cases
from fedpedbrain.base.errors import StudyError
from fedpedbrain.data.grid.intensity import FLOAT16_INTENSITIES, INTENSITIES, dtype_of_intensity
from fedpedbrain.planning.disk import (
    BYTES_OF_JOB,
    Output,
    Sizes,
    admit,
    bytes_of_intensity,
    estimate_disk,
    measure_model,
    voxels_of_site,
)
from fedpedbrain.study.arms import Arm, build_arms
from fedpedbrain.study.strategy_facts import WITHOUT_EXCHANGE, merged_block

GB = 10**9
ADAMW = {"name": "adamw", "momentum": 0.9}
CHAIN = ("fedavg", "0")


def arm_of(**block) -> Arm:
    defaults = merged_block(WITHOUT_EXCHANGE, {"optimizer_state": "fresh"})
    return build_arms([{"name": "arm", "participants": "sites", **block}], defaults, ["east", "north"], dict)["arm"]


@pytest.mark.parametrize(
    ("block", "update", "state", "server"),
    [
        ({}, 1, 0, 0),
        ({"optimizer_state": "kept"}, 1, 2, 0),
        ({"strategy": {"name": "scaffold"}}, 2, 1, 1),
        ({"strategy": {"name": "fedadam"}, "optimizer_state": "kept"}, 1, 2, 2),
        # A model of its own, and both models' moments.
        ({"strategy": {"name": "ditto"}, "optimizer_state": "kept"}, 1, 5, 0),
        ({"exchange": {"dtype": "int8", "error_feedback": True}}, 0.25, 1, 0),
        ({"privacy": {"secure_sum": True}}, 2, 0, 0),
    ],
)
def test_what_is_sent_and_kept_is_so_many_models(block, update, state, server):
    sizes, arm = Sizes(lambda: 100, ADAMW), arm_of(**block)
    assert (sizes.update(arm), sizes.site_state(arm), sizes.server_state(arm)) == (
        100 * update,
        100 * state,
        100 * server,
    )


@pytest.mark.parametrize(("momentum", "copies"), [(0.9, 1), (0.0, 0)])
def test_plain_sgd_keeps_its_momentum_alone(momentum, copies):
    sizes = Sizes(lambda: 100, {"name": "sgd", "momentum": momentum})
    assert sizes.site_state(arm_of(optimizer_state="kept")) == 100 * copies


def test_a_size_that_is_not_needed_is_not_asked_for():
    def fail():
        raise AssertionError("asked")

    assert Sizes(fail, ADAMW).site_state(arm_of()) == Sizes(fail, ADAMW).server_state(arm_of()) == 0


def test_what_stays_adds_up_less_what_it_replaces(tmp_path):
    (tmp_path / "best.pth").write_bytes(b"x" * 400)
    outputs = [Output("models", str(tmp_path / name), 1000) for name in ("best.pth", "global.pth")]
    needed = estimate_disk([*outputs, Output("cohort", str(tmp_path / "images.npy"), 5000)], num_jobs=2)
    assert needed.bytes_of == {"all else": 2 * BYTES_OF_JOB, "cohort": 5000, "models": 1600}
    assert list(needed.bytes_of) == ["all else", "cohort", "models"]
    assert needed.num_bytes == 2 * BYTES_OF_JOB + 6600


def passing(number: int, chain=CHAIN) -> list[Output]:
    """Two updates of 10 bytes, and 7 bytes that the next round needs, too."""
    updates = [Output("updates", "none", 10, chain, number) for _ in range(2)]
    return [*updates, Output("states", "none", 7, chain, number, outlasts=True)]


def passing_bytes(*rounds: list[Output]) -> float:
    needed = estimate_disk([output for outputs in rounds for output in outputs], 0)
    return needed.bytes_of["what passes between rounds"]


def test_of_what_passes_one_round_counts_with_what_outlasts_the_one_before():
    assert passing_bytes(passing(1)) == 27
    assert passing_bytes(*map(passing, range(1, 100))) == 34
    # Between rounds that are kept nothing is left of the one before.
    assert passing_bytes(passing(2), passing(4)) == 27


def test_arms_and_seeds_may_be_at_their_fullest_at_once():
    assert (
        passing_bytes(*(passing(number, (arm, seed)) for arm in "ab" for seed in "01" for number in (1, 2))) == 4 * 34
    )


def test_a_run_that_fits_is_told_what_it_needs_and_what_is_free():
    needed = estimate_disk([Output("models", "none", 3 * GB), Output("cohort", "none", 0.25 * GB)], 0)
    assert admit(needed, 4 * GB, "/study") == (
        "up to 3.2 GB of disk are needed (models 3.0 GB, cohort 250 MB), 4.0 GB are free"
    )
    assert admit(needed, needed.num_bytes, "/study")


def test_a_run_that_does_not_fit_is_refused_with_what_to_change():
    needed = estimate_disk([Output("models", "none", 3 * GB)], 0)
    with pytest.raises(
        StudyError, match=r"^/study: up to 3\.0 GB .*, 3\.0 GB are free; raise study\.keep_every"
    ) as caught:
        admit(needed, 3 * GB - 1, "/study")
    assert len(str(caught.value).splitlines()) == 1
    assert "--directory" in str(caught.value)


def test_a_models_size_is_that_of_its_weights(spec):
    from fedpedbrain.models.files import ModelSpec

    weights = ModelSpec(**spec).build().state_dict().values()
    assert measure_model(spec) == sum(tensor.nbytes for tensor in weights)


def test_a_network_that_cannot_be_built_is_refused_with_the_reason(spec):
    with pytest.raises(StudyError, match=r"^network: the network cannot be built .*strides"):
        measure_model(spec | {"options": {"channels": [4]}})


FIXED = {"grid": [4, 8, 8], "voxel_spacing_mm": None}
NATIVE = {"grid": None, "voxel_spacing_mm": "native"}
SPACED = {"grid": None, "voxel_spacing_mm": [2.0, 1.0, 1.0]}


@pytest.mark.parametrize(
    ("preprocessing", "unknown", "known"),
    [
        (FIXED, 3 * 256, 3 * 256),
        # From 50 to 200 mm, so 100 mm along each axis, voxels of 1 and of 2 mm³; two cases of 256 voxels of 500 mm³.
        (NATIVE, 3 * 10**6, 2 * 256),
        (SPACED, 3 * 10**6 / 2, 2 * 256 * 250),
    ],
    ids=["fixed", "native", "spacing"],
)
def test_the_voxels_of_a_site_are_known_once_its_cases_are(tmp_path, make_case, preprocessing, unknown, known):
    index = tmp_path / "index.tsv"
    assert voxels_of_site(preprocessing, 3, [50.0, 200.0], index) == pytest.approx(unknown)
    write_cases(index, [make_case("a"), make_case("b")])
    assert voxels_of_site(preprocessing, 3, [50.0, 200.0], index) == known


@pytest.mark.parametrize("name", [*INTENSITIES, *FLOAT16_INTENSITIES])
def test_a_number_of_an_image_takes_the_bytes_of_its_dtype(name):
    intensity = {"name": name}
    assert bytes_of_intensity({"intensity": intensity}) == dtype_of_intensity(intensity).itemsize
