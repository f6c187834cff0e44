"""One exchange: check every site's update, weigh it, combine, and record where the result comes from."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import sha256_of_file, write_json
from fedpedbrain.base.lineage import MISSING, AveragedUpdate, Lineage
from fedpedbrain.base.seeds import derive_seed
from fedpedbrain.federated.exchange.encoding import Form, expected_beside, receive
from fedpedbrain.federated.exchange.privacy import noise_like, server_noise_deviation
from fedpedbrain.federated.exchange.secure_sum import from_fixed_point, sum_masked
from fedpedbrain.federated.exchange.updates import check_history, check_update, count_of, is_finite, parameter_names
from fedpedbrain.federated.state import ServerState, load_state, save_state
from fedpedbrain.federated.strategies.strategy import Combined, RoundUpdates, SiteUpdate, Weights, build_strategy
from fedpedbrain.models.files import ModelFile, RecentPartsOnly, load_model_file, save_model_file

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RoundFiles:
    """What the averaging of a round reads and writes.

    Attributes
    ----------
    parent : the model that the round started from
    updates : site to update
    metrics : site to its metrics, in which it states its update's SHA-256
    state : the server's state after the round before, None where there is none
    result, new_state : written
    lineage : written: what both are, for when they are gone
    all_metrics : written: those of all sites, in their order, for when the single ones are gone
    """

    parent: str | Path
    updates: Mapping[str, str | Path]
    metrics: Mapping[str, str | Path]
    result: str | Path
    new_state: str | Path
    lineage: str | Path
    all_metrics: str | Path
    state: str | Path | None = None


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


class _Exchange:
    """The updates of one round, checked as they are read."""

    def __init__(self, files: RoundFiles, arm: str, seed: int, round_number: int, plan: RoundPlan) -> None:
        self.files, self.plan = files, plan
        self.where = f"arm {arm}, round {round_number}"
        self.sites = sorted(files.updates)
        self.metrics = {site: json.loads(Path(files.metrics[site]).read_text(encoding="utf-8")) for site in self.sites}
        self.is_masked = plan.arm["privacy"]["secure_sum"]
        # Digests take half as long as reading, and are computed beside it.
        background = ThreadPoolExecutor(2)
        parent_sha256 = background.submit(sha256_of_file, files.parent)
        self._sha256_of = {site: background.submit(sha256_of_file, files.updates[site]) for site in self.sites}
        background.shutdown(wait=False)
        self.parent = load_model_file(files.parent, mapped=True, checked=False)
        self.expected = Lineage("update", arm, seed, round_number, "", 0, 0, plan.digest, parent_sha256.result())
        self.strategy = build_strategy(plan.arm["strategy"])
        # Of every site that sent an update.
        self.lineages: dict[str, Lineage] = {}

    @cached_property
    def parameter_names(self) -> list[str]:
        """Entries that the sites' optimizers train; only a network that is built says them, and FedAvg does not ask."""
        return parameter_names(self.parent, self.plan.freezes_encoder)

    def each_parameter_name(self) -> Iterator[str]:
        """The same, worked out once somebody goes through them."""
        yield from self.parameter_names

    def sha256_of(self, site: str) -> str:
        """Digest of a site's update."""
        return self._sha256_of[site].result()

    def check_digests(self) -> None:
        """Refuse an update that is not, byte for byte, what its site wrote."""
        for site in self.sites:
            stated = self.metrics[site]["update_sha256"]
            if self.sha256_of(site) != stated:
                raise StudyError(
                    f"{self.where}, update of site {site}: damaged, or not the site's: expected SHA-256 {stated[:12]}, "
                    f"found {self.sha256_of(site)[:12]} of {self.files.updates[site]}; delete it and run again"
                )

    def read(self, site: str) -> ModelFile | None:
        """Read and check an update; None where the site may be missing and is."""
        update = load_model_file(self.files.updates[site], mapped=True, checked=False)
        expected = replace(self.expected, site=site)
        place = self.sites.index(site)
        if self.plan.is_chain and place:
            expected = replace(expected, parent_sha256=self.sha256_of(self.sites[place - 1]))
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
                weights = receive(
                    update.weights, update.sent, self.parent.weights, self.plan.arm["exchange"], RecentPartsOnly()
                )
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


def _combine(exchange: _Exchange, kept: Mapping[str, Weights]) -> Combined:
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


def aggregate_round_files(files: RoundFiles, arm: str, seed: int, round_number: int, plan: RoundPlan) -> None:
    """Combine one round's updates into the next global model, as the arm's strategy does."""
    exchange = _Exchange(files, arm, seed, round_number, plan)
    owner = {"arm": arm, "seed": seed, "settings_digest": plan.digest}
    kept = {}
    if files.state is not None:
        kept = load_state(ServerState, files.state, owner | {"round": round_number - 1}).kept
    try:
        combined = _combine(exchange, kept)
    finally:
        # Known last, and said first: what its site did not write needs no other explanation.
        exchange.check_digests()
    broken = [name for name, tensor in combined.weights.items() if not is_finite(tensor)]
    if broken:
        raise StudyError(f"{exchange.where}: the result's {broken[0]} is not finite; lower the server's learning rate")
    lineage = _result_lineage(exchange, combined.shares)
    save_model_file(files.result, ModelFile(exchange.parent.spec, lineage, combined.weights))
    save_state(files.new_state, ServerState(**owner, round=round_number, kept=combined.kept))
    digests = {"model_sha256": sha256_of_file(files.result), "state_sha256": sha256_of_file(files.new_state)}
    write_json(files.lineage, {**digests, "lineage": lineage.to_dict()})
    write_json(files.all_metrics, list(exchange.metrics.values()))


def _result_lineage(exchange: _Exchange, shares: Mapping[str, float]) -> Lineage:
    """History of the global model, in which the sites' updates counted so much."""
    for site, share in shares.items():
        logger.info("site %s weighs %.4f", site, share)
    return replace(
        exchange.expected,
        kind="global",
        num_cases=sum(lineage.num_cases for lineage in exchange.lineages.values()),
        num_steps=sum(lineage.num_steps for lineage in exchange.lineages.values()),
        updates=tuple(AveragedUpdate(site, exchange.sha256_of(site), share) for site, share in shares.items()),
    )
