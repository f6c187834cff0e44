import json

import pytest
from fedpedbrain.base.errors import StudyError
from fedpedbrain.federated.site_metrics import (
    SiteMetrics,
    read_round_metrics,
    read_site_metrics,
    write_round_metrics,
    write_site_metrics,
)
from round_metrics import make_metrics

TRAINED = make_metrics(update_sha256="ab", state_sha256="cd")
MISSING = SiteMetrics("fedavg", 0, 1, "south", 0, 0, missing=True, update_sha256="ab", state_sha256="cd")
WHO = ["arm", "seed", "round", "site", "num_cases", "num_steps"]
DIGESTS = ["update_bytes", "update_sha256", "state_sha256"]


@pytest.mark.parametrize(
    ("metrics", "keys"),
    [
        (TRAINED, [*WHO, "learning_rate", "epoch_losses", "update_norm", *DIGESTS]),
        (MISSING, [*WHO, "missing", *DIGESTS]),
    ],
    ids=["trained", "missing"],
)
def test_a_sites_metrics_come_back_as_they_were_written(tmp_path, metrics, keys):
    write_site_metrics(tmp_path / "north.json", metrics)
    assert read_site_metrics(tmp_path / "north.json") == metrics
    content = json.loads((tmp_path / "north.json").read_text())
    assert list(content) == keys
    assert content.get("missing") is (True if metrics.missing else None)


def test_the_metrics_of_rounds_come_back_file_by_file(tmp_path):
    paths = [tmp_path / "1.json", tmp_path / "2.json"]
    rounds = [[TRAINED, MISSING], [make_metrics("south", 2)]]
    for path, metrics in zip(paths, rounds, strict=True):
        write_round_metrics(path, metrics)
    assert read_round_metrics(paths) == [*rounds[0], *rounds[1]]


def without(key: str) -> str:
    return json.dumps({name: value for name, value in TRAINED.to_dict().items() if name != key})


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "FileNotFoundError"),
        ("{", "JSONDecodeError"),
        ("[]", "a list"),
        (without("update_norm"), "other keys than arm, seed, .*update_norm"),
        (json.dumps(TRAINED.to_dict() | {"extra": 1}), "other keys than"),
        (json.dumps(MISSING.to_dict() | {"epoch_losses": [1.0]}), "other keys than"),
    ],
    ids=["no file", "no JSON", "a list", "a key too few", "a key too many", "losses of a missing site"],
)
def test_a_file_without_a_sites_metrics_is_refused_by_its_name(tmp_path, content, found):
    path = tmp_path / "north.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(StudyError, match=rf"^{path}: expected the metrics of a round's sites, found none \({found}"):
        read_site_metrics(path)


@pytest.mark.parametrize("content", ["{}", "[7]", f"[{without('site')}]"])
def test_a_file_without_a_rounds_metrics_is_refused_by_its_name(tmp_path, content):
    path = tmp_path / "metrics.json"
    path.write_text(content)
    with pytest.raises(StudyError, match=rf"^{path}: expected the metrics of a round's sites, found none "):
        read_round_metrics([path])
