"""How the updates of a round are compared."""

import math
from dataclasses import replace

import pytest
import torch
from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import read_table, sha256_of_file
from fedpedbrain.base.lineage import MISSING, AveragedUpdate
from fedpedbrain.federated.exchange.encoding import encode
from fedpedbrain.federated.inspection import InspectionFiles, compare_differences, inspect_updates_files
from fedpedbrain.models.files import ModelFile, load_model_file, save_model_file
from fedpedbrain.study.strategy_facts import WITHOUT_EXCHANGE

PLAIN = WITHOUT_EXCHANGE["exchange"]
ONE, TWO = torch.tensor([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]]), torch.tensor([[0.0, 0.0, 5.0], [0.0, 0.0, 0.0]])


def compare(factors=None, **differences):
    factors = factors or dict.fromkeys(differences, 1.0)
    return compare_differences(lambda site: {"weight": differences[site]}, factors)


def test_lengths_and_angles_of_two_updates_at_right_angles():
    found = compare(one=ONE, two=TWO)
    assert (found["one"].norm, found["two"].norm) == (5.0, 5.0)
    assert found["one"].cosine_to_others == found["two"].cosine_to_others == 0.0
    assert found["one"].cosine_to_mean == pytest.approx(math.sqrt(0.5))


def test_the_mean_counts_sites_by_their_factors():
    # The mean is (3, 4, 5) / sites: with three parts of the first it is nearer to it, 15 of 3 * 25 to 25.
    found = compare({"one": 3.0, "two": 1.0}, one=ONE, two=TWO)
    assert found["one"].cosine_to_mean == pytest.approx(3 / math.sqrt(10))
    assert found["two"].cosine_to_mean == pytest.approx(1 / math.sqrt(10))


def test_all_tensors_of_an_update_count_together():
    parts = {"one": {"a": ONE[0], "b": ONE[1]}, "two": {"a": TWO[0], "b": TWO[1]}}
    assert compare_differences(parts.__getitem__, {"one": 1.0, "two": 1.0}) == compare(one=ONE, two=TWO)


def test_an_update_of_the_wrong_sign_points_away_from_the_others():
    found = compare(one=ONE + TWO, two=ONE + 2 * TWO, wrong=-ONE - TWO)
    assert found["wrong"].cosine_to_others < -0.9
    assert min(found["one"].cosine_to_others, found["two"].cosine_to_others) > -0.1


def test_an_update_that_outweighs_all_is_seen_against_the_others_not_against_the_mean_that_it_makes():
    found = compare(one=ONE, two=ONE + TWO, wrong=-1e9 * ONE)
    assert found["wrong"].norm == 5e9
    assert found["wrong"].cosine_to_mean == pytest.approx(1.0)
    # The others' sum is 2 ONE + TWO, of length 5 sqrt(5).
    assert found["wrong"].cosine_to_others == pytest.approx(-2 / math.sqrt(5), abs=1e-6)


def test_nothing_is_said_of_one_update_or_of_one_that_changes_nothing():
    assert math.isnan(compare(one=ONE)["one"].cosine_to_others)
    found = compare(one=ONE, still=torch.zeros(2, 3))["still"]
    assert found.norm == 0.0
    assert math.isnan(found.cosine_to_mean)
    assert math.isnan(found.cosine_to_others)


class Inspected:
    """A round of real files: each site adds its own number to every parameter, and another one to every buffer."""

    def __init__(self, folder, start):
        self.start, self.folder = load_model_file(start), folder
        self.files = InspectionFiles(start, {}, folder / "global.pth", folder / "inspection.tsv")
        self.averaged = []

    def send(self, site, step, share, exchange=PLAIN, **changes):
        parent = self.start.weights
        weights = {name: tensor + step if tensor.is_floating_point() else tensor for name, tensor in parent.items()}
        tensors, sent, _ = encode(weights, parent, exchange, {})
        lineage = replace(self.start.lineage, kind="update", site=site, num_cases=3, num_steps=2)
        self.files.updates[site] = path = self.folder / f"{site}.pth"
        save_model_file(path, ModelFile(self.start.spec, replace(lineage, **changes), tensors, sent))
        if share is not None:
            self.averaged.append(AveragedUpdate(site, sha256_of_file(path), share))

    def inspect(self, exchange=PLAIN, is_chain=False):
        lineage = replace(self.start.lineage, kind="global", arm="fedavg", round=2, updates=tuple(self.averaged))
        save_model_file(self.files.result, replace(self.start, lineage=lineage))
        inspect_updates_files(self.files, exchange, is_chain)
        return {row["site"]: row for row in read_table(self.files.table)}

    @property
    def unit(self):
        """Length of a difference of 1 in every parameter."""
        return math.sqrt(sum(parameter.numel() for parameter in self.start.spec.build().parameters()))


@pytest.fixture
def inspected(tmp_path, start):
    return Inspected(tmp_path, start)


def test_a_row_a_site_says_what_it_sent(inspected):
    inspected.send("north", 0.5, 0.75)
    inspected.send("south", -0.25, 0.25, num_cases=1)
    rows = inspected.inspect()
    assert list(rows) == ["north", "south"]
    north = rows["north"]
    assert [north[key] for key in ("arm", "seed", "round", "missing")] == ["fedavg", "0", "2", "0"]
    assert [north[key] for key in ("share", "num_cases", "num_steps")] == ["0.75", "3", "2"]
    assert float(north["norm"]) == pytest.approx(0.5 * inspected.unit, rel=1e-5)
    assert float(north["cosine_to_mean"]) == pytest.approx(1.0)
    assert float(rows["south"]["cosine_to_others"]) == pytest.approx(-1.0)
    assert int(north["update_bytes"]) == (inspected.folder / "north.pth").stat().st_size


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_what_travels_in_another_form_is_put_back_first(inspected, dtype):
    exchange = PLAIN | {"dtype": dtype, "content": "difference"}
    inspected.send("north", 0.5, 0.5, exchange)
    inspected.send("south", 0.25, 0.5, exchange)
    assert float(inspected.inspect(exchange)["north"]["norm"]) == pytest.approx(0.5 * inspected.unit, rel=1e-2)


def test_a_missing_site_is_marked_and_counts_nowhere(inspected):
    inspected.send("east", 0.0, None, kind=MISSING)
    inspected.send("north", 0.5, 0.5)
    inspected.send("south", 0.5, 0.5)
    rows = inspected.inspect()
    assert rows["east"]["missing"] == "1"
    assert not any(rows["east"][key] for key in ("share", "num_cases", "norm", "cosine_to_others", "update_bytes"))
    assert float(rows["north"]["cosine_to_others"]) == pytest.approx(1.0)


def test_an_update_that_was_not_taken_counts_nowhere_in_the_mean(inspected):
    for site, step, share in (("east", 0.5, 1.0), ("north", 0.25, 0.0), ("south", -9.0, 0.0)):
        inspected.send(site, step, share)
    rows = inspected.inspect()
    assert [row["share"] for row in rows.values()] == ["1.0", "0.0", "0.0"]
    assert [round(float(row["cosine_to_mean"])) for row in rows.values()] == [1, 1, -1]
    # Beside the only one that was taken there is no mean of others.
    assert rows["east"]["cosine_to_others"] == ""
    assert [round(float(rows[site]["cosine_to_others"])) for site in ("north", "south")] == [1, -1]


def test_in_a_chain_a_site_is_measured_from_the_update_that_it_went_on_from(inspected):
    for site, step, share in (("east", 0.5, 0.0), ("north", 1.0, 0.0), ("south", 0.75, 1.0)):
        inspected.send(site, step, share)
    rows = inspected.inspect(is_chain=True)
    lengths = [float(row["norm"]) / inspected.unit for row in rows.values()]
    assert lengths == pytest.approx([0.5, 0.5, 0.25], rel=1e-5)
    assert [round(float(row["cosine_to_others"])) for row in rows.values()] == [1, 1, -1]


def test_an_update_that_the_round_was_not_made_of_is_refused(inspected):
    inspected.send("north", 0.5, 1.0)
    inspected.averaged[0] = replace(inspected.averaged[0], sha256="0" * 64)
    with pytest.raises(StudyError, match=r"north\.pth: not the update that .*global\.pth was made of"):
        inspected.inspect()


def test_a_masked_update_is_refused(inspected):
    inspected.send("north", 0.5, 1.0)
    path = inspected.files.updates["north"]
    update = load_model_file(path)
    save_model_file(path, replace(update, weights={name: value.long() for name, value in update.weights.items()}))
    inspected.averaged = [AveragedUpdate("north", sha256_of_file(path), 1.0)]
    with pytest.raises(StudyError, match="masked for a secure sum"):
        inspected.inspect()
