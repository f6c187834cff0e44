import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import sha256_of_file
from fedpedbrain.base.lineage import AveragedUpdate, Lineage
from fedpedbrain.federated.exchange.updates import WEIGHTINGS
from fedpedbrain.federated.round_files import RoundFiles, aggregate_round_files
from fedpedbrain.federated.rounds import RoundPlan
from fedpedbrain.federated.site_metrics import write_site_metrics
from fedpedbrain.models.files import (
    ModelFile,
    ModelSpec,
    load_model_file,
    load_tensors,
    save_model_file,
    save_tensors,
)
from fedpedbrain.study.strategy_facts import WITHOUT_EXCHANGE
from round_metrics import make_metrics


class Exchange:
    """Round 2 of the arm fedavg: a parent, updates of north (3 cases) and south (1 case), and what comes of them."""

    def __init__(self, folder: Path, spec: dict) -> None:
        self.spec = ModelSpec(**spec)
        self.parent = folder / "parent.pth"
        self.updates = {site: folder / f"{site}.pth" for site in ("south", "north")}
        self.result, self.new_state, self.state = folder / "global.pth", folder / "server.pth", None
        # Digests of their updates that sites state, where these are not the true ones.
        self.stated = {}
        self.arm = {key: WITHOUT_EXCHANGE[key] for key in ("strategy", "exchange", "privacy")}
        lineage = Lineage("global", "fedavg", 0, 1, "", 4, 8, "digest", "grandparent")
        save_model_file(self.parent, ModelFile(self.spec, lineage, self.weights(0.0, 0.0)))
        self.send("north", self.weights(4.0, 8.0, steps=6), num_cases=3, num_steps=2)
        self.send("south", self.weights(0.0, 4.0, steps=9), num_cases=1, num_steps=2)

    def weights(self, *values: float, steps: int = 5) -> dict[str, torch.Tensor]:
        return {"weight": torch.tensor(values), "steps": torch.tensor(steps)}

    def send(self, sender: str, weights: dict[str, torch.Tensor], **changes) -> None:
        """Write an update whose lineage fits but for the changes."""
        lineage = Lineage("update", "fedavg", 0, 2, sender, 1, 1, "digest", sha256_of_file(self.parent), "cases")
        save_model_file(self.updates[sender], ModelFile(self.spec, replace(lineage, **changes), weights))

    def send_alike(self, values: dict[str, float]) -> None:
        """Write an update of every site, of one parameter of the network that has the site's value throughout."""
        name, tensor = next(iter(self.spec.build().state_dict().items()))
        parent = load_model_file(self.parent)
        save_model_file(self.parent, replace(parent, weights={name: torch.zeros_like(tensor)}))
        for num_cases, (site, value) in enumerate(values.items(), start=1):
            self.updates[site] = self.parent.with_name(f"{site}.pth")
            self.send(site, {name: torch.full_like(tensor, value)}, num_cases=num_cases)

    def aggregate(
        self,
        weighting="cases",
        num_sites=2,
        is_chain=False,
        minimum_sites=1,
        allows_missing_sites=False,
        momentum=0.0,
        **arm,
    ) -> ModelFile:
        arm = self.arm | {"weighting": weighting} | arm
        plan = RoundPlan(arm, "digest", num_sites, is_chain, minimum_sites, allows_missing_sites, momentum)
        metrics = {site: path.with_suffix(".json") for site, path in self.updates.items()}
        for site, path in metrics.items():
            sha256 = self.stated.get(site) or sha256_of_file(self.updates[site])
            write_site_metrics(path, make_metrics(site, 2, update_sha256=sha256))
        notes = (self.result.with_suffix(suffix) for suffix in (".json", ".metrics"))
        files = RoundFiles(self.parent, self.updates, metrics, self.result, self.new_state, *notes, self.state)
        aggregate_round_files(files, "fedavg", 0, 2, plan)
        return load_model_file(self.result)


@pytest.fixture
def exchange(tmp_path, spec) -> Exchange:
    return Exchange(tmp_path, spec)


def test_sites_count_by_their_number_of_cases(exchange):
    # Three parts of (4, 8) and one of (0, 4).
    assert exchange.aggregate("cases").weights["weight"].tolist() == [3.0, 7.0]


def test_sites_count_by_their_number_of_steps(exchange):
    exchange.send("south", exchange.weights(0.0, 4.0), num_cases=100, num_steps=6)
    assert exchange.aggregate("steps").weights["weight"].tolist() == [1.0, 5.0]


def test_sites_count_alike(exchange):
    assert exchange.aggregate("uniform").weights["weight"].tolist() == [2.0, 6.0]


def test_the_configs_words_are_the_weightings(schema_path):
    schema = yaml.safe_load(schema_path.read_text())
    assert set(schema["$defs"]["weighting"]["enum"]) == set(WEIGHTINGS)


def test_a_counter_takes_the_largest(exchange):
    assert exchange.aggregate().weights["steps"].item() == 9


def test_the_result_states_what_it_was_averaged_from(exchange):
    found = exchange.aggregate().lineage
    assert (found.kind, found.arm, found.seed, found.round, found.site) == ("global", "fedavg", 0, 2, "")
    assert (found.num_cases, found.num_steps) == (4, 4)
    assert found.settings_digest == "digest"
    assert found.parent_sha256 == sha256_of_file(exchange.parent)
    assert found.updates == (
        AveragedUpdate("north", sha256_of_file(exchange.updates["north"]), 0.75),
        AveragedUpdate("south", sha256_of_file(exchange.updates["south"]), 0.25),
    )


def test_the_round_keeps_what_its_sites_noted(exchange):
    exchange.aggregate()
    noted = [json.loads(exchange.updates[site].with_suffix(".json").read_text()) for site in ("north", "south")]
    assert json.loads(exchange.result.with_suffix(".metrics").read_text()) == noted
    assert [item["update_sha256"] for item in noted] == [
        sha256_of_file(exchange.updates[site]) for site in ("north", "south")
    ]


@pytest.mark.parametrize(
    "strategy", [{"name": "median"}, {"name": "trimmed_mean", "trim_fraction": 0.4}], ids=["median", "trimmed_mean"]
)
def test_where_sites_count_alike_the_result_says_so(exchange, strategy):
    exchange.send_alike({"north": 4.0, "south": 0.0, "west": 0.5})
    found = exchange.aggregate(strategy=strategy).lineage.updates
    assert {update.site: update.weight for update in found} == dict.fromkeys(("north", "south", "west"), 1 / 3)


@pytest.mark.parametrize(("num_selected", "weights"), [(1, [0.0, 1.0, 0.0]), (2, [0.0, 0.5, 0.5])])
def test_the_result_says_which_updates_krum_took(exchange, num_selected, weights):
    exchange.send_alike({"north": 4.0, "south": 0.0, "west": 0.5})
    krum = {"name": "krum", "num_byzantine": 0, "num_selected": num_selected}
    found = exchange.aggregate(strategy=krum).lineage.updates
    assert {update.site: update.weight for update in found} == dict(
        zip(("north", "south", "west"), weights, strict=True)
    )


def test_the_result_keeps_the_parents_network(exchange):
    assert exchange.aggregate().spec == exchange.spec


@pytest.mark.parametrize("num_cases", [1, 30])
def test_a_lone_update_is_the_global_model(exchange, num_cases):
    del exchange.updates["south"]
    exchange.send("north", exchange.weights(4.0, 8.0), num_cases=num_cases)
    weights = exchange.aggregate().weights
    sent = load_model_file(exchange.updates["north"]).weights
    assert all(torch.equal(weights[name], tensor) for name, tensor in sent.items())


def test_the_order_of_the_updates_does_not_change_a_byte(exchange):
    exchange.aggregate()
    first = exchange.result.read_bytes()
    exchange.updates = dict(sorted(exchange.updates.items()))
    exchange.aggregate()
    assert exchange.result.read_bytes() == first


def test_a_site_of_no_cases_adds_nothing(exchange):
    exchange.send("south", exchange.weights(1000.0, 1000.0), num_cases=0)
    assert exchange.aggregate().weights["weight"].tolist() == [4.0, 8.0]


# Sites that are missing.


def mark_missing(exchange: Exchange, sender: str, **changes) -> None:
    lineage = Lineage("missing", "fedavg", 0, 2, sender, 0, 0, "digest", sha256_of_file(exchange.parent))
    save_model_file(exchange.updates[sender], ModelFile(exchange.spec, replace(lineage, **changes), {}))


def test_a_round_goes_on_without_a_site_that_may_be_missing(exchange):
    mark_missing(exchange, "south")
    found = exchange.aggregate(allows_missing_sites=True)
    assert found.weights["weight"].tolist() == [4.0, 8.0]
    assert [(update.site, update.weight) for update in found.lineage.updates] == [("north", 1.0)]
    assert found.lineage.num_cases == 3


def test_a_site_that_may_not_be_missing_is_refused(exchange):
    mark_missing(exchange, "south")
    assert_refused(exchange, "expected kind 'update', found 'missing'")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("arm", "fedprox"),
        ("seed", 1),
        ("round", 1),
        ("site", "north"),
        ("settings_digest", "another"),
        ("parent_sha256", "00ff"),
    ],
)
def test_a_site_that_was_missing_elsewhere_is_refused(exchange, field, value):
    mark_missing(exchange, "south", **{field: value})
    assert_refused(exchange, f"expected {field} .*, found {value!r}; delete", allows_missing_sites=True)


def test_a_round_of_too_few_sites_is_refused(exchange):
    mark_missing(exchange, "south")
    with pytest.raises(StudyError, match="arm fedavg, round 2: 1 of at least 2 sites sent an update"):
        exchange.aggregate(allows_missing_sites=True, minimum_sites=2)
    assert not exchange.result.exists()


# The server's state.


def test_the_servers_state_goes_from_round_to_round(exchange):
    settings = {"strategy": {"name": "fedavgm", "server_learning_rate": 1.0, "momentum": 0.5}}
    parent = load_model_file(exchange.parent)
    # A real parameter: the server's optimizer steps along parameters alone.
    name, tensor = next(iter(parent.spec.build().state_dict().items()))
    save_model_file(exchange.parent, replace(parent, weights={name: torch.zeros_like(tensor)}))
    for site in ("north", "south"):
        exchange.send(site, {name: torch.ones_like(tensor)})
    assert exchange.aggregate(**settings).weights[name].unique().tolist() == [1.0]
    state = load_tensors(exchange.new_state)
    assert state["round"] == 2
    exchange.state = exchange.new_state.with_name("before.pth")
    save_tensors(exchange.state, state | {"round": 1})
    assert exchange.aggregate(**settings).weights[name].unique().tolist() == [1.5]


def test_a_servers_state_of_another_round_is_refused(exchange):
    exchange.aggregate()
    exchange.state = exchange.new_state
    with pytest.raises(StudyError, match=r"server\.pth: expected the state of round 1, found 2"):
        exchange.aggregate()


def test_fednova_gets_the_momentum_of_the_plan(exchange):
    name, tensor = next(iter(exchange.spec.build().state_dict().items()))
    parent = load_model_file(exchange.parent)
    save_model_file(exchange.parent, replace(parent, weights={name: torch.zeros_like(tensor)}))
    # As far as one step and two with momentum 0.5 go along gradients of 1.
    for site, num_steps, value in (("north", 1, 1.0), ("south", 2, 2.5)):
        exchange.send(site, {name: torch.full_like(tensor, value)}, num_steps=num_steps)
    found = exchange.aggregate("uniform", momentum=0.5, strategy={"name": "fednova"})
    assert found.weights[name].unique().tolist() == [1.75]


# A chain of sites.


def test_in_a_chain_every_site_goes_on_from_the_one_before(exchange):
    north = sha256_of_file(exchange.updates["north"])
    exchange.send("south", exchange.weights(0.0, 4.0), parent_sha256=north)
    found = exchange.aggregate(is_chain=True, strategy={"name": "cyclic"})
    assert found.weights["weight"].tolist() == [0.0, 4.0]
    assert {update.site: update.weight for update in found.lineage.updates} == {"north": 0.0, "south": 1.0}


def test_a_broken_chain_is_refused(exchange):
    with pytest.raises(StudyError, match="update of site south: expected parent_sha256"):
        exchange.aggregate(is_chain=True, strategy={"name": "cyclic"})


# Half precision.


def test_updates_of_the_agreed_dtype_are_decoded(exchange):
    form = {"dtype": "bfloat16", "content": "difference", "error_feedback": False}
    parent = load_model_file(exchange.parent)
    save_model_file(exchange.parent, replace(parent, weights=exchange.weights(1.0, 2.0)))
    for site, values in (("north", (4.0, 8.0)), ("south", (0.0, 4.0))):
        difference = exchange.weights(*values) | {"weight": torch.tensor(values).bfloat16()}
        exchange.send(site, difference, num_cases=1)
    assert exchange.aggregate(exchange=form).weights["weight"].tolist() == [3.0, 8.0]


def test_whole_weights_where_halves_were_agreed_are_refused(exchange):
    form = {"dtype": "bfloat16", "content": "weights", "error_feedback": False}
    with pytest.raises(StudyError, match=r"update of site north: weight expected \(2,\) torch\.bfloat16, found"):
        exchange.aggregate(exchange=form)


# What is refused. Each test changes one thing of the update of south.


def assert_refused(exchange: Exchange, match: str, **arm) -> None:
    with pytest.raises(StudyError, match=match) as caught:
        exchange.aggregate(**arm)
    message = str(caught.value)
    assert "arm fedavg" in message
    assert "round 2" in message
    assert "site south" in message
    assert not exchange.result.exists()


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("kind", "global", "'update'"),
        ("arm", "fedprox", "'fedavg'"),
        ("seed", 1, "0"),
        ("round", 1, "2"),
        ("site", "north", "'south'"),
        ("settings_digest", "another", "'digest'"),
        ("parent_sha256", "00ff", "'[0-9a-f]{64}'"),
    ],
)
def test_an_update_of_another_history_is_refused(exchange, field, value, wanted):
    exchange.send("south", exchange.weights(0.0, 4.0), **{field: value})
    assert_refused(exchange, f"expected {field} {wanted}, found {value!r}; delete the update and run again")


def test_an_update_of_a_parent_that_was_trained_again_is_refused(exchange):
    parent = load_model_file(exchange.parent)
    save_model_file(exchange.parent, replace(parent, weights=exchange.weights(1.0, 0.0)))
    exchange.send("north", exchange.weights(0.0, 4.0))
    assert_refused(exchange, "expected parent_sha256 ")


def test_a_missing_key_is_refused_by_name(exchange):
    exchange.send("south", {"weight": torch.zeros(2)})
    assert_refused(exchange, r"1 keys missing \(steps\), 0 keys unexpected \(none\)")


def test_an_extra_key_is_refused_by_name(exchange):
    exchange.send("south", exchange.weights(0.0, 4.0) | {"bias": torch.zeros(2)})
    assert_refused(exchange, r"0 keys missing \(none\), 1 keys unexpected \(bias\)")


def test_another_shape_is_refused_with_both(exchange):
    exchange.send("south", exchange.weights(0.0, 4.0, 1.0))
    assert_refused(exchange, r"weight expected \(2,\) torch\.float32, found \(3,\) torch\.float32")


def test_another_dtype_is_refused_with_both(exchange):
    weights = exchange.weights(0.0, 4.0)
    exchange.send("south", weights | {"weight": weights["weight"].half()})
    assert_refused(exchange, r"weight expected \(2,\) torch\.float32, found \(2,\) torch\.float16")


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9, 0.999])
def test_an_update_of_which_one_bit_changed_on_its_way_is_refused(exchange, place):
    path = exchange.updates["south"]
    exchange.stated["south"] = sha256_of_file(path)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    assert_refused(exchange, "damaged, or not the site's: expected SHA-256 [0-9a-f]{12}, found [0-9a-f]{12} of .*south")


def test_what_a_strategy_sends_beside_weights_is_checked_too(exchange):
    send_beside(exchange, lambda tensor: {"control_change": {NAME: torch.full_like(tensor, float("nan"))}})
    exchange.arm["strategy"] = SCAFFOLD
    assert_refused(exchange, f"{NAME} of the control_change holds NaN or infinite values")


# A parameter of the network, with the rows that int8 needs.
NAME = "segmentation_head.weight"
SCAFFOLD = {"name": "scaffold", "server_learning_rate": 1.0}
INT8 = {"dtype": "int8", "content": "difference", "error_feedback": False}


def send_beside(exchange: Exchange, beside_of, dtype: torch.dtype = torch.float32) -> None:
    """Have both sites send one parameter, north with what belongs beside it, south with what ``beside_of`` makes."""
    tensor = torch.ones_like(exchange.spec.build().state_dict()[NAME])
    parent = load_model_file(exchange.parent)
    save_model_file(exchange.parent, replace(parent, weights={NAME: torch.zeros_like(tensor)}))
    right = {"scales": {NAME: torch.ones(len(tensor))}} if dtype == torch.int8 else {"control_change": {NAME: tensor}}
    for site, beside in (("north", right), ("south", beside_of(tensor))):
        exchange.send(site, {NAME: torch.ones_like(tensor).to(dtype)})
        update = load_model_file(exchange.updates[site])
        save_model_file(exchange.updates[site], replace(update, sent=beside))


def test_a_strategy_gets_what_its_sites_send_beside_weights(exchange):
    send_beside(exchange, lambda tensor: {"control_change": {NAME: tensor}})
    found = exchange.aggregate(strategy=SCAFFOLD)
    assert found.weights[NAME].unique().tolist() == [1.0]
    assert load_tensors(exchange.new_state)["kept"]["control"][NAME].unique().tolist() == [1.0]


@pytest.mark.parametrize(
    ("beside_of", "match"),
    [
        (lambda tensor: {}, r"beside the weights: 1 keys missing \(control_change\), 0 keys unexpected \(none\)"),
        (lambda tensor: {"control": {NAME: tensor}, "control_change": {NAME: tensor}}, r"unexpected \(control\)"),
        (lambda tensor: {"control_change": {}}, rf"control_change: 1 keys missing \({NAME}\)"),
        (lambda tensor: {"control_change": {NAME: tensor, "bias": tensor}}, r"1 keys unexpected \(bias\)"),
        # One number would be spread over all elements.
        (lambda tensor: {"control_change": {NAME: torch.zeros(1)}}, rf"change: {NAME} expected .*, found \(1,\)"),
        (lambda tensor: {"control_change": {NAME: tensor.double()}}, r"expected .* torch\.float32, found .*float64"),
    ],
    ids=["no group", "another group", "no key", "another key", "another shape", "another dtype"],
)
def test_what_belongs_beside_the_weights_must_be_there_and_fit(exchange, beside_of, match):
    send_beside(exchange, beside_of)
    exchange.arm["strategy"] = SCAFFOLD
    assert_refused(exchange, match)


def test_a_strategy_that_sends_weights_alone_refuses_anything_beside_them(exchange):
    send_beside(exchange, lambda tensor: {"control_change": {NAME: tensor}})
    match = r"north, beside the weights: 0 keys missing \(none\), 1 keys unexpected \(control_change\); delete the"
    with pytest.raises(StudyError, match=match):
        exchange.aggregate()


@pytest.mark.parametrize(
    ("beside_of", "match"),
    [
        (lambda tensor: {}, r"beside the weights: 1 keys missing \(scales\)"),
        (lambda tensor: {"scales": {}}, rf"scales: 1 keys missing \({NAME}\)"),
        (
            lambda tensor: {"scales": {NAME: torch.ones(len(tensor) + 1)}},
            rf"scales: {NAME} expected \(4,\) .*, found \(5,\)",
        ),
    ],
    ids=["no scales", "no scale", "another shape"],
)
def test_every_tensor_of_eight_bits_needs_its_scales(exchange, beside_of, match):
    send_beside(exchange, beside_of, torch.int8)
    exchange.arm["exchange"] = INT8
    assert_refused(exchange, match)


def test_an_update_with_code_in_it_is_refused(exchange):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({"format": 1, "model": Evil()}, exchange.updates["south"])
    with pytest.raises(StudyError, match=r"south\.pth: holds more than tensors and plain values"):
        exchange.aggregate()
    assert not exchange.result.exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_no_number_is_refused(exchange, value):
    exchange.send("south", exchange.weights(0.0, value))
    assert_refused(exchange, "weight of the weights holds NaN or infinite values")


def test_a_negative_number_of_cases_is_refused(exchange):
    exchange.send("south", exchange.weights(0.0, 4.0), num_cases=-2)
    assert_refused(exchange, "num_cases")


def test_a_damaged_update_is_refused_by_its_files_name(exchange):
    path = exchange.updates["south"]
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(StudyError, match=r"south\.pth: "):
        exchange.aggregate()
    assert not exchange.result.exists()


@pytest.mark.parametrize(("weighting", "field"), [("cases", "num_cases"), ("steps", "num_steps")])
def test_updates_that_weigh_nothing_together_are_refused(exchange, weighting, field):
    for site in ("north", "south"):
        exchange.send(site, exchange.weights(0.0, 4.0), **{field: 0})
    with pytest.raises(StudyError, match="arm fedavg, round 2: all updates weigh nothing"):
        exchange.aggregate(weighting)
    assert not exchange.result.exists()


def test_a_refused_round_leaves_the_earlier_global_model(exchange):
    exchange.aggregate()
    before = exchange.result.read_bytes()
    exchange.send("south", exchange.weights(0.0, float("nan")))
    with pytest.raises(StudyError):
        exchange.aggregate()
    assert exchange.result.read_bytes() == before
