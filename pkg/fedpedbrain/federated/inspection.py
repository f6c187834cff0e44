"""What single updates of a round look like beside each other: how long, and whether they point the same way."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import sha256_of_file, write_table
from fedpedbrain.base.lineage import MISSING, Lineage
from fedpedbrain.federated.exchange.encoding import decode
from fedpedbrain.federated.exchange.updates import parameter_names
from fedpedbrain.models.files import load_model_file

logger = logging.getLogger(__name__)

INSPECTION_COLUMNS = (
    "arm",
    "seed",
    "round",
    "site",
    "missing",
    "share",
    "num_cases",
    "num_steps",
    "norm",
    "cosine_to_mean",
    "cosine_to_others",
    "update_bytes",
)


@dataclass(frozen=True)
class Comparison:
    """A site's difference to where it started from, beside those of the round's other sites.

    Attributes
    ----------
    norm : its L2 norm
    cosine_to_mean : to the weighted mean of all sites' differences
    cosine_to_others : to the weighted mean of the other sites' differences; nan where there is none, as both are where
        a difference is zero
    """

    norm: float
    cosine_to_mean: float
    cosine_to_others: float


@dataclass(frozen=True)
class InspectionFiles:
    """What the inspection of a round reads and writes.

    Attributes
    ----------
    start : the model that the round started from
    updates : site to update, in the order of the sites' names
    result : the global model that was made of them
    table : written
    """

    start: str | Path
    updates: Mapping[str, str | Path]
    result: str | Path
    table: str | Path


def _cosine(product: float, square: float, other_square: float) -> float:
    if square == 0.0 or other_square == 0.0:
        return math.nan
    return max(-1.0, min(1.0, product / math.sqrt(square) / math.sqrt(other_square)))


def compare_differences(
    read: Callable[[str], Mapping[str, Tensor]], factors: Mapping[str, float]
) -> dict[str, Comparison]:
    """Compare the differences of a round's sites, read one at a time, each twice.

    Parameters
    ----------
    read : gives the difference of a site, floating-point tensors by name
    factors : how much each site counts in the mean, 0 or more, not 0 for all
    """
    sums: dict[str, Tensor] = {}
    for site, factor in factors.items():
        for name, tensor in read(site).items():
            if name not in sums:
                sums[name] = torch.zeros(tensor.shape, dtype=torch.float64)
            sums[name].add_(tensor, alpha=factor)
    sum_square = math.fsum(total.square().sum().item() for total in sums.values())
    comparisons = {}
    for site, factor in factors.items():
        square = with_sum = with_rest = rest_square = 0.0
        for name, tensor in read(site).items():
            own = tensor.double()
            # Not from the products with the sum: beside an update that is far longer than the others nothing is left.
            rest = sums[name] - factor * own
            square += own.square().sum().item()
            with_sum += (own * sums[name]).sum().item()
            with_rest += (own * rest).sum().item()
            rest_square += rest.square().sum().item()
        is_alone = not any(other for name, other in factors.items() if name != site)
        comparisons[site] = Comparison(
            math.sqrt(square),
            _cosine(with_sum, square, sum_square),
            math.nan if is_alone else _cosine(with_rest, square, rest_square),
        )
    return comparisons


class _Round:
    """The updates of one round, of which the global model says that it was made of them."""

    def __init__(self, files: InspectionFiles, exchange: Mapping[str, Any], is_chain: bool) -> None:
        self.files, self.exchange, self.is_chain = files, exchange, is_chain
        self.start = load_model_file(files.start)
        # The result's weights are not needed.
        self.lineage = load_model_file(files.result).lineage
        self.shares = {update.site: update.weight for update in self.lineage.updates}
        self.names = parameter_names(self.start)

    def lineage_of(self, site: str) -> Lineage | None:
        """Where a site's update comes from; None for a site that sent none."""
        path = self.files.updates[site]
        lineage = load_model_file(path).lineage
        if lineage.kind == MISSING and site not in self.shares:
            return None
        averaged = {update.site: update.sha256 for update in self.lineage.updates}
        if sha256_of_file(path) != averaged.get(site):
            raise StudyError(
                f"{path}: not the update that {self.files.result} was made of; delete that model and run again"
            )
        return lineage

    def difference(self, site: str) -> dict[str, Tensor]:
        """A site's parameters less those that it went on from."""
        weights, start = self._weights(site), self.start.weights
        if self.is_chain:
            sites = list(self.shares)
            place = sites.index(site)
            start = self._weights(sites[place - 1]) if place else start
        return {name: weights[name].double() - start[name].double() for name in self.names}

    def _weights(self, site: str) -> Mapping[str, Tensor]:
        update = load_model_file(self.files.updates[site])
        if any(update.weights[name].dtype == torch.int64 for name in self.names):
            raise StudyError(f"{self.files.updates[site]}: masked for a secure sum, which nobody can read alone")
        return decode(update.weights, update.sent, self.start.weights, self.exchange)

    def factors(self) -> dict[str, float]:
        """How much sites count in the mean: their shares, in a chain, where only the last one's is not 0, all alike."""
        return dict.fromkeys(self.shares, 1.0) if self.is_chain else self.shares


def inspect_updates_files(files: InspectionFiles, exchange: Mapping[str, Any], is_chain: bool) -> None:
    """Write one row a site: its share in the average, its length, and how well it agrees with the other sites.

    Parameters
    ----------
    exchange : the arm's ``exchange`` block
    is_chain : every site went on from the update of the site before it
    """
    inspected = _Round(files, exchange, is_chain)
    lineages = {site: inspected.lineage_of(site) for site in sorted(files.updates)}
    found = compare_differences(inspected.difference, inspected.factors())
    rows = []
    for site, lineage in lineages.items():
        of = inspected.lineage
        row = {"arm": of.arm, "seed": of.seed, "round": of.round, "site": site, "missing": int(lineage is None)}
        if lineage is not None:
            compared = found[site]
            to_others = compared.cosine_to_others
            logger.info("site %s: length %.4g, cosine to the others %.3f", site, compared.norm, to_others)
            row |= {
                "share": inspected.shares[site],
                "num_cases": lineage.num_cases,
                "num_steps": lineage.num_steps,
                "norm": compared.norm,
                "cosine_to_mean": _known(compared.cosine_to_mean),
                "cosine_to_others": _known(to_others),
                "update_bytes": Path(files.updates[site]).stat().st_size,
            }
        rows.append(row)
    write_table(files.table, INSPECTION_COLUMNS, rows)


def _known(value: float) -> float | str:
    """Nothing where there is no number."""
    return "" if math.isnan(value) else value
