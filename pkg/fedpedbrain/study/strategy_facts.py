"""The strategies that an arm can choose; a strategy is its own module, one row here and a test."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fedpedbrain.base.choices import Choices, Option, defaults_of


@dataclass(frozen=True)
class StrategyFacts:
    """What the job graph has to know of a strategy.

    Attributes
    ----------
    implementation : what makes it, called with its options
    declared : its options
    words : what the server and the sites do in a round, for the report; options stand in braces
    weight_words : how much a site counts, where that is not the arm's weighting
    broadcasts : sites need the server's state of the round before
    is_personal : every site keeps weights of its own, and is scored with them
    has_second_model : every site trains a model of its own beside the common one
    is_cyclic : a round goes from site to site instead of to all at once
    corrects_gradients : sites change the gradients of the loss
    needs_each_update : the mean of the updates, by their weights, is not enough for the server
    fewest_sites : from its options, how many sites a round needs for the strategy to do what it is for
    copies_sent, copies_at_site, copies_at_server : tensors like the model's that a site sends beside its weights, and
        that site and server keep from round to round, a second model and optimizers apart
    """

    implementation: str
    declared: Mapping[str, Option] = field(default_factory=dict)
    words: str = ""
    weight_words: str = ""
    broadcasts: bool = False
    is_personal: bool = False
    has_second_model: bool = False
    is_cyclic: bool = False
    corrects_gradients: bool = False
    needs_each_update: bool = False
    fewest_sites: Callable[..., int] = lambda **options: 1
    copies_sent: int = 0
    copies_at_site: int = 0
    copies_at_server: int = 0

    @property
    def options(self) -> dict[str, Any]:
        """Its options with their defaults."""
        return defaults_of(self.declared)

    @property
    def sends_more(self) -> bool:
        """Whether sites send more than weights."""
        return self.copies_sent > 0


def fewest_for_krum(num_byzantine: int, num_selected: int) -> int:
    """Sites that Krum needs: its proof asks for ``2 * num_byzantine + 3``, and right updates must do for the selection.

    Blanchard et al., "Machine Learning with Adversaries", NeurIPS 2017, proposition 4.2.
    """
    return max(2 * num_byzantine + 3, num_selected + num_byzantine)


def fewest_for_trimmed_mean(trim_fraction: float) -> int:
    """Sites of which the fraction, rounded down, is one or more; a fraction of 0 is meant to leave nobody out."""
    return math.ceil((1 - 1e-9) / trim_fraction) if trim_fraction > 0 else 1


_POSITIVE, _AT_LEAST_0 = {"type": "number", "exclusiveMinimum": 0}, {"type": "number", "minimum": 0}
_DECAY = {"type": "number", "minimum": 0, "exclusiveMaximum": 1}
_SERVER_RATE = Option(1.0, _POSITIVE, "Step of the server along the mean difference.")
_ADAPTIVE = {
    "server_learning_rate": Option(0.01, _POSITIVE, "Step of the server along the mean difference."),
    "beta1": Option(0.9, _DECAY, "Decay of the first moment."),
    "beta2": Option(0.99, _DECAY, "Decay of the second moment."),
    "tau": Option(0.001, _POSITIVE, "Degree of adaptivity; the second moment starts at its square."),
}

STRATEGIES: Choices[StrategyFacts] = Choices(
    {
        "fedavg": StrategyFacts(
            "fedpedbrain.federated.strategies.strategy:Strategy",
            words="the weighted mean of the sites' weights",
        ),
        "fedprox": StrategyFacts(
            "fedpedbrain.federated.strategies.fedprox:FedProx",
            {"mu": Option(0.01, _AT_LEAST_0, "Weight of the pull towards the round's start.")},
            corrects_gradients=True,
            words="as FedAvg, each site pulled to the round's start (mu {mu:g})",
        ),
        "scaffold": StrategyFacts(
            "fedpedbrain.federated.strategies.scaffold:Scaffold",
            {"server_learning_rate": _SERVER_RATE},
            broadcasts=True,
            corrects_gradients=True,
            needs_each_update=True,
            copies_sent=1,
            copies_at_site=1,
            copies_at_server=1,
            words="control variates correct the drift of each site (server learning rate {server_learning_rate:g})",
        ),
        # Its server counts who sent an update.
        "feddyn": StrategyFacts(
            "fedpedbrain.federated.strategies.feddyn:FedDyn",
            {"alpha": Option(0.01, _POSITIVE, "Weight of the dynamic regularisation.")},
            corrects_gradients=True,
            needs_each_update=True,
            copies_at_site=1,
            copies_at_server=1,
            words="dynamic regularisation makes the sites' optima agree (alpha {alpha:g})",
        ),
        "fednova": StrategyFacts(
            "fedpedbrain.federated.strategies.fednova:FedNova",
            needs_each_update=True,
            words="every site counts by its direction, not by its number of steps",
        ),
        "fedavgm": StrategyFacts(
            "fedpedbrain.federated.strategies.server_optimizers:FedAvgM",
            {
                "server_learning_rate": _SERVER_RATE,
                "momentum": Option(0.9, _DECAY, "Part of the server's last step that lasts on."),
            },
            copies_at_server=1,
            words="FedAvg with momentum at the server (momentum {momentum:g}, learning rate {server_learning_rate:g})",
        ),
        "fedadagrad": StrategyFacts(
            "fedpedbrain.federated.strategies.server_optimizers:fed_adagrad",
            {key: _ADAPTIVE[key] for key in ("server_learning_rate", "tau")},
            copies_at_server=2,
            words="Adagrad at the server (learning rate {server_learning_rate:g}, tau {tau:g})",
        ),
        "fedadam": StrategyFacts(
            "fedpedbrain.federated.strategies.server_optimizers:fed_adam",
            _ADAPTIVE,
            copies_at_server=2,
            words="Adam at the server (learning rate {server_learning_rate:g}, "
            "beta {beta1:g} and {beta2:g}, tau {tau:g})",
        ),
        "fedyogi": StrategyFacts(
            "fedpedbrain.federated.strategies.server_optimizers:fed_yogi",
            _ADAPTIVE,
            copies_at_server=2,
            words="Yogi at the server (learning rate {server_learning_rate:g}, "
            "beta {beta1:g} and {beta2:g}, tau {tau:g})",
        ),
        "fedbn": StrategyFacts(
            "fedpedbrain.federated.strategies.personal:FedBN",
            is_personal=True,
            words="as FedAvg, but every site keeps normalisation layers of its own",
        ),
        "ditto": StrategyFacts(
            "fedpedbrain.federated.strategies.personal:Ditto",
            {"lambda": Option(0.1, _AT_LEAST_0, "Pull of a site's own model towards the round's start.")},
            is_personal=True,
            has_second_model=True,
            corrects_gradients=True,
            words="FedAvg, and beside it every site trains a model of its own, "
            "pulled to the common one (lambda {lambda:g})",
        ),
        "cyclic": StrategyFacts(
            "fedpedbrain.federated.strategies.cyclic:Cyclic",
            is_cyclic=True,
            needs_each_update=True,
            words="the model goes from site to site, in the order of their names; nothing is averaged",
            weight_words="nothing is averaged",
        ),
        "median": StrategyFacts(
            "fedpedbrain.federated.strategies.robust:coordinate_median",
            needs_each_update=True,
            words="the median of the sites, weight by weight",
            weight_words="all alike",
        ),
        "trimmed_mean": StrategyFacts(
            "fedpedbrain.federated.strategies.robust:trimmed_mean",
            {
                "trim_fraction": Option(
                    0.1,
                    {"type": "number", "minimum": 0, "exclusiveMaximum": 0.5},
                    "Part of the sites, rounded down, that is left out at each end.",
                )
            },
            needs_each_update=True,
            fewest_sites=fewest_for_trimmed_mean,
            words="the mean without the extremes, weight by weight (trim fraction {trim_fraction:g} at each end)",
            weight_words="all alike",
        ),
        "krum": StrategyFacts(
            "fedpedbrain.federated.strategies.robust:Krum",
            {
                "num_byzantine": Option(1, {"type": "integer", "minimum": 0}, "Wrong updates that are tolerated."),
                "num_selected": Option(1, {"type": "integer", "minimum": 1}, "Updates that are averaged."),
            },
            needs_each_update=True,
            fewest_sites=fewest_for_krum,
            words="of the updates nearest to the others the mean of {num_selected} ({num_byzantine} taken for wrong)",
            weight_words="those selected alike",
        ),
    }
)

# The blocks that speak of an exchange of weights, as an arm without one has them.
WITHOUT_EXCHANGE: dict[str, Any] = {
    "strategy": {"name": "fedavg"},
    "weighting": "cases",
    "batch_norm": "average",
    "participation": {"fraction": 1.0, "minimum_sites": 1, "absent": {}, "allow_missing_sites": False},
    "exchange": {"dtype": "float32", "content": "weights", "error_feedback": False},
    "privacy": {
        "clip_norm": None,
        "noise_multiplier": 0.0,
        "secure_sum": False,
        "example_level": {"clip_norm": 1.0, "noise_multiplier": 0.0},
        "delta": 1e-5,
    },
    "phases": [],
}


# What such an arm may say of these blocks for itself: the rest has no meaning there.
OWN_WITHOUT_EXCHANGE: dict[str, Callable[[Any], list[str]]] = {
    "batch_norm": lambda policy: [""] if policy == "local" else [],
    "privacy": lambda privacy: [f".{key}" for key in privacy if key not in ("example_level", "delta")],
}


def meaningless_without_exchange(block: Mapping[str, Any]) -> list[str]:
    """Keys of an arm's own block that have no meaning where it exchanges no weights."""
    return [
        key + inner
        for key in WITHOUT_EXCHANGE
        if key in block
        for inner in OWN_WITHOUT_EXCHANGE.get(key, lambda value: [""])(block[key])
    ]


def merged_block(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """An arm's settings: the defaults, each block overlaid key by key with the arm's own."""
    merged = dict(defaults)
    for key, value in own.items():
        is_block = isinstance(value, Mapping) and isinstance(defaults.get(key), Mapping) and key != "strategy"
        merged[key] = merged_block(defaults[key], value) if is_block else value
    return merged
