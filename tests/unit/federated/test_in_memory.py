"""A site's round and a round's averaging in memory: no file between them, and the same bytes as with files."""

import ast
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import sha256_of_file
from fedpedbrain.federated.exchange.secure_sum import make_key_pair
from fedpedbrain.federated.personal import personal_model
from fedpedbrain.federated.rounds import RoundResult, RoundTask, combine_round
from fedpedbrain.federated.site import SiteResult, SiteTask, SumKeys, missing_site, train_site_round
from fedpedbrain.federated.site_files import SiteFiles, train_site_files
from fedpedbrain.federated.state import save_state
from fedpedbrain.models.files import ModelFile, load_model_file, sha256_of_model
from fedpedbrain.training.batches import SiteRound
from memory_dataset import MemoryDataset

CPU = torch.device("cpu")
SCAFFOLD = {"strategy": {"name": "scaffold", "server_learning_rate": 1.0}}
FEDADAM = {"strategy": {"name": "fedadam", "server_learning_rate": 0.1, "beta1": 0.9, "beta2": 0.99, "tau": 1e-3}}
DITTO = {"strategy": {"name": "ditto", "lambda": 0.5}}
EIGHT_BITS = {"exchange": {"dtype": "int8", "content": "difference", "error_feedback": True}}
SECURE = {"privacy": {"secure_sum": True}}


@pytest.fixture
def datasets(site_cases) -> dict[str, MemoryDataset]:
    """Site to its cases, with the arrays that ``write_shard`` makes up."""
    found = {}
    for site, cases in site_cases.items():
        images = np.random.default_rng(len(cases)).integers(0, 256, (len(cases), 1, 4, 8, 8), dtype=np.uint8)
        found[site] = MemoryDataset(cases, images, (images >= 128).astype(np.uint8))
    return found


@pytest.fixture
def first_model(start) -> ModelFile:
    return load_model_file(start)


class Federation:
    """Two sites and a server that hand each other what a round leaves."""

    def __init__(self, datasets, start: ModelFile, make_plan, make_round_plan, block, broadcasts=False) -> None:
        self.datasets, self.model, self.block, self.broadcasts = datasets, start, block, broadcasts
        self.make_plan, self.make_round_plan = make_plan, make_round_plan
        self.server_state, self.states, self.round = None, {}, 0

    def task_of(self, site: str, keys: SumKeys | None = None) -> SiteTask:
        """What a site's next round continues from."""
        work, plan = SiteRound("fedavg", 0, self.round + 1, site), self.make_plan(self.round + 1, True, self.block)
        server_state = self.server_state if self.broadcasts else None
        sha256 = sha256_of_model(self.model)
        return SiteTask(work, plan, self.model, sha256, self.states.get(site), server_state, keys)

    def train(self, keys=None) -> dict[str, SiteResult]:
        """Both sites' next round."""
        tasks = {site: self.task_of(site, keys and keys[site]) for site in self.datasets}
        return {site: train_site_round(task, self.datasets[site], CPU) for site, task in tasks.items()}

    def round_task(self, sites: dict[str, SiteResult], **changes) -> RoundTask:
        """What the averaging of their updates works with."""
        digests = {site: sha256_of_model(done.update, packed=True) for site, done in sites.items()}
        values = {
            "plan": self.make_round_plan(self.block),
            "updates": {site: done.update for site, done in sites.items()},
            "sha256_of": digests,
            "metrics": {site: replace(done.metrics, update_sha256=digests[site]) for site, done in sites.items()},
            "state": self.server_state,
        }
        owner = {"arm": "fedavg", "seed": 0, "round": self.round + 1}
        return RoundTask(**owner, parent=self.model, parent_sha256=sha256_of_model(self.model), **(values | changes))

    def go_on(self, sites: dict[str, SiteResult]) -> RoundResult:
        """Average, and hand on what the round leaves."""
        done = combine_round(self.round_task(sites))
        self.model, self.server_state, self.round = done.model, done.state, self.round + 1
        self.states = {site: result.state for site, result in sites.items()}
        return done


@pytest.fixture
def in_memory(datasets, first_model, make_plan, make_round_plan):
    """``in_memory(block, broadcasts)``: a federation that has not begun."""
    return lambda block, broadcasts=False: Federation(
        datasets, first_model, make_plan, make_round_plan, block, broadcasts
    )


def same_tensors(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("block", "broadcasts"),
    [({}, False), (SCAFFOLD, True), (FEDADAM, False), (DITTO, False), (EIGHT_BITS, False)],
    ids=["fedavg", "scaffold", "fedadam", "ditto", "eight bits"],
)
def test_rounds_in_memory_give_the_bytes_of_rounds_in_files(federation, in_memory, tmp_path, block, broadcasts):
    memory = in_memory(block, broadcasts)
    for number, files in enumerate(federation("files", block, 2, broadcasts=broadcasts), start=1):
        sites = memory.train()
        for site, done in sites.items():
            assert sha256_of_model(done.update, packed=True) == sha256_of_file(files.sites[site].update)
            save_state(tmp_path / "state.pth", done.state)
            assert (tmp_path / "state.pth").read_bytes() == files.sites[site].state.read_bytes(), (number, site)
        done = memory.go_on(sites)
        assert sha256_of_model(done.model) == sha256_of_file(files.result)
        save_state(tmp_path / "server.pth", done.state)
        assert (tmp_path / "server.pth").read_bytes() == files.state.read_bytes(), number


@pytest.mark.parametrize(
    ("block", "broadcasts"), [(SCAFFOLD, True), (FEDADAM, False), (DITTO, False)], ids=["scaffold", "fedadam", "ditto"]
)
def test_a_round_changes_nothing_of_what_it_was_given(in_memory, block, broadcasts):
    memory = in_memory(block, broadcasts)
    memory.go_on(memory.train())
    first, again = memory.train(), memory.train()
    for site in first:
        assert sha256_of_model(first[site].update) == sha256_of_model(again[site].update)
        assert str(first[site].state) == str(again[site].state)
    task = memory.round_task(first)
    assert sha256_of_model(combine_round(task).model) == sha256_of_model(combine_round(task).model)


def test_a_server_that_broadcasts_changes_its_sites_second_round(in_memory):
    found = []
    for broadcasts in (True, False):
        memory = in_memory(SCAFFOLD, broadcasts)
        memory.go_on(memory.train())
        assert memory.server_state.kept["control"]
        found.append(memory.train()["north"].update.weights)
    assert not same_tensors(*found)


def test_a_personal_strategy_leaves_each_site_weights_of_its_own(in_memory):
    memory = in_memory(DITTO)
    done = memory.go_on(memory.train())
    models = {site: personal_model(done.model, state, "parent") for site, state in memory.states.items()}
    assert not same_tensors(models["north"].weights, models["south"].weights)
    assert {site: model.lineage.site for site, model in models.items()} == {"north": "north", "south": "south"}


@pytest.fixture
def sum_keys() -> dict[str, SumKeys]:
    pairs = {site: make_key_pair() for site in ("north", "south")}
    public = {site: pair[1] for site, pair in pairs.items()}
    return {site: SumKeys(pair[0], public) for site, pair in pairs.items()}


def test_a_secure_sum_is_the_plain_mean_to_the_fixed_point_step(in_memory, sum_keys):
    secure, plain = in_memory(SECURE), in_memory({})
    masked = secure.train(sum_keys)
    assert {tensor.dtype for tensor in masked["north"].update.weights.values()} == {torch.int64}
    found, expected = secure.go_on(masked).model.weights, plain.go_on(plain.train()).model.weights
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=2e-7, atol=2.0**-24)


def test_a_masked_update_is_that_of_the_files(in_memory, sum_keys, tmp_path, start, site_cases, write_shard, make_plan):
    masked = in_memory(SECURE).train(sum_keys)["north"].update
    keys = sum_keys["north"]
    for name, key in {"secret": keys.secret, **keys.public}.items():
        (tmp_path / name).write_bytes(key)
    files = SiteFiles(
        start,
        [write_shard(tmp_path / "shard", site_cases["north"])],
        *(tmp_path / name for name in ("update.pth", "state.pth", "metrics.json")),
        secret_key=tmp_path / "secret",
        public_keys={site: tmp_path / site for site in keys.public},
    )
    train_site_files(files, SiteRound("fedavg", 0, 1, "north"), make_plan(1, True, SECURE), CPU)
    assert sha256_of_model(masked, packed=True) == sha256_of_file(tmp_path / "update.pth")


def test_a_secure_sum_without_keys_is_refused(in_memory):
    with pytest.raises(StudyError, match="arm fedavg, site north, round 1: expected the site's keys of a secure sum"):
        in_memory(SECURE).train()


# A site that is missing.


def test_a_missing_site_keeps_its_state_and_the_round_goes_on(in_memory):
    memory = in_memory({})
    memory.go_on(memory.train())
    sites = memory.train() | {"south": missing_site(memory.task_of("south"))}
    assert str(sites["south"].state) == str(replace(memory.states["south"], round=2))
    assert sites["south"].metrics.missing
    plan = replace(memory.make_round_plan({}), allows_missing_sites=True)
    done = combine_round(memory.round_task(sites, plan=plan))
    assert same_tensors(done.model.weights, sites["north"].update.weights)
    assert [(update.site, update.weight) for update in done.model.lineage.updates] == [("north", 1.0)]


# What is refused.


def test_a_start_of_another_round_is_refused_by_site_and_round(in_memory):
    task = in_memory({}).task_of("north")
    later = replace(
        task, work=replace(task.work, round=2), plan=replace(task.plan, start=task.plan.start | {"rounds": [1]})
    )
    with pytest.raises(
        StudyError, match=r"^arm fedavg, site north, round 2, start: expected seed 0 and round 1, found"
    ):
        missing_site(later)


def test_a_state_of_another_site_is_refused_by_site_and_round(in_memory, datasets):
    memory = in_memory({})
    memory.go_on(memory.train())
    task = replace(memory.task_of("north"), state=memory.states["south"])
    with pytest.raises(
        StudyError, match=r"^arm fedavg, site north, round 2, state: expected the state of site 'north'"
    ):
        train_site_round(task, datasets["north"], CPU)


def test_an_update_that_changed_on_its_way_is_refused_before_anything_else_of_it(in_memory):
    memory = in_memory({})
    sites = memory.train()
    broken = replace(sites["south"].update, weights={})
    task = memory.round_task(sites | {"south": replace(sites["south"], update=broken)})
    stated = replace(task.metrics["south"], update_sha256=sha256_of_model(sites["south"].update, packed=True))
    with pytest.raises(StudyError, match="arm fedavg, round 1, update of site south: damaged, or not the site's"):
        combine_round(replace(task, metrics=task.metrics | {"south": stated}))


def test_a_servers_state_of_another_round_is_refused(in_memory):
    memory = in_memory({})
    memory.go_on(memory.train())
    task = memory.round_task(memory.train())
    with pytest.raises(StudyError, match="state of the server: expected the state of round 1, found 7"):
        combine_round(replace(task, state=replace(task.state, round=7)))


# What computes opens no file.


def names_in(path: Path) -> set[str]:
    """Modules and names that a module imports, and what it calls by name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found |= {node.module, *(alias.name for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Name):
            found.add(node.id)
    return found


@pytest.mark.parametrize(("module", "with_files"), [("site.py", "site_files.py"), ("rounds.py", "round_files.py")])
def test_what_computes_a_round_opens_no_file(repository, module, with_files):
    folder = repository / "pkg" / "fedpedbrain" / "federated"
    forbidden = {"pathlib", "Path", "os", "open", "load_model_file", "save_model_file", "load_state", "save_state"}
    assert not names_in(folder / module) & forbidden
    assert {"Path", "load_model_file"} <= names_in(folder / with_files)


# The documentation's example.


def test_the_documented_example_gives_the_weights_of_the_files(
    repository, federation, datasets, first_model, make_plan, make_round_plan
):
    page = (repository / "docs" / "reference" / "calling-a-round.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.+?)```", page, re.DOTALL)
    assert len(example.splitlines()) <= 20
    plans = {site: make_plan(1, True) for site in datasets}
    names = {"start": first_model, "datasets": datasets, "site_plans": plans, "round_plan": make_round_plan({})}
    exec(example, names)
    (files,) = federation("files", {})
    assert sha256_of_model(names["done"].model) == sha256_of_file(files.result)
    assert names["states"].keys() == datasets.keys()
