"""One site's work in one round: from the round's start to an update, a site state and a few numbers."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedpedbrain.base.cases import TRAIN, Shard
from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import sha256_of_file, write_json
from fedpedbrain.base.lineage import MISSING, Lineage, digest_of
from fedpedbrain.base.seeds import derive_seed
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.data.grid.partition import rows_of_part
from fedpedbrain.federated.exchange.encoding import encode
from fedpedbrain.federated.exchange.privacy import clip_difference
from fedpedbrain.federated.exchange.secure_sum import mask, read_key, to_fixed_point
from fedpedbrain.federated.exchange.updates import count_of, is_finite, masking_context
from fedpedbrain.federated.state import ServerState, SiteState, load_state, save_state
from fedpedbrain.federated.strategies.proximal_rule import ProximalRule
from fedpedbrain.federated.strategies.strategy import SiteRule, Strategy, build_strategy
from fedpedbrain.models.files import ModelFile, load_model_file, save_model_file
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

# Times that a site tries to train before a round that may goes on without it.
_TRIES = 2


@dataclass(frozen=True)
class SiteFiles:
    """What a site's round reads and writes.

    Attributes
    ----------
    start : the model that it goes on from
    shards : those that it trains on
    state, server_state : of the round before, None where there is none or none is needed
    secret_key, public_keys : of a secure sum: its own, and of each site of the round
    update, new_state, metrics : written; the state stays at the site
    """

    start: str | Path
    shards: Sequence[Shard]
    update: str | Path
    new_state: str | Path
    metrics: str | Path
    state: str | Path | None = None
    server_state: str | Path | None = None
    secret_key: str | Path | None = None
    public_keys: Mapping[str, str | Path] = field(default_factory=dict)


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


def _check_start(start: ModelFile, path: str | Path, work: SiteRound, plan: SitePlan) -> None:
    """Refuse to train from a model of another arm, round or setting."""
    found, wanted = start.lineage, plan.start
    if (found.kind, found.site) != (wanted["kind"], wanted["site"]):
        raise StudyError(
            f"{path}: expected kind {wanted['kind']!r} and site {wanted['site']!r}, found {found.kind!r} and "
            f"{found.site!r}; delete it and run again"
        )
    if found.seed != work.seed or found.round not in wanted["rounds"]:
        rounds = " or ".join(map(str, wanted["rounds"]))
        raise StudyError(
            f"{path}: expected seed {work.seed} and round {rounds}, found {found.seed} and {found.round}; delete it "
            "and run again"
        )
    if found.kind != "initial" and (found.arm, found.settings_digest) != (work.arm, plan.digest):
        raise StudyError(
            f"{path}: expected a model of arm {work.arm!r} with settings {plan.digest[:12]}, found arm "
            f"{found.arm!r} with {found.settings_digest[:12]}; delete it and run again"
        )


def _check_cases(dataset: ShardDataset, sites: Sequence[str], who: str) -> None:
    """Refuse cases of a site that the participant has nothing to do with."""
    for case in dataset.cases:
        if case.site not in sites:
            raise StudyError(
                f"{who}: expected cases of {', '.join(sites)} in its shards, found {case.case} of {case.site}; delete "
                "the shards and run again"
            )


class _SiteRun:
    """One site's round in memory."""

    def __init__(self, files: SiteFiles, work: SiteRound, plan: SitePlan, device: torch.device) -> None:
        self.work, self.plan, self.device = work, plan, device
        self.who = f"arm {work.arm}, site {work.site}, round {work.round}"
        self.start = load_model_file(files.start)
        _check_start(self.start, files.start, work, plan)
        self.dataset = ShardDataset(files.shards, {TRAIN})
        _check_cases(self.dataset, plan.cases_of, self.who)
        # All sites together draw as the site where there is one alone, so that training is the same step for step.
        self.draws = replace(work, site=plan.cases_of[0]) if len(plan.cases_of) == 1 else work
        if plan.part_of is not None:
            self.dataset = self.dataset.select(rows_of_part(self.dataset.cases, plan.part_of, work.site, work.seed))
        if not len(self.dataset):
            raise StudyError(
                f"site {work.site}: no training case; give it cases, or make cohort.splits' fractions smaller"
            )
        owner = {"arm": work.arm, "seed": work.seed, "settings_digest": plan.digest}
        mine = owner | {"site": work.site}
        self.state = SiteState(**mine, round=work.round)
        if files.state is not None:
            self.state = load_state(SiteState, files.state, mine | {"round": plan.state_round})
        self.broadcast = {}
        if files.server_state is not None:
            self.broadcast = load_state(ServerState, files.server_state, owner | {"round": work.round - 1}).kept
        self.rate = learning_rate_of_round(plan.learning_rate, plan.training["schedule"], work.round)
        self.strategy = build_strategy(plan.arm["strategy"])

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
                restore_site_state(optimizer, optimizer_state, self.rate)
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

    def lineage(self, start_sha256: str) -> Lineage:
        """History of the update."""
        steps_an_epoch = -(-len(self.dataset) // self.plan.training["batch_size"])
        return replace(
            self.start.lineage,
            kind="update",
            arm=self.work.arm,
            round=self.work.round,
            site=self.work.site,
            num_cases=len(self.dataset),
            num_steps=self.plan.training["epochs_per_round"] * steps_an_epoch,
            settings_digest=self.plan.digest,
            parent_sha256=start_sha256,
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


def _masked(
    run: _SiteRun, weights: Mapping[str, Tensor], lineage: Lineage, files: SiteFiles
) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """The update of a secure sum: fixed-point numbers under the masks shared with the round's other sites."""
    count = count_of(lineage, run.plan.arm["weighting"])
    fixed = to_fixed_point(weights, count, len(run.plan.sites))
    public_keys = {site: read_key(path) for site, path in files.public_keys.items()}
    context = masking_context(lineage, public_keys)
    return mask(fixed, run.work.site, read_key(files.secret_key), public_keys, context), {}, {}


def train_site_files(files: SiteFiles, work: SiteRound, plan: SitePlan, device: torch.device) -> None:
    """Train one site for one round and write its update, its state and its metrics."""
    run = _SiteRun(files, work, plan, device)
    logger.info("%s, %d cases, learning rate %g, on %s", work, len(run.dataset), run.rate, device)
    own = {name: run.state.personal[name] for name in run.personal_names() if name in run.state.personal}
    rule = run.strategy.site_rule(run.start.weights, run.state.kept, run.broadcast)
    weights, optimizer, losses = run.train({**run.start.weights, **own}, run.state.optimizer, rule)
    personal = {"personal": {name: weights[name] for name in sorted(run.personal_names())}}
    personal |= _train_personal(run, run.strategy)
    lineage = run.lineage(sha256_of_file(files.start))
    weights, norm = _clip(run, weights, weights)
    # What a site remembers of its update is what the server sees of it.
    kept, sent = rule.finish(weights)
    if plan.arm["privacy"]["secure_sum"]:
        tensors, beside, residual = _masked(run, weights, lineage, files)
    else:
        tensors, beside, residual = encode(weights, run.start.weights, plan.arm["exchange"], run.state.residual)
    save_model_file(files.update, ModelFile(run.start.spec, lineage, tensors, sent | beside), packed=True)
    state = replace(run.state, round=work.round, optimizer=optimizer, kept=kept, residual=residual, **personal)
    save_state(files.new_state, state)
    write_json(
        files.metrics,
        {
            "arm": work.arm,
            "seed": work.seed,
            "round": work.round,
            "site": work.site,
            "num_cases": lineage.num_cases,
            "num_steps": lineage.num_steps,
            "learning_rate": run.rate,
            "epoch_losses": losses,
            "update_norm": norm,
            "update_bytes": Path(files.update).stat().st_size,
            "update_sha256": sha256_of_file(files.update),
            "state_sha256": sha256_of_file(files.new_state),
        },
    )


def run_site_round(
    files: SiteFiles,
    work: SiteRound,
    plan: SitePlan,
    device: torch.device,
    attempt: int = 1,
    may_be_missing: bool = False,
) -> None:
    """Train; where that has failed twice already and the round may go on without the site, say so instead.

    Parameters
    ----------
    attempt : from 1
    may_be_missing : whether the round may go on without the site
    """
    if attempt > _TRIES and may_be_missing:
        report_missing_files(files, work, plan)
    else:
        train_site_files(files, work, plan, device)


def report_missing_files(files: SiteFiles, work: SiteRound, plan: SitePlan) -> None:
    """Record that a site takes no part in a round because its training failed; its state stays as it was."""
    start = load_model_file(files.start)
    _check_start(start, files.start, work, plan)
    owner = {"arm": work.arm, "seed": work.seed, "site": work.site, "settings_digest": plan.digest}
    state = SiteState(**owner, round=work.round)
    if files.state is not None:
        before = load_state(SiteState, files.state, owner | {"round": plan.state_round})
        state = replace(before, round=work.round)
    lineage = replace(
        start.lineage,
        kind=MISSING,
        arm=work.arm,
        round=work.round,
        site=work.site,
        num_cases=0,
        num_steps=0,
        settings_digest=plan.digest,
        parent_sha256=sha256_of_file(files.start),
        updates=(),
    )
    logger.warning("arm %s, round %d: goes on without site %s, whose training failed", work.arm, work.round, work.site)
    save_model_file(files.update, ModelFile(start.spec, lineage, {}))
    save_state(files.new_state, state)
    who = {"arm": work.arm, "seed": work.seed, "round": work.round, "site": work.site}
    write_json(
        files.metrics,
        who
        | {
            "num_cases": 0,
            "num_steps": 0,
            "missing": True,
            "update_bytes": 0,
            "update_sha256": sha256_of_file(files.update),
            "state_sha256": sha256_of_file(files.new_state),
        },
    )
