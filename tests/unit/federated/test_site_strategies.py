"""What an arm's settings change in a site's round and in the exchange after it, on a network that really trains."""

import json
from pathlib import Path

import pytest
import torch
from fedpedbrain.base.cases import Shard
from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import sha256_of_file
from fedpedbrain.federated.exchange.secure_sum import make_key_files
from fedpedbrain.federated.personal import load_model_of_site, personalize_model_files
from fedpedbrain.federated.round_files import RoundFiles, aggregate_round_files
from fedpedbrain.federated.rounds import RoundPlan
from fedpedbrain.federated.site_files import SiteFiles, train_site_files
from fedpedbrain.federated.state import ServerState, SiteState, load_state
from fedpedbrain.models.files import load_model_file
from fedpedbrain.models.pretrained import initialize_model_files
from fedpedbrain.study.strategy_facts import WITHOUT_EXCHANGE
from fedpedbrain.training.batches import SiteRound

SITES = ("north", "south")


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return load_model_file(path).weights


def same(first: Path, second: Path) -> bool:
    one, other = weights_of(first), weights_of(second)
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


# Reductions.


def test_fedprox_without_pull_is_fedavg(federation):
    plain, prox = federation("plain", {}, 2), federation("prox", {"strategy": {"name": "fedprox", "mu": 0.0}}, 2)
    assert same(plain[-1].result, prox[-1].result)


def test_fedprox_stays_nearer_to_the_start(federation, start):
    plain, prox = federation("plain", {}), federation("prox", {"strategy": {"name": "fedprox", "mu": 10.0}})
    norms = [json.loads(rounds[0].sites["north"].metrics.read_text())["update_norm"] for rounds in (plain, prox)]
    assert norms[1] < norms[0]


SCAFFOLD = {"strategy": {"name": "scaffold", "server_learning_rate": 1.0}}


def test_scaffolds_first_round_is_fedavg_and_its_second_is_not(federation):
    plain, scaffold = federation("plain", {}, 2), federation("scaffold", SCAFFOLD, 2, broadcasts=True)
    assert same(plain[0].result, scaffold[0].result)
    assert not same(plain[1].result, scaffold[1].result)


def test_feddyns_first_update_is_that_of_fedprox(federation):
    prox = federation("prox", {"strategy": {"name": "fedprox", "mu": 0.5}})
    dyn = federation("dyn", {"strategy": {"name": "feddyn", "alpha": 0.5}})
    assert same(prox[0].sites["north"].update, dyn[0].sites["north"].update)


def test_centralized_training_on_one_site_is_a_federation_of_that_site_step_for_step(
    federation, train, make_global, settings, start, spec
):
    # Whatever is drawn: the order of the cases, their augmentation and what dropout leaves out.
    spec["options"]["dropout"] = 0.5
    initialize_model_files(start, spec, 0, 7, None, {})
    alone = federation("alone", {}, 3, sites=["north"])
    folder = alone[0].sites["north"].update.parent / "shard-north"
    shard = Shard(folder, folder / "cases.tsv")
    pooled = {"arm": "centralized", "site": "pooled", "plan": {"cases_of": ["north"]}}
    update, state = None, None
    for number in (1, 2, 3):
        options = {} if update is None else {"start": make_global(update, f"global-{number}.pth")}
        done = train("central", shards=[shard], round_number=number, state=state, keep=True, **pooled, **options)
        update, state = done.update, done.state
    assert same(alone[-1].result, update)


def test_no_noise_and_a_clip_norm_out_of_reach_are_fedavg(federation):
    plain = federation("plain", {}, 2)
    private = federation("private", {"privacy": {"clip_norm": 1e9, "noise_multiplier": 0.0}}, 2)
    assert same(plain[-1].result, private[-1].result)


def test_a_clipped_update_has_the_clip_norm(federation, start):
    (done,) = federation("clipped", {"privacy": {"clip_norm": 0.01}})
    before = weights_of(start)
    for site in SITES:
        after = weights_of(done.sites[site].update)
        norm = sum(((after[name] - before[name]).double() ** 2).sum() for name in before).sqrt().item()
        assert norm == pytest.approx(0.01, rel=1e-3)
        assert json.loads(done.sites[site].metrics.read_text())["update_norm"] > 0.01


def test_a_feddyn_site_remembers_the_step_that_it_sent_after_clipping(federation, start):
    block = {"strategy": {"name": "feddyn", "alpha": 0.5}, "privacy": {"clip_norm": 0.01}}
    (done,) = federation("clipped", block)
    before, sent = weights_of(start), weights_of(done.sites["north"].update)
    gradient = load_state(SiteState, done.sites["north"].state, {}).kept["gradient"]
    for name, tensor in gradient.items():
        torch.testing.assert_close(tensor, -0.5 * (sent[name] - before[name]))


def test_the_servers_noise_is_seeded_and_as_large_as_asked(federation):
    (plain,) = federation("plain", {"privacy": {"clip_norm": 0.01}})
    noisy = {"privacy": {"clip_norm": 0.01, "noise_multiplier": 100.0}}
    (first,), (again,) = federation("noisy", noisy), federation("again", noisy)
    assert same(first.result, again.result)
    without, with_noise = weights_of(plain.result), weights_of(first.result)
    noise = torch.cat([(with_noise[name] - without[name]).flatten() for name in without])
    # 100 clip norms of 0.01 times the share of north, 5 of 8 cases.
    assert noise.std().item() == pytest.approx(100 * 0.01 * 5 / 8, rel=0.1)


def test_the_servers_noise_leaves_a_frozen_encoder_as_it_is(federation, start, settings):
    settings["freeze_encoder"] = True
    (done,) = federation("noisy", {"privacy": {"clip_norm": 0.01, "noise_multiplier": 100.0}})
    before, after = weights_of(start), weights_of(done.result)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if not name.startswith("encoder.")}


# Forms of exchange.


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8"])
def test_smaller_updates_end_near_whole_ones(federation, start, dtype):
    plain = federation("plain", {}, 3)
    small = federation(dtype, {"exchange": {"dtype": dtype, "content": "difference", "error_feedback": True}}, 3)
    before, exact, found = (weights_of(path) for path in (start, plain[-1].result, small[-1].result))
    way = sum(((exact[name] - before[name]) ** 2).sum() for name in before).sqrt()
    error = sum(((exact[name] - found[name]) ** 2).sum() for name in before).sqrt()
    assert 0 < error < 0.1 * way
    sizes = [rounds[0].sites["north"].update.stat().st_size for rounds in (plain, small)]
    assert sizes[1] < sizes[0]


# Secure sums.


@pytest.fixture
def train_masked(tmp_path, start, make_plan, make_case, write_shard):
    """Both sites' updates under masks, and what the same sites send without."""
    keys = {site: (tmp_path / f"{site}.secret", tmp_path / f"{site}.public") for site in SITES}
    for secret, public in keys.values():
        make_key_files(secret, public)

    def _train(is_secure: bool) -> dict[str, Path]:
        updates = {}
        for site, size in zip(SITES, (5, 3), strict=True):
            cases = [make_case(f"{site}-{n}", site, class_name=("normal", "dipg")[n % 2]) for n in range(size)]
            shard = write_shard(tmp_path / f"shard-{site}", cases)
            outputs = [tmp_path / f"{site}-{is_secure}{suffix}" for suffix in (".pth", "-state.pth", ".json")]
            files = SiteFiles(
                start, [shard], *outputs, secret_key=keys[site][0], public_keys={name: keys[name][1] for name in SITES}
            )
            plan = make_plan(block={"privacy": {"secure_sum": is_secure}})
            train_site_files(files, SiteRound("fedavg", 0, 1, site), plan, torch.device("cpu"))
            updates[site] = outputs[0]
        return updates

    return _train


def combine_masked(start: Path, updates: dict[str, Path], result: Path, is_secure: bool) -> Path:
    arm = {key: WITHOUT_EXCHANGE[key] for key in ("strategy", "exchange")}
    arm |= {"privacy": WITHOUT_EXCHANGE["privacy"] | {"secure_sum": is_secure}}
    arm |= {"weighting": "cases"}
    metrics = {site: path.with_suffix(".json") for site, path in updates.items()}
    written = (result, *(result.with_suffix(suffix) for suffix in (".server", ".json", ".metrics")))
    files = RoundFiles(start, updates, metrics, *written)
    aggregate_round_files(files, "fedavg", 0, 1, RoundPlan(arm, "digest", 2))
    return result


def test_a_secure_sum_is_the_plain_one_to_the_fixed_point_step(train_masked, start, tmp_path):
    plain = combine_masked(start, train_masked(False), tmp_path / "plain.pth", False)
    secure = combine_masked(start, train_masked(True), tmp_path / "secure.pth", True)
    for name, tensor in weights_of(plain).items():
        torch.testing.assert_close(weights_of(secure)[name], tensor, rtol=2e-7, atol=2.0**-24)
    shares = {update.site: update.weight for update in load_model_file(secure).lineage.updates}
    assert shares == {"north": 5 / 8, "south": 3 / 8}


def test_a_masked_update_shows_nothing_of_the_weights(train_masked):
    masked, plain = train_masked(True)["north"], train_masked(False)["north"]
    for name, tensor in weights_of(masked).items():
        assert tensor.dtype == torch.int64
        # Of uniform 64-bit numbers hardly any is as small as a weighted weight.
        assert (tensor.abs() > 2**50).float().mean() > 0.9
        assert tensor.shape == weights_of(plain)[name].shape


def test_a_secure_sum_without_a_site_is_refused(train_masked, start, tmp_path):
    updates = train_masked(True)
    del updates["south"]
    with pytest.raises(StudyError, match="masks are left"):
        combine_masked(start, updates, tmp_path / "secure.pth", True)
    assert not (tmp_path / "secure.pth").exists()


def test_a_plain_update_in_a_secure_sum_is_refused(train_masked, start, tmp_path):
    updates = train_masked(True) | {"south": train_masked(False)["south"]}
    with pytest.raises(StudyError, match=r"update of site south: .* expected .* torch\.int64, found"):
        combine_masked(start, updates, tmp_path / "secure.pth", True)


# Weights of one's own.


def test_ditto_trains_the_common_model_as_fedavg_and_one_of_its_own_beside(federation):
    plain = federation("plain", {}, 2)
    ditto = federation("ditto", {"strategy": {"name": "ditto", "lambda": 0.5}}, 2)
    assert same(plain[-1].result, ditto[-1].result)
    personal = {site: load_model_of_site(ditto[-1].result, ditto[-1].sites[site].state, site) for site in SITES}
    assert not same_weights(personal["north"].weights, personal["south"].weights)
    assert not same_weights(personal["north"].weights, weights_of(ditto[-1].result))
    assert personal["north"].lineage.kind == "personal"


def same_weights(one: dict, other: dict) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_dittos_own_model_goes_on_from_itself(federation):
    rounds = federation("ditto", {"strategy": {"name": "ditto", "lambda": 0.0}}, 2)
    first, second = (load_state(SiteState, done.sites["north"].state, {}).personal for done in rounds)
    assert not same_weights(first, second)
    # Without a pull it is the site's model alone: what the first round's own update was.
    assert same_weights(first, weights_of(rounds[0].sites["north"].update))


def test_fedbn_sites_go_on_from_their_own_normalisation(federation):
    rounds = federation("bn", {"strategy": {"name": "fedbn"}}, 2)
    state = load_state(SiteState, rounds[0].sites["north"].state, {})
    sent = weights_of(rounds[0].sites["north"].update)
    assert state.personal
    assert all(torch.equal(tensor, sent[name]) for name, tensor in state.personal.items())
    assert set(state.personal) < set(sent)
    plain = federation("plain", {}, 2)
    assert same(plain[0].result, rounds[0].result)
    assert not same(plain[1].result, rounds[1].result)


def test_a_personal_model_is_the_global_one_with_the_sites_own_weights(federation, tmp_path):
    rounds = federation("bn", {"strategy": {"name": "fedbn"}}, 2)
    states = [done.sites["north"].state for done in rounds]
    personalize_model_files(rounds[0].result, dict(enumerate(states, start=1)), [1], "north", tmp_path / "personal.pth")
    found = load_model_file(tmp_path / "personal.pth")
    own = load_state(SiteState, states[0], {}).personal
    common = weights_of(rounds[0].result)
    assert all(torch.equal(found.weights[name], own.get(name, common[name])) for name in common)
    assert (found.lineage.kind, found.lineage.site) == ("personal", "north")
    assert found.lineage.parent_sha256 == sha256_of_file(rounds[0].result)


def test_a_personal_model_of_another_sites_state_is_refused(federation, tmp_path):
    (done,) = federation("bn", {"strategy": {"name": "fedbn"}})
    with pytest.raises(StudyError, match="expected the state of site 'north', found 'south'"):
        personalize_model_files(done.result, {1: done.sites["south"].state}, [1], "north", tmp_path / "personal.pth")


@pytest.mark.parametrize(("state_round", "phase_starts"), [(2, [1]), (1, [1, 2])], ids=["later", "another phase"])
def test_a_site_without_a_state_of_its_own_has_the_global_model(federation, tmp_path, state_round, phase_starts):
    rounds = federation("bn", {"strategy": {"name": "fedbn"}}, 2)
    best = rounds[0] if state_round == 2 else rounds[1]
    states = {state_round: rounds[state_round - 1].sites["north"].state}
    personalize_model_files(best.result, states, phase_starts, "north", tmp_path / "personal.pth")
    assert same(tmp_path / "personal.pth", best.result)


@pytest.mark.parametrize("policy", ["average", "local", "frozen"])
def test_batch_statistics_follow_their_policy(train, i3d_start, i3d_shard, policy):
    done = train(policy, start=i3d_start, shards=[i3d_shard], block={"batch_norm": policy})
    before, after = weights_of(i3d_start), weights_of(done.update)
    statistics = {name for name in before if name.rsplit(".", 1)[1] in ("running_mean", "running_var")}
    moved = {name for name in statistics if not torch.equal(before[name], after[name])}
    assert moved == (set() if policy == "frozen" else statistics)
    own = load_state(SiteState, done.state, {}).personal
    counters = {name for name in before if name.endswith("num_batches_tracked")}
    assert set(own) == (statistics | counters if policy == "local" else set())
    # The factors train under every policy.
    assert not torch.equal(before["up1.bn.weight"], after["up1.bn.weight"])


# Sites that are missing.


def test_a_site_whose_training_failed_twice_is_left_out_and_its_state_stays(train, federation, start):
    (first,) = federation("first", {})
    missing = train(
        "missing",
        start=first.result,
        round_number=2,
        state=first.sites["north"].state,
        may_be_missing=True,
        attempt=3,
    )
    assert load_model_file(missing.update).lineage.kind == "missing"
    assert json.loads(missing.metrics.read_text())["missing"] is True
    before, after = (load_state(SiteState, path, {}) for path in (first.sites["north"].state, missing.state))
    assert after.round == 2
    assert str(after.optimizer) == str(before.optimizer)


def test_a_site_that_goes_on_from_another_arms_model_is_refused_however_often_it_is_tried(train, federation):
    (first,) = federation("first", {})
    other = {"start": first.result, "round_number": 2, "arm": "fedprox", "may_be_missing": True}
    for attempt in (1, 3):
        with pytest.raises(StudyError, match="expected a model of arm 'fedprox'"):
            train("other", **other, attempt=attempt)
    assert not list(first.result.parent.glob("other*"))


@pytest.mark.parametrize(("may_be_missing", "attempt"), [(False, 3), (True, 1), (True, 2)])
def test_a_site_trains_unless_it_failed_and_may_be_missing(train, may_be_missing, attempt):
    done = train(may_be_missing=may_be_missing, attempt=attempt)
    assert load_model_file(done.update).lineage.kind == "update"


# What is refused.


def test_a_swapped_site_state_is_refused_by_name(train, federation):
    (first,) = federation("first", {})
    with pytest.raises(StudyError, match=r"south.*: expected the state of site 'north', found 'south'"):
        train("second", start=first.result, round_number=2, state=first.sites["south"].state, keep=True)


def test_a_site_state_of_another_round_is_refused(train, federation):
    first, second = federation("run", {}, 2)
    with pytest.raises(StudyError, match="expected the state of round 2, found 1"):
        train("third", start=second.result, round_number=3, state=first.sites["north"].state, keep=True)


def test_a_site_state_of_other_settings_is_refused(train, federation):
    (first,) = federation("first", {})
    plan = {"digest": "another", "start": {"kind": "global", "rounds": [1], "site": ""}}
    with pytest.raises(StudyError, match="with settings another"):
        train("second", start=first.result, round_number=2, state=first.sites["north"].state, plan=plan)


def test_a_model_in_place_of_a_site_state_is_refused(train, federation):
    (first,) = federation("first", {})
    with pytest.raises(StudyError, match="expected a SiteState, found other entries"):
        train("second", start=first.result, round_number=2, state=first.result)


def test_a_server_state_of_another_round_is_refused(train, federation):
    first, second = federation("run", SCAFFOLD, 2, broadcasts=True)
    assert load_state(ServerState, second.state, {}).kept["control"]
    with pytest.raises(StudyError, match="expected the state of round 2, found 1"):
        train(
            "third",
            start=second.result,
            round_number=3,
            state=second.sites["north"].state,
            server=first.state,
            block=SCAFFOLD,
        )


def test_a_start_from_a_round_outside_the_phase_before_is_refused(train, federation):
    (first,) = federation("first", {})
    start = {"kind": "global", "rounds": [2, 3], "site": ""}
    with pytest.raises(StudyError, match="expected seed 0 and round 2 or 3, found 0 and 1"):
        train("later", start=first.result, round_number=4, plan={"start": start})


# DP-SGD.


def test_example_level_privacy_trains_with_seeded_noise(train, start):
    block = {"privacy": {"example_level": {"clip_norm": 1.0, "noise_multiplier": 1.0}}}
    plain, first, again = train("plain"), train("first", block=block), train("again", block=block)
    assert first.update.read_bytes() == again.update.read_bytes()
    assert not same(plain.update, first.update)
    other_arm = train("other", block=block, arm="fedprox")
    assert not same(first.update, other_arm.update)


# An iid site.


def test_a_site_of_a_repartition_trains_on_its_part_of_all_cases(train, tmp_path, make_case, write_shard):
    shards = [
        write_shard(
            tmp_path / site, [make_case(f"{site}-{n}", site, class_name=("normal", "dipg")[n % 2]) for n in range(4)]
        )
        for site in ("a", "b")
    ]
    parts = {
        site: train(site, shards=shards, site=site, plan={"cases_of": ["a", "b"], "part_of": ["a", "b"]})
        for site in ("a", "b")
    }
    lineages = {site: load_model_file(done.update).lineage for site, done in parts.items()}
    assert [lineage.num_cases for lineage in lineages.values()] == [4, 4]
    assert lineages["a"].cases_sha256 != lineages["b"].cases_sha256


def test_an_update_with_another_sites_name_is_refused(federation, start, tmp_path):
    (done,) = federation("run", {})
    updates = {"north": done.sites["south"].update, "south": done.sites["north"].update}
    with pytest.raises(StudyError, match="update of site north: expected site 'north', found 'south'"):
        combine_masked(start, updates, tmp_path / "swapped.pth", False)
    assert not (tmp_path / "swapped.pth").exists()
