from fedpedbrain.federated.state import ServerState, save_state
from fedpedbrain.models.stamps import split_by_stamp


def test_models_and_states_say_whether_they_carry_the_settings_expected_of_them(tmp_path, write_constant_model):
    model, state = str(write_constant_model(tmp_path / "global.pth")), str(tmp_path / "server.pth")
    save_state(state, ServerState("fedavg", 0, 1, "another"))
    assert split_by_stamp({model: "digest", state: "digest"}) == ([model], [state])
    assert split_by_stamp({model: "changed", state: "another"}) == ([state], [model])
