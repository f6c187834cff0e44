"""A site's round from files to files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from fedpedbrain.base.cases import TRAIN, Shard
from fedpedbrain.base.files import sha256_of_file
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.federated.exchange.secure_sum import read_key
from fedpedbrain.federated.site import SitePlan, SiteResult, SiteTask, SumKeys, missing_site, train_site_round
from fedpedbrain.federated.site_metrics import write_site_metrics
from fedpedbrain.federated.state import ServerState, SiteState, load_state, save_state
from fedpedbrain.models.files import load_model_file, save_model_file
from fedpedbrain.training.batches import SiteRound

# Times that a site tries to train before a round that may goes on without it.
_TRIES = 2


@dataclass(frozen=True)
class SiteFiles:
    """What a site's round reads and writes.

    Attributes
    ----------
    start : the model that it continues from
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


def _read_task(files: SiteFiles, work: SiteRound, plan: SitePlan) -> SiteTask:
    """What the files hold that a round continues from; keys apart."""
    return SiteTask(
        work,
        plan,
        load_model_file(files.start),
        sha256_of_file(files.start),
        None if files.state is None else load_state(SiteState, files.state),
        None if files.server_state is None else load_state(ServerState, files.server_state),
        names={name: str(getattr(files, name)) for name in ("start", "state", "server_state")},
    )


def _read_keys(files: SiteFiles) -> SumKeys | None:
    if files.secret_key is None:
        return None
    return SumKeys(read_key(files.secret_key), {site: read_key(path) for site, path in files.public_keys.items()})


def _write_result(files: SiteFiles, result: SiteResult) -> None:
    """Write update, state and metrics, which note what the other two are."""
    is_missing = result.metrics.missing
    save_model_file(files.update, result.update, packed=not is_missing)
    save_state(files.new_state, result.state)
    metrics = replace(
        result.metrics,
        update_bytes=0 if is_missing else Path(files.update).stat().st_size,
        update_sha256=sha256_of_file(files.update),
        state_sha256=sha256_of_file(files.new_state),
    )
    write_site_metrics(files.metrics, metrics)


def train_site_files(files: SiteFiles, work: SiteRound, plan: SitePlan, device: torch.device) -> None:
    """Train one site for one round and write its update, its state and its metrics."""
    task = replace(_read_task(files, work, plan), keys=_read_keys(files))
    _write_result(files, train_site_round(task, ShardDataset(files.shards, {TRAIN}), device))


def report_missing_files(files: SiteFiles, work: SiteRound, plan: SitePlan) -> None:
    """Record that a site takes no part in a round because its training failed; its state stays as it was."""
    _write_result(files, missing_site(_read_task(files, work, plan)))


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
