"""One site's round in memory: from the round's start to an update, a site state and a few numbers."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.lineage import MISSING, Lineage, digest_of
from fedpedbrain.base.seeds import derive_seed
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.data.grid.partition import rows_of_part
from fedpedbrain.federated.exchange.encoding import encode
from fedpedbrain.federated.exchange.privacy import clip_difference
from fedpedbrain.federated.exchange.secure_sum import mask, to_fixed_point
from fedpedbrain.federated.exchange.updates import count_of, is_finite, masking_context
from fedpedbrain.federated.site_metrics import SiteMetrics
from fedpedbrain.federated.state import ServerState, SiteState, check_owner
from fedpedbrain.federated.strategies.proximal_rule import ProximalRule
from fedpedbrain.federated.strategies.strategy import Memory, SiteRule, Strategy, build_strategy
from fedpedbrain.models.files import ModelFile
from fedpedbrain.study.training_facts import samples_of_epoch
from fedpedbrain.training.batches import SiteRound
from fedpedbrain.training.epochs import train_model
from fedpedbrain.training.execution import (
    batch_statistics_names,
    explained_memory,
    freeze_batch_statistics,
    prepare_training,
)
from fedpedbrain.training.optimizers import build_optimizer, restore_site_state, site_state_of
from fedpedbrain.training.private import is_private
from fedpedbrain.training.schedules import learning_rate_of_round

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SitePlan:
    """How a site's round goes: the config's part, as plain values.

    Attributes
    ----------
    training : the ``training`` block
    arm : ``strategy``, ``weighting``, ``optimizer_state``, ``batch_norm``, ``exchange`` and ``privacy`` of the arm
    digest : settings digest of the arm
    learning_rate : before the schedule
    start : ``kind``, ``rounds`` and ``site`` that the model it goes on from may have
    state_round : round of its site state, None for none
    sites : who takes part in the round
    cases_of : sites whose cases it trains on, its own alone but for a pooled or a repartitioned one
    part_of : sites among which all cases are shared out at random, None where every site has its own
    """

    training: Mapping[str, Any]
    arm: Mapping[str, Any]
    digest: str
    learning_rate: float
    start: Mapping[str, Any]
    state_round: int | None
    sites: Sequence[str]
    cases_of: Sequence[str]
    part_of: Sequence[str] | None = None


@dataclass(frozen=True)
class SumKeys:
    """A site's keys of one secure sum, 32 bytes each: its own secret one, and the public one of each site in it."""

    secret: bytes
    public: Mapping[str, bytes]


@dataclass(frozen=True)
class SiteTask:
    """What a site's round continues from. Nothing in it is changed.

    Attributes
    ----------
    work, plan : which round, and how it goes
    start : the model that the site continues from
    start_sha256 : of that model's file, as the server knows it; the update's history carries it
    state : the site's after the last round that it took part in, None where there is none
    server_state : the server's after the round before, None where the strategy broadcasts none or there is none
    keys : None where the arm does not sum securely
    names : what errors call ``start``, ``state`` and ``server_state``, such as the paths of their files
    """

    work: SiteRound
    plan: SitePlan
    start: ModelFile
    start_sha256: str
    state: SiteState | None = None
    server_state: ServerState | None = None
    keys: SumKeys | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def who(self) -> str:
        """Arm, site and round, for messages."""
        return f"arm {self.work.arm}, site {self.work.site}, round {self.work.round}"

    @property
    def owner(self) -> dict[str, Any]:
        """What every state of the arm and seed says of itself."""
        return {"arm": self.work.arm, "seed": self.work.seed, "settings_digest": self.plan.digest}

    def name_of(self, part: str) -> str:
        """What errors call a part of the task."""
        return self.names.get(part, f"{self.who}, {part}")


@dataclass(frozen=True)
class SiteResult:
    """What comes of a site's round.

    Attributes
    ----------
    update : as it travels to the server
    state : stays at the site, for its next round
    metrics : its numbers; ``update_sha256`` is the caller's to fill in, where the update becomes a file
    """

    update: ModelFile
    state: SiteState
    metrics: SiteMetrics


def _check_start(task: SiteTask) -> None:
    """Refuse to train from a model of another arm, round or setting."""
    found, wanted, name, work = task.start.lineage, task.plan.start, task.name_of("start"), task.work
    if (found.kind, found.site) != (wanted["kind"], wanted["site"]):
        raise StudyError(
            f"{name}: expected kind {wanted['kind']!r} and site {wanted['site']!r}, found {found.kind!r} and "
            f"{found.site!r}; delete it and run again"
        )
    if found.seed != work.seed or found.round not in wanted["rounds"]:
        rounds = " or ".join(map(str, wanted["rounds"]))
        raise StudyError(
            f"{name}: expected seed {work.seed} and round {rounds}, found {found.seed} and {found.round}; delete it "
            "and run again"
        )
    if found.kind != "initial" and (found.arm, found.settings_digest) != (work.arm, task.plan.digest):
        raise StudyError(
            f"{name}: expected a model of arm {work.arm!r} with settings {task.plan.digest[:12]}, found arm "
            f"{found.arm!r} with {found.settings_digest[:12]}; delete it and run again"
        )


def _state_before(task: SiteTask) -> SiteState:
    """The state that the site continues from, as of this round; refused where it is another site's or round's."""
    owner = task.owner | {"site": task.work.site}
    if task.state is None:
        return SiteState(**owner, round=task.work.round)
    check_owner(task.state, owner | {"round": task.plan.state_round}, task.name_of("state"))
    return replace(task.state, round=task.work.round)


def _broadcast(task: SiteTask) -> Memory:
    """What the server keeps and its sites need; refused where it is another round's."""
    if task.server_state is None:
        return {}
    check_owner(task.server_state, task.owner | {"round": task.work.round - 1}, task.name_of("server_state"))
    return task.server_state.kept


def _training_cases(task: SiteTask, dataset: ShardDataset) -> ShardDataset:
    """The cases that the participant trains on; refused where one is of a site that it has nothing to do with."""
    work, plan = task.work, task.plan
    for case in dataset.cases:
        if case.site not in plan.cases_of:
            raise StudyError(
                f"{task.who}: expected cases of {', '.join(plan.cases_of)} in its shards, found {case.case} of "
                f"{case.site}; delete the shards and run again"
            )
    if plan.part_of is not None:
        dataset = dataset.select(rows_of_part(dataset.cases, plan.part_of, work.site, work.seed))
    if not len(dataset):
        raise StudyError(f"site {work.site}: no training case; give it cases, or make cohort.splits' fractions smaller")
    return dataset


class _SiteRun:
    """One site's round while it is computed."""

    def __init__(self, task: SiteTask, dataset: ShardDataset, device: torch.device) -> None:
        self.task, self.work, self.plan, self.device = task, task.work, task.plan, device
        self.who, self.start = task.who, task.start
        _check_start(task)
        self.dataset = _training_cases(task, dataset)
        # All sites together draw as the site where there is one alone, so that training is the same step for step.
        cases_of = self.plan.cases_of
        self.draws = replace(self.work, site=cases_of[0]) if len(cases_of) == 1 else self.work
        self.state, self.broadcast = _state_before(task), _broadcast(task)
        self.rate = learning_rate_of_round(self.plan.learning_rate, self.plan.training["schedule"], self.work.round)
        self.strategy = build_strategy(self.plan.arm["strategy"])

    def train(
        self, weights: Mapping[str, Tensor], optimizer_state: dict[str, Any] | None, rule: SiteRule
    ) -> tuple[dict[str, Tensor], dict[str, Any] | None, list[float]]:
        """Train from weights for the round's epochs; returns weights, the optimizer's state if kept, and losses."""
        torch.manual_seed(derive_seed(self.draws.seed, "training", self.draws.round, self.draws.site))
        settings, keeps = self.plan.training, self.plan.arm["optimizer_state"] == "kept"
        privacy = self.plan.arm["privacy"]["example_level"]
        with explained_memory(self.who, settings, self.start.spec.preprocessing["grid"], is_private(privacy)):
            model = self.start.spec.build()
            model.load_state_dict(weights)
            model = prepare_training(model, settings, self.device)
            if self.plan.arm["batch_norm"] == "frozen":
                freeze_batch_statistics(model)
            trained = [weight for weight in model.parameters() if weight.requires_grad]
            optimizer = build_optimizer(trained, settings["optimizer"], self.rate)
            if keeps and optimizer_state is not None:
                # Steps change what it holds in place.
                restore_site_state(optimizer, deepcopy(optimizer_state), self.rate)
            classes = self.start.spec.classes
            losses = train_model(
                model, optimizer, self.dataset, classes, settings, self.draws, self.device, rule.correct, privacy
            )
        after = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
        broken = next((name for name, tensor in after.items() if not is_finite(tensor)), None)
        if broken is not None:
            raise StudyError(
                f"{self.who}: training diverged, {broken} holds NaN or infinite values; lower the learning rate"
            )
        return after, site_state_of(optimizer) if keeps else None, losses

    def personal_names(self) -> set[str]:
        """Entries of which the site goes on from its own."""
        model = self.start.spec.build()
        names = self.strategy.personal_names(model)
        return names | batch_statistics_names(model) if self.plan.arm["batch_norm"] == "local" else names

    def lineage(self) -> Lineage:
        """History of the update."""
        samples = samples_of_epoch(len(self.dataset), self.plan.training)
        steps_an_epoch = -(-samples // self.plan.training["batch_size"])
        return replace(
            self.start.lineage,
            kind="update",
            arm=self.work.arm,
            round=self.work.round,
            site=self.work.site,
            num_cases=len(self.dataset),
            num_steps=self.plan.training["epochs_per_round"] * steps_an_epoch,
            settings_digest=self.plan.digest,
            parent_sha256=self.task.start_sha256,
            cases_sha256=digest_of({case.case: case.sha256 for case in self.dataset.cases}),
            updates=(),
        )


def _train_personal(run: _SiteRun, strategy: Strategy) -> dict[str, Any]:
    """Train the site's own model beside the common one: the part of the site state that holds it."""
    if strategy.personal_pull is None:
        return {}
    rule = ProximalRule(run.start.weights, strategy.personal_pull)
    before = run.state.personal or run.start.weights
    weights, optimizer, _ = run.train(before, run.state.personal_optimizer, rule)
    return {"personal": weights, "personal_optimizer": optimizer}


def _clip(run: _SiteRun, weights: dict[str, Tensor], names: Iterable[str]) -> tuple[dict[str, Tensor], float]:
    """Shorten the difference to the round's start, all of it; returns its length before, too."""
    start = run.start.weights
    difference = {name: weights[name] - start[name] for name in names if weights[name].is_floating_point()}
    clip_norm = run.plan.arm["privacy"]["clip_norm"]
    clipped, norm = clip_difference(difference, float("inf") if clip_norm is None else clip_norm)
    if clip_norm is None or norm <= clip_norm:
        return weights, norm
    return weights | {name: start[name] + value for name, value in clipped.items()}, norm


def _masked(run: _SiteRun, weights: Mapping[str, Tensor], lineage: Lineage) -> dict[str, Tensor]:
    """The update of a secure sum: fixed-point numbers under the masks shared with the round's other sites."""
    keys = run.task.keys
    if keys is None:
        raise StudyError(f"{run.who}: expected the site's keys of a secure sum, found none; make keys for each site")
    fixed = to_fixed_point(weights, count_of(lineage, run.plan.arm["weighting"]), len(run.plan.sites))
    return mask(fixed, run.work.site, keys.secret, keys.public, masking_context(lineage, keys.public))


def train_site_round(task: SiteTask, dataset: ShardDataset, device: torch.device) -> SiteResult:
    """Train one site for one round.

    Parameters
    ----------
    dataset : training cases of the sites that ``task.plan.cases_of`` names
    device : where it is computed; what it returns is on the CPU

    Raises
    ------
    StudyError : names arm, site and round, or the part of the task that belongs to another round
    """
    run = _SiteRun(task, dataset, device)
    work, plan = task.work, task.plan
    logger.info("%s, %d cases, learning rate %g, on %s", work, len(run.dataset), run.rate, device)
    own = {name: run.state.personal[name] for name in run.personal_names() if name in run.state.personal}
    rule = run.strategy.site_rule(run.start.weights, run.state.kept, run.broadcast)
    weights, optimizer, losses = run.train({**run.start.weights, **own}, run.state.optimizer, rule)
    personal = {"personal": {name: weights[name] for name in sorted(run.personal_names())}}
    personal |= _train_personal(run, run.strategy)
    lineage = run.lineage()
    weights, norm = _clip(run, weights, weights)
    # What a site remembers of its update is what the server sees of it.
    kept, sent = rule.finish(weights)
    if plan.arm["privacy"]["secure_sum"]:
        tensors, beside, residual = _masked(run, weights, lineage), {}, {}
    else:
        tensors, beside, residual = encode(weights, run.start.weights, plan.arm["exchange"], run.state.residual)
    state = replace(run.state, optimizer=optimizer, kept=kept, residual=residual, **personal)
    metrics = SiteMetrics(
        **vars(work),
        num_cases=lineage.num_cases,
        num_steps=lineage.num_steps,
        learning_rate=run.rate,
        epoch_losses=tuple(losses),
        update_norm=norm,
    )
    return SiteResult(ModelFile(run.start.spec, lineage, tensors, sent | beside), state, metrics)


def missing_site(task: SiteTask) -> SiteResult:
    """What a site leaves that takes no part in a round because its training failed; its state stays as it was."""
    _check_start(task)
    work = task.work
    lineage = replace(
        task.start.lineage,
        kind=MISSING,
        arm=work.arm,
        round=work.round,
        site=work.site,
        num_cases=0,
        num_steps=0,
        settings_digest=task.plan.digest,
        parent_sha256=task.start_sha256,
        updates=(),
    )
    logger.warning("arm %s, round %d: goes on without site %s, whose training failed", work.arm, work.round, work.site)
    metrics = SiteMetrics(**vars(work), num_cases=0, num_steps=0, missing=True)
    return SiteResult(ModelFile(task.start.spec, lineage, {}), _state_before(task), metrics)
