"""Which files a round goes on from, by the input functions themselves."""

import re
from types import SimpleNamespace

import pytest
from fedpedbrain.study.study import load_study

FOLDER = "results/models/arm/seed-0"
SITES = ["east", "north", "south"]


@pytest.fixture
def functions(config, schema_path, repository):
    """``functions(rounds, keep_every, block)``: what rounds.smk defines for a study of one arm, ``arm``."""

    def _functions(num_rounds: int = 6, keep_every: int = 1, **block) -> SimpleNamespace:
        config["study"] |= {"rounds": num_rounds, "keep_every": keep_every}
        config["arms"] = [{"name": "arm", "participants": "sites", **block}]
        config["evaluation"]["reference_arm"] = "arm"
        config["reporting"]["video"]["arms"] = ["arm"]
        study = load_study(config, schema_path, lambda settings: {"north": 3, "east": 2, "south": 1})
        names = {"STUDY": study, "LAST_ROUND": num_rounds, "shard_tables": list}
        exec((repository / "rules/rounds.smk").read_text(), names)
        return SimpleNamespace(**names)

    return _functions


def of(number: int, site: str = "") -> SimpleNamespace:
    return SimpleNamespace(arm="arm", seed="0", round=f"{number:03d}", site=site)


PHASES = [{"sites": ["north", "east"], "rounds": 2}, {"rounds": 2}, {"start": "best"}]


def test_rounds_start_from_the_initial_the_last_or_the_best_model(functions):
    start = functions(phases=PHASES).start_of_round
    assert start(of(1)) == "results/models/initial/unet/seed-0.pth"
    for number in (2, 3, 4, 6):
        assert start(of(number)) == f"{FOLDER}/round-{number - 1:03d}/global.pth"
    assert start(of(5)) == f"{FOLDER}/round-005/best_before.pth"


def test_the_best_model_is_chosen_from_the_phase_before_alone(functions):
    these = functions(phases=PHASES)
    assert these.of_phase_before("global.pth", of(5)) == [f"{FOLDER}/round-{n:03d}/global.pth" for n in (3, 4)]
    metrics = [f"{FOLDER}/round-{n:03d}/metrics.json" for n in (3, 4)]
    assert these.metrics_of_phase_before(of(5)) == metrics


def test_no_state_of_site_or_server_crosses_the_border_of_a_phase(functions):
    these = functions(phases=PHASES, strategy={"name": "scaffold"})
    for number in (1, 3, 5):
        assert these.state_of_site(of(number, "north")) == []
        assert these.server_state(of(number)) == these.broadcast_state(of(number)) == []
    for number in (2, 4, 6):
        before = f"{FOLDER}/round-{number - 1:03d}"
        assert these.state_of_site(of(number, "north")) == f"{before}/states/north.pth"
        assert these.server_state(of(number)) == these.broadcast_state(of(number)) == f"{before}/server.pth"


def test_sites_read_the_servers_state_only_where_the_strategy_broadcasts_it(functions):
    these = functions(strategy={"name": "fedadam"})
    assert these.broadcast_state(of(2)) == []
    assert these.server_state(of(2)) == f"{FOLDER}/round-001/server.pth"


def test_a_round_reads_the_updates_of_those_who_take_part(functions):
    these = functions(participation={"absent": {"north": [2]}})
    assert these.sites_of_round(of(2)) == ["east", "south"]
    assert these.of_round("updates/{site}.pth", of(2)) == [
        f"{FOLDER}/round-002/updates/{site}.pth" for site in ("east", "south")
    ]
    assert these.state_of_site(of(3, "north")) == f"{FOLDER}/round-001/states/north.pth"


def test_in_a_cyclic_round_a_site_goes_on_from_the_update_of_the_one_before_it(functions):
    these = functions(strategy={"name": "cyclic"}, participation={"absent": {"north": [2]}})
    assert these.start_of_site(of(1, "north")) == f"{FOLDER}/round-001/updates/east.pth"
    assert these.start_of_site(of(2, "east")) == f"{FOLDER}/round-001/global.pth"
    assert these.start_of_site(of(2, "south")) == f"{FOLDER}/round-002/updates/east.pth"


def test_personal_weights_are_read_from_the_last_round_of_each_site(functions):
    these = functions(2, batch_norm="local", participation={"absent": {"north": [2], "south": [1, 2]}})
    # Both rounds are one block: each site's states, and the round of the state that each model goes with.
    state = f"{FOLDER}/round-{{:03d}}/states/{{}}.pth".format
    assert these.states_of_block(of(1, "east")) == [state(1, "east"), state(2, "east")]
    assert these.state_rounds_of_block(of(1, "east")) == [1, 2]
    assert these.states_of_block(of(1, "north")) == [state(1, "north")]
    assert these.state_rounds_of_block(of(1, "north")) == [1, 1]
    assert these.states_of_block(of(1, "south")) == []
    assert these.state_rounds_of_block(of(1, "south")) == [None, None]
    assert these.personal_models(of(2)) == [f"{FOLDER}/personal/{site}.pth" for site in ("east", "north")]
    assert these.states_of_site(of(2, "north")) == [f"{FOLDER}/round-001/states/north.pth"]


def test_what_does_not_stay_is_no_input_of_what_comes_after_all_rounds(functions):
    these = functions(6, keep_every=4, batch_norm="local", participation={"absent": {"north": [4, 6]}})
    assert these.of_kept_rounds("global.pth", of(1)) == [f"{FOLDER}/round-{n:03d}/global.pth" for n in (1, 4, 6)]
    # North's personal model of round 4 is made of its state of round 3, that of round 6 of its state of round 5.
    assert these.states_of_site(of(1, "north")) == [f"{FOLDER}/round-{n:03d}/states/north.pth" for n in (1, 3, 5)]
    assert {path.split("/")[4] for path in these.kept_states(of(1))} == {f"round-{n:03d}" for n in (1, 3, 4, 5, 6)}
    assert set(these.states_of_site(of(1, "north"))) < set(these.kept_states(of(1)))
    assert these.state_of_site(of(6, "south")) == f"{FOLDER}/round-005/states/south.pth"


def test_a_site_validates_the_kept_rounds_of_a_block_in_one_job(functions):
    these = functions(60, keep_every=20)
    assert these.models_of_block(of(1)) == [f"{FOLDER}/round-{n:03d}/global.pth" for n in (1, 20)]
    assert these.models_of_block(of(51)) == [f"{FOLDER}/round-060/global.pth"]
    files = [f"{FOLDER}/validation/{site}/from-{n:03d}.json" for site in SITES for n in (1, 26, 51)]
    assert sorted(these.validations_of_arm(of(1))) == files
    logs = these.logs_of_arm(of(1))["validation"]
    assert sorted(logs) == [path.replace("results/", "results/logs/").replace(".json", ".log") for path in files]


def test_a_phase_reads_the_validations_of_the_phase_before_alone(functions):
    these = functions(6, phases=PHASES)
    files = [f"{FOLDER}/validation/{site}/from-003.json" for site in SITES]
    assert sorted(these.validations_of_phase_before(of(5))) == files
    assert these.models_of_block(of(3)) == [f"{FOLDER}/round-{n:03d}/global.pth" for n in (3, 4)]


def test_a_phase_starts_from_the_best_of_the_kept_rounds_of_the_phase_before(functions):
    these = functions(6, keep_every=5, phases=[{"rounds": 3}, {"start": "best"}])
    assert these.of_phase_before("global.pth", of(4)) == [f"{FOLDER}/round-{n:03d}/global.pth" for n in (1, 3)]
    metrics = [f"{FOLDER}/round-{n:03d}/metrics.json" for n in (1, 2, 3)]
    assert these.metrics_of_phase_before(of(4)) == metrics


def test_keys_are_read_where_the_arm_sums_securely_and_of_those_who_take_part(functions):
    these = functions(privacy={"secure_sum": True}, participation={"absent": {"north": [2]}})
    assert these.secret_key_of_site(of(2, "east")) == f"{FOLDER}/round-002/keys/east.secret"
    public = [f"{FOLDER}/round-002/keys/{site}.public" for site in ("east", "south")]
    assert these.public_keys_of_round(of(2)) == public
    plain = functions()
    assert plain.secret_key_of_site(of(2, "east")) == plain.public_keys_of_round(of(2)) == []


def inputs_and_plan(rule: str) -> tuple[dict[str, str], str]:
    """Inputs of a rule that are functions, by name, and its param ``plan``."""
    inputs = rule.partition("    input:\n")[2].partition("    output:\n")[0]
    return dict(re.findall(r"^        (\w+)=(\w+),$", inputs, re.MULTILINE)), re.search(r"\n +plan=(.*),\n", rule)[1]


def test_keys_serve_once_and_are_made_anew_whenever_an_update_may_be_another(repository):
    rules = (repository / "rules/training.smk").read_text().split("\n\n\n")
    keys, training = (
        next(rule for rule in rules if rule.startswith(f"rule {name}:")) for name in ("make_keys", "train_site")
    )
    (inputs, plan), (training_inputs, training_plan) = map(inputs_and_plan, (keys, training))
    assert inputs | {name: training_inputs[name] for name in ("secret_key", "public_keys")} == training_inputs
    assert plan == training_plan
    assert 'training_code=code("train_site")' in keys
    assert keys.count('=temp("') == 2


def test_an_iid_participant_reads_the_shards_of_all_sites(functions):
    assert sorted(functions(participants="iid").shards_of_participant(of(1, "north"))) == SITES
    assert functions().shards_of_participant(of(1, "north")) == ["north"]
