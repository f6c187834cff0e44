"""How sites and server go through a round; one behaviour a class, one word of the config each."""

from collections.abc import Callable, Mapping
from typing import Any

from fedpedbrain.federated.strategies.cyclic import Cyclic
from fedpedbrain.federated.strategies.feddyn import FedDyn
from fedpedbrain.federated.strategies.fednova import FedNova
from fedpedbrain.federated.strategies.fedprox import FedProx
from fedpedbrain.federated.strategies.personal import Ditto, FedBN
from fedpedbrain.federated.strategies.robust import Krum, coordinate_median, trimmed_mean
from fedpedbrain.federated.strategies.scaffold import Scaffold
from fedpedbrain.federated.strategies.server_optimizers import FedAvgM, fed_adagrad, fed_adam, fed_yogi
from fedpedbrain.federated.strategies.strategy import Strategy

# Options and what the job graph has to know of each stand in fedpedbrain.study.strategy_facts.
STRATEGY_CLASSES: dict[str, Callable[..., Strategy]] = {
    "fedavg": Strategy,
    "fedprox": FedProx,
    "scaffold": Scaffold,
    "feddyn": FedDyn,
    "fednova": FedNova,
    "fedavgm": FedAvgM,
    "fedadagrad": fed_adagrad,
    "fedadam": fed_adam,
    "fedyogi": fed_yogi,
    "fedbn": FedBN,
    "ditto": Ditto,
    "cyclic": Cyclic,
    "median": coordinate_median,
    "trimmed_mean": trimmed_mean,
    "krum": Krum,
}


def build_strategy(settings: Mapping[str, Any]) -> Strategy:
    """Make the strategy that an arm's ``strategy`` block names, with its options."""
    return STRATEGY_CLASSES[settings["name"]](**{key: value for key, value in settings.items() if key != "name"})
