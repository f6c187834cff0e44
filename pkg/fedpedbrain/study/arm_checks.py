"""What an arm's settings may not say together."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedpedbrain.base.errors import StudyError
from fedpedbrain.study.arms import Arm
from fedpedbrain.study.network_facts import NETWORKS
from fedpedbrain.study.training_facts import SEGMENTATION_LOSSES


def check_noise(arm: Arm, network: str, training: Mapping[str, Any]) -> None:
    """Refuse what would carry cases past the arm's noise: a network's statistics, or a ``training`` block."""
    sites, cases = (arm.block["privacy"][key] for key in ("noise_multiplier", "example_level"))
    if arm.is_private and NETWORKS[network].has_batch_norm and arm.block["batch_norm"] != "frozen":
        raise StudyError(
            f"arms.{arm.name}.privacy.{'noise_multiplier' if sites > 0 else 'example_level'}: {network} has batch "
            "statistics, which take no noise; set the arm's batch_norm: frozen, or network.name: unet"
        )
    if cases["noise_multiplier"] > 0 and training["loss"]["balance_classes"]:
        raise StudyError(
            f"arms.{arm.name}.privacy.example_level: training.loss.balance_classes lets every case change the weight "
            "of the others; set it to false"
        )
    loss = training["loss"]["segmentation"]
    if cases["noise_multiplier"] > 0 and SEGMENTATION_LOSSES[loss].is_over_batch:
        raise StudyError(
            f"arms.{arm.name}.privacy.example_level: {loss} is over all samples of a batch, a case's gradient has to "
            "be its own; choose another training.loss.segmentation"
        )
    if cases["noise_multiplier"] > 0 and training["patch"] is not None:
        raise StudyError(
            f"arms.{arm.name}.privacy.example_level: an example has to be a case, training.patch makes several of one; "
            "set it to null"
        )


def check_arm(arm: Arm, num_rounds: int, seeds: Sequence[int]) -> None:
    """Refuse settings that contradict each other, with the arm's name."""
    where = f"arms.{arm.name}"
    unknown = sorted(set(arm.block["strategy"]) - {"name", *arm.facts.options})
    if unknown:
        known = ", ".join(arm.facts.options) or "none"
        raise StudyError(f"{where}.strategy: {arm.strategy['name']} has no option {unknown[0]!r}; its options: {known}")
    _check_blocks(arm, where)
    for number, phase in enumerate(arm.phases, start=1):
        if phase.first_round > num_rounds:
            raise StudyError(
                f"{where}.phases: phase {number} would start in round {phase.first_round} of {num_rounds}; shorten the "
                "phases before it or raise study.rounds"
            )
    _check_absences(arm, f"{where}.participation.absent", num_rounds)
    needed, why = _fewest_sites(arm)
    for seed in seeds:
        for round_number in range(1, num_rounds + 1):
            found = len(arm.sites_in_round(seed, round_number))
            if found < needed:
                raise StudyError(
                    f"{where}.{why}: round {round_number} has {found} of at least {needed} sites; let more take part"
                )


def _check_absences(arm: Arm, where: str, num_rounds: int) -> None:
    """Refuse absences that are none."""
    for name, rounds in arm.block["participation"]["absent"].items():
        if name not in arm.participants:
            raise StudyError(f"{where}: {name!r} does not train in this arm")
        if not rounds:
            raise StudyError(f"{where}: {name} is absent in no round; list rounds or drop it")
        if max(rounds) > num_rounds:
            raise StudyError(
                f"{where}: {name} is absent in round {max(rounds)} of {num_rounds}; drop it or raise study.rounds"
            )


def _fewest_sites(arm: Arm) -> tuple[int, str]:
    """How many sites every round needs, and the setting that says so."""
    needed = arm.facts.fewest_sites(**arm.strategy_options)
    if needed > 1:
        options = ", ".join(f"{name} {value:g}" for name, value in arm.strategy_options.items())
        return needed, f"strategy: {arm.strategy['name']} ({options}) bears no wrong update"
    if arm.sums_securely:
        return 2, "privacy.secure_sum: the sum of one site is its update"
    return 1, "participants"


def _check_blocks(arm: Arm, where: str) -> None:
    """Refuse blocks that cannot work together."""
    exchange, privacy, name, facts = arm.block["exchange"], arm.block["privacy"], arm.strategy["name"], arm.facts
    is_plain = exchange["dtype"] == "float32" and exchange["content"] == "weights"
    is_noisy = privacy["noise_multiplier"] > 0
    shrinks = privacy["clip_norm"] is not None
    refusals = {
        "exchange: int8 has no room for whole weights; set content: difference": exchange["dtype"] == "int8"
        and exchange["content"] == "weights",
        "participants: iid parts belong to no site that could have a model of its own; drop iid": arm.is_repartitioned
        and arm.is_personal,
        f"batch_norm: sites of {name} train two models and keep statistics of one; set average or frozen": (
            facts.has_second_model and arm.block["batch_norm"] == "local"
        ),
        "exchange.error_feedback: float32 leaves no error; drop it": exchange["error_feedback"]
        and exchange["dtype"] == "float32",
        "exchange: a cyclic arm hands on whole float32 weights; drop the block": arm.is_cyclic and not is_plain,
        "participation.allow_missing_sites: a cyclic arm needs every site; drop it": arm.is_cyclic
        and arm.allows_missing_sites,
        "privacy: a cyclic arm has no average to protect; drop clip_norm and secure_sum": arm.is_cyclic
        and (shrinks or arm.sums_securely),
        "privacy.noise_multiplier: noise needs clip_norm, the most that a site can change": is_noisy and not shrinks,
        "privacy.noise_multiplier: rounding makes updates longer than clip_norm; set exchange.dtype: float32": is_noisy
        and exchange["dtype"] != "float32",
        f"privacy: {name} sends more than weights, which clipping does not cover; use another strategy": shrinks
        and facts.sends_more,
        f"privacy.secure_sum: {name} needs more than the sum of the updates; use another strategy": arm.sums_securely
        and facts.needs_each_update,
        f"privacy.noise_multiplier: {name} needs more than a noisy average; use another strategy": (
            is_noisy and facts.needs_each_update
        ),
        f"privacy.example_level: DP-SGD clips gradients that {name} would change; use another strategy": (
            facts.corrects_gradients and privacy["example_level"]["noise_multiplier"] > 0
        ),
        "privacy.secure_sum: masked updates have their own form; drop exchange": arm.sums_securely and not is_plain,
        "privacy.secure_sum: a sum that lacks a site cannot be read; drop allow_missing_sites": arm.sums_securely
        and arm.allows_missing_sites,
    }
    for message, holds in refusals.items():
        if holds:
            raise StudyError(f"{where}.{message}")
