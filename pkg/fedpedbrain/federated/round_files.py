"""The averaging of a round from files to files: nothing is held whole that can be read part by part."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from fedpedbrain.base.files import sha256_of_file, write_json
from fedpedbrain.federated.rounds import RoundPlan, RoundTask, combine_round
from fedpedbrain.federated.site_metrics import read_site_metrics, write_round_metrics
from fedpedbrain.federated.state import ServerState, load_state, save_state
from fedpedbrain.models.files import RecentPartsOnly, load_model_file, save_model_file

Value = TypeVar("Value")


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


class _OnDemand(Mapping[str, Value]):
    """A value of each site, made when it is asked for and not kept."""

    def __init__(self, sites: Iterable[str], make: Callable[[str], Value]) -> None:
        self._sites, self._make = dict.fromkeys(sites), make

    def __getitem__(self, site: str) -> Value:
        return self._make(site)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sites)

    def __len__(self) -> int:
        return len(self._sites)


def _read_task(files: RoundFiles, arm: str, seed: int, round_number: int, plan: RoundPlan) -> RoundTask:
    """The round's models mapped, not read; their digests are computed beside what reads them."""
    sites = sorted(files.updates)
    metrics = {site: read_site_metrics(files.metrics[site]) for site in sites}
    # Digests take half as long as reading, and are computed beside it.
    background = ThreadPoolExecutor(2)
    parent_sha256 = background.submit(sha256_of_file, files.parent)
    digests = {site: background.submit(sha256_of_file, files.updates[site]) for site in sites}
    background.shutdown(wait=False)
    read = partial(load_model_file, mapped=True, checked=False)
    return RoundTask(
        arm,
        seed,
        round_number,
        plan,
        read(files.parent),
        parent_sha256.result(),
        _OnDemand(sites, lambda site: read(files.updates[site])),
        _OnDemand(sites, lambda site: digests[site].result()),
        metrics,
        None if files.state is None else load_state(ServerState, files.state),
        RecentPartsOnly,
        {site: str(path) for site, path in files.updates.items()},
        str(files.state),
    )


def aggregate_round_files(files: RoundFiles, arm: str, seed: int, round_number: int, plan: RoundPlan) -> None:
    """Combine one round's updates into the next global model, as the arm's strategy does, and write what it is."""
    task = _read_task(files, arm, seed, round_number, plan)
    result = combine_round(task)
    save_model_file(files.result, result.model)
    save_state(files.new_state, result.state)
    digests = {"model_sha256": sha256_of_file(files.result), "state_sha256": sha256_of_file(files.new_state)}
    write_json(files.lineage, {**digests, "lineage": result.model.lineage.to_dict()})
    write_round_metrics(files.all_metrics, task.metrics.values())
