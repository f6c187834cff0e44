"""Recipes: how an arm trains and with which network, the study's blocks with the arm's own laid over them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fedpedbrain.base.downloads import is_address
from fedpedbrain.base.lineage import digest_of
from fedpedbrain.study.network_facts import NETWORKS
from fedpedbrain.study.strategy_facts import merged_block
from fedpedbrain.study.tables import Choice, choices_of_training
from fedpedbrain.study.training_facts import read_settings

# Digits that tell the start of an arm's own network from others of the same name.
_DIGITS = 6


@dataclass(frozen=True)
class ArmRecipe:
    """How an arm trains.

    Attributes
    ----------
    training, network : blocks of the config's form
    has_own_start : the arm names a network of its own, options or a start of its own for it, or patches of another size
    differences : what of both blocks is other than the study's, by its place in the config
    """

    training: Mapping[str, Any]
    network: Mapping[str, Any]
    has_own_start: bool
    differences: Mapping[str, Any]

    @cached_property
    def training_settings(self) -> dict[str, Any]:
        """The ``training`` block without what cannot change the result's meaning, or is an option of another choice."""
        return read_settings({key: value for key, value in self.training.items() if key != "threads"})

    @property
    def learning_rate(self) -> float:
        """Before the schedule."""
        return self.training["optimizer"]["learning_rate"]

    @property
    def patch_size(self) -> list[int] | None:
        """Voxels (D, H, W) of one training sample, None where it is a whole case."""
        patch = self.training["patch"]
        return patch and patch["size"]

    @property
    def patch_of_spec(self) -> dict[str, Any]:
        """What ``ModelSpec`` says of patches: nothing where there are none."""
        return {"patch": self.patch_size} if self.patch_size else {}

    @property
    def network_settings(self) -> dict[str, Any]:
        """Name and options of the network."""
        name = self.network["name"]
        return {"name": name, "options": NETWORKS[name].settings(self.network.get(name, {}))}

    @property
    def pretrained(self) -> Mapping[str, Any]:
        """Which weights the arm starts from, and how much of them."""
        return self.network["pretrained"]

    @property
    def pretrained_path(self) -> str | None:
        """The file of these weights, absolute; None where there are none or they have to be fetched."""
        source = self.pretrained["source"]
        return None if source is None or is_address(source) else str(Path(source).absolute())

    @cached_property
    def start(self) -> str:
        """Name of the start that arms of the same network share."""
        name = self.network["name"]
        if not self.has_own_start:
            return name
        settings = self.network_settings | {"pretrained": dict(self.pretrained)} | self.patch_of_spec
        return f"{name}_{digest_of(settings)[:_DIGITS]}"

    @property
    def description(self) -> dict[str, Any]:
        """The recipe in plain values, for the report: both blocks, and under ``recipe`` what is the arm's own."""
        blocks = {"training": dict(self.training) | self.training_settings, "network": _read_network(self.network)}
        return blocks | {"recipe": dict(self.differences)}

    @cached_property
    def choices(self) -> frozenset[Choice]:
        """What the recipe takes from the tables of choices."""
        return frozenset({("NETWORKS", self.network["name"]), *choices_of_training(self.training)})


def _read_network(network: Mapping[str, Any]) -> dict[str, Any]:
    """A network block without the options of networks that it does not name."""
    return {key: value for key, value in network.items() if key in ("name", "pretrained", network["name"])}


def _differences(block: Any, other: Any, place: str) -> dict[str, Any]:
    """What differs in nested blocks, by its dotted place."""
    if isinstance(block, Mapping) and isinstance(other, Mapping):
        parts = (_differences(block[key], other.get(key), f"{place}.{key}") for key in block)
        return {key: value for part in parts for key, value in part.items()}
    return {} if block == other else {place: block}


def build_recipe(config: Mapping[str, Any], block: Mapping[str, Any]) -> ArmRecipe:
    """The recipe of an arm.

    Parameters
    ----------
    config : the merged config
    block : the arm's settings, of which ``training`` and ``network`` may be there
    """
    training = merged_block(config["training"], block.get("training", {}))
    network = merged_block(config["network"], block.get("network", {}))
    differences = _differences(training, config["training"], "training")
    of_network = _differences(_read_network(network), _read_network(config["network"]), "network")
    sizes = [(block["patch"] or {}).get("size") for block in (training, config["training"])]
    return ArmRecipe(training, network, bool(of_network) or sizes[0] != sizes[1], differences | of_network)
