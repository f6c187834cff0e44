"""One exchange in memory: check every site's update, weigh it, combine, and say where the result comes from."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.lineage import MISSING, AveragedUpdate, Lineage
from fedpedbrain.base.seeds import derive_seed
from fedpedbrain.federated.exchange.encoding import Form, expected_beside, itself, receive
from fedpedbrain.federated.exchange.privacy import noise_like, server_noise_deviation
from fedpedbrain.federated.exchange.secure_sum import from_fixed_point, sum_masked
from fedpedbrain.federated.exchange.updates import check_history, check_update, count_of, is_finite, parameter_names
from fedpedbrain.federated.site_metrics import SiteMetrics
from fedpedbrain.federated.state import ServerState, check_owner
from fedpedbrain.federated.strategies.strategy import (
    Combined,
    Memory,
    RoundUpdates,
    SiteUpdate,
    Weights,
    build_strategy,
)
from fedpedbrain.models.files import ModelFile

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RoundPlan:
    """How a round is averaged: the config's part, as plain values.

    Attributes
    ----------
    arm : ``strategy``, ``weighting``, ``exchange`` and ``privacy``
    digest : settings digest that every update must carry
    num_sites : sites of the round's phase, whether they take part or not
    is_chain : every site went on from the update of the site before it
    minimum_sites : the fewest updates that are averaged
    allows_missing_sites : whether sites may be missing whose training failed
    momentum : of the sites' SGD where it begins anew in every round, else 0
    freezes_encoder : whether sites leave the encoder as it is, and so the server's noise, too
    """

    arm: Mapping[str, Any]
    digest: str
    num_sites: int
    is_chain: bool = False
    minimum_sites: int = 1
    allows_missing_sites: bool = False
    momentum: float = 0.0
    freezes_encoder: bool = False


@dataclass(frozen=True)
class RoundTask:
    """What the averaging of a round works with. Nothing in it is changed.

    Attributes
    ----------
    arm, seed, round : which round
    plan : how it is averaged
    parent : the model that the round started from
    parent_sha256 : of that model's file; every update's history carries it
    updates : site to update as it travelled. Each is asked for once and by itself: what reads them from files does so
        when it is asked
    sha256_of : site to the SHA-256 of its update as it arrived
    metrics : site to its metrics, in which it states its update's SHA-256
    state : the server's after the round before, None where there is none
    part_reader : makes what is called with each part of an update's tensors that is read, and gives the part
    names : what errors call a site's update, such as the path of its file
    state_name : what errors call ``state``
    """

    arm: str
    seed: int
    round: int
    plan: RoundPlan
    parent: ModelFile
    parent_sha256: str
    updates: Mapping[str, ModelFile]
    sha256_of: Mapping[str, str]
    metrics: Mapping[str, SiteMetrics]
    state: ServerState | None = None
    part_reader: Callable[[], Callable[[Tensor], Tensor]] = lambda: itself
    names: Mapping[str, str] = field(default_factory=dict)
    state_name: str = "state of the server"


@dataclass(frozen=True)
class RoundResult:
    """What comes of a round's averaging.

    Attributes
    ----------
    model : the next global model, whose lineage names the updates and how much each counted
    state : stays at the server, for the next round
    """

    model: ModelFile
    state: ServerState


class _Exchange:
    """The updates of one round, checked as they are read."""

    def __init__(self, task: RoundTask) -> None:
        self.task, self.plan, self.parent = task, task.plan, task.parent
        self.where = f"arm {task.arm}, round {task.round}"
        self.sites = sorted(task.updates)
        self.is_masked = self.plan.arm["privacy"]["secure_sum"]
        self.expected = Lineage(
            "update", task.arm, task.seed, task.round, "", 0, 0, self.plan.digest, task.parent_sha256
        )
        self.strategy = build_strategy(self.plan.arm["strategy"])
        # Of every site that sent an update.
        self.lineages: dict[str, Lineage] = {}

    @cached_property
    def parameter_names(self) -> list[str]:
        """Entries that the sites' optimizers train; only a network that is built says them, and FedAvg does not ask."""
        return parameter_names(self.parent, self.plan.freezes_encoder)

    def each_parameter_name(self) -> Iterator[str]:
        """The same, worked out once somebody goes through them."""
        yield from self.parameter_names

    def check_digests(self) -> None:
        """Refuse an update that is not, byte for byte, what its site wrote."""
        for site in self.sites:
            stated, found = self.task.metrics[site].update_sha256, self.task.sha256_of[site]
            if found != stated:
                raise StudyError(
                    f"{self.where}, update of site {site}: damaged, or not the site's: expected SHA-256 {stated[:12]}, "
                    f"found {found[:12]} of {self.task.names.get(site, 'it')}; delete it and run again"
                )

    def read(self, site: str) -> ModelFile | None:
        """Read and check an update; None where the site may be missing and is."""
        update = self.task.updates[site]
        expected = replace(self.expected, site=site)
        place = self.sites.index(site)
        if self.plan.is_chain and place:
            expected = replace(expected, parent_sha256=self.task.sha256_of[self.sites[place - 1]])
        if update.lineage.kind == MISSING and self.plan.allows_missing_sites:
            check_history(update.lineage, replace(expected, kind=MISSING))
            logger.warning("%s: goes on without site %s", self.where, site)
            return None
        check_update(update, self.parent, expected, self.plan.arm["exchange"], self.is_masked, self.expected_beside())
        self.lineages[site] = update.lineage
        return update

    def expected_beside(self) -> dict[str, dict[str, Form]]:
        """What every update holds beside its weights; a masked one has nothing that is not masked."""
        if self.is_masked:
            return {}
        weights = self.parent.weights
        sent = {
            group: {name: (weights[name].shape, weights[name].dtype) for name in self.parameter_names}
            for group in self.strategy.sends
        }
        return sent | expected_beside(weights, self.plan.arm["exchange"])

    def receive(self) -> list[SiteUpdate]:
        """The updates in the form that strategies work with; their weights are read when they are combined."""
        received = []
        for site in self.sites:
            update = self.read(site)
            if update is not None:
                form, reader = self.plan.arm["exchange"], self.task.part_reader()
                weights = receive(update.weights, update.sent, self.parent.weights, form, reader)
                count = count_of(update.lineage, self.plan.arm["weighting"])
                received.append(SiteUpdate(site, count, update.lineage.num_steps, weights, update.sent))
        return received

    def counts(self) -> dict[str, float]:
        """How much each site counts, known when all updates have been read."""
        return {site: count_of(lineage, self.plan.arm["weighting"]) for site, lineage in self.lineages.items()}

    def shares(self) -> dict[str, float]:
        """How much of the whole each site's update counts by the arm's weighting, summing to 1."""
        counts = self.counts()
        return {site: count / sum(counts.values()) for site, count in counts.items()}


def _secure_mean(exchange: _Exchange) -> Weights:
    """The weighted mean of masked updates, of which none can be read alone."""
    sums = sum_masked(exchange.read(site).weights for site in exchange.sites)
    total = sum(exchange.counts().values())
    if total <= 0:
        raise StudyError(f"{exchange.where}: all updates weigh nothing; give the sites cases")
    return from_fixed_point(sums, total, exchange.parent.weights)


def _noisy(mean: Weights, names: Sequence[str], exchange: _Exchange, privacy: Mapping[str, Any]) -> Weights:
    """The mean with the server's noise on what trains: on all else no site's cases have any influence."""
    deviation = server_noise_deviation(
        privacy["noise_multiplier"], privacy["clip_norm"], max(exchange.shares().values())
    )
    expected = exchange.expected
    seed = derive_seed(expected.seed, "noise", expected.arm, expected.round)
    noise = noise_like({name: mean[name] for name in names}, deviation, seed)
    return {**mean, **{name: mean[name] + value for name, value in noise.items()}}


def _combine(exchange: _Exchange, kept: Memory) -> Combined:
    """The next global weights, the server's new state, and how much each site counted."""
    privacy, sites = exchange.plan.arm["privacy"], exchange.plan.num_sites
    if exchange.is_masked:
        mean = _secure_mean(exchange)
    else:
        updates = RoundUpdates(
            exchange.receive(), exchange.each_parameter_name(), sites, exchange.where, exchange.plan.momentum
        )
        mean = updates.mean() if privacy["noise_multiplier"] > 0 else None
    if mean is not None:
        if privacy["noise_multiplier"] > 0:
            mean = _noisy(mean, exchange.parameter_names, exchange, privacy)
        updates = RoundUpdates([SiteUpdate("all", 1.0, 1, mean)], exchange.each_parameter_name(), 1, exchange.where)
    if len(exchange.lineages) < exchange.plan.minimum_sites:
        raise StudyError(
            f"{exchange.where}: {len(exchange.lineages)} of at least {exchange.plan.minimum_sites} sites sent an "
            "update; see the logs of the others' training"
        )
    combined = exchange.strategy.combine(exchange.parent.weights, updates, kept)
    return combined if combined.shares else combined._replace(shares=exchange.shares())


def combine_round(task: RoundTask) -> RoundResult:
    """Combine one round's updates into the next global model, as the arm's strategy does.

    Raises
    ------
    StudyError : names arm, round and site, what was expected and what was found
    """
    exchange = _Exchange(task)
    owner = {"arm": task.arm, "seed": task.seed, "settings_digest": task.plan.digest}
    kept: Memory = {}
    if task.state is not None:
        check_owner(task.state, owner | {"round": task.round - 1}, task.state_name)
        kept = task.state.kept
    try:
        combined = _combine(exchange, kept)
    finally:
        # Known last, and said first: what its site did not write needs no other explanation.
        exchange.check_digests()
    broken = [name for name, tensor in combined.weights.items() if not is_finite(tensor)]
    if broken:
        raise StudyError(f"{exchange.where}: the result's {broken[0]} is not finite; lower the server's learning rate")
    model = ModelFile(exchange.parent.spec, _result_lineage(exchange, combined.shares), combined.weights)
    return RoundResult(model, ServerState(**owner, round=task.round, kept=combined.kept))


def _result_lineage(exchange: _Exchange, shares: Mapping[str, float]) -> Lineage:
    """History of the global model, in which the sites' updates counted so much."""
    for site, share in shares.items():
        logger.info("site %s weighs %.4f", site, share)
    return replace(
        exchange.expected,
        kind="global",
        num_cases=sum(lineage.num_cases for lineage in exchange.lineages.values()),
        num_steps=sum(lineage.num_steps for lineage in exchange.lineages.values()),
        updates=tuple(AveragedUpdate(site, exchange.task.sha256_of[site], share) for site, share in shares.items()),
    )
