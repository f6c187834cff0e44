"""What an arm's noise is worth: epsilon of its sites and of their cases, over every round that was trained."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedpedbrain.base.files import write_json
from fedpedbrain.federated.exchange.privacy import epsilon_of
from fedpedbrain.federated.site_metrics import SiteMetrics, read_round_metrics
from fedpedbrain.training.private import is_private, sample_rate

# With fewer, the weightiest site is more than a tenth of the average, and noise that hides it is in proportion.
FEW_SITES = 10

NOT_COVERED = (
    "losses and update norms in the sites' metrics, comparisons of single updates, scores on validation patients and "
    "the choice of the best round by them, numbers of cases, and the digests of cases in lineages: all computed "
    "without noise",
    "whoever knows the seeds of the config: they give the noise away",
    "other arms and seeds on the same cases: their epsilons add up",
)


def _delta_warnings(delta: float, num_members: int, members: str) -> list[str]:
    """Say that a delta allows one member to be given away whole."""
    if delta * num_members < 1:
        return []
    return [
        f"delta {delta:g} is no less than one in {num_members} {members}, which bounds nothing; lower privacy.delta"
    ]


def account_sites(metrics: Sequence[SiteMetrics], privacy: Mapping[str, Any]) -> dict[str, Any]:
    """Epsilon of the server's noise, for the site that takes part in every round and weighs most.

    All rounds count, not only those up to the best: the best was chosen among all. Rounds of a part of the sites count
    in full: the part is of a fixed size and its draw is known to who knows the seed, so that it hides nobody.

    Parameters
    ----------
    metrics : of every round and site that sent an update
    privacy : the arm's ``privacy`` block
    """
    rounds = [item.round for item in metrics]
    num_sites = min(rounds.count(number) for number in rounds)
    warnings = _delta_warnings(privacy["delta"], num_sites, "sites")
    if num_sites < FEW_SITES:
        warnings.append(
            f"a round of {num_sites} sites, of which the weightiest is at least {1 / num_sites:.0%} of the average: "
            "too few to hide in; noise that hides a site hides as much of what all have learnt"
        )
    num_steps = len(set(rounds))
    return {
        "neighbours": "one site's update is there or not, with all weights in the average as they are",
        "clip_norm": privacy["clip_norm"],
        "noise_multiplier": privacy["noise_multiplier"],
        "sample_rate": 1.0,
        "num_steps": num_steps,
        "epsilon": epsilon_of(privacy["noise_multiplier"], 1.0, num_steps, privacy["delta"]),
        "warnings": warnings,
    }


def account_cases(metrics: Sequence[SiteMetrics], privacy: Mapping[str, Any], batch_size: int) -> dict[str, Any]:
    """Epsilon of each site's DP-SGD, and the largest as the arm's: a case is at one site.

    Parameters
    ----------
    metrics, privacy : as of ``account_sites``
    batch_size : expected number of cases of a step
    """
    multiplier, delta = privacy["example_level"]["noise_multiplier"], privacy["delta"]
    sites = {}
    for site in sorted({item.site for item in metrics}):
        of_site = [item for item in metrics if item.site == site]
        num_cases, num_steps = min(item.num_cases for item in of_site), sum(item.num_steps for item in of_site)
        rate = sample_rate(num_cases, batch_size)
        epsilon = epsilon_of(multiplier, rate, num_steps, delta)
        sites[site] = {"num_cases": num_cases, "sample_rate": rate, "num_steps": num_steps, "epsilon": epsilon}
    return {
        "neighbours": "one case of a site is there or not, with the number of cases known",
        **privacy["example_level"],
        "epsilon": max(values["epsilon"] for values in sites.values()),
        "sites": sites,
        "warnings": _delta_warnings(delta, max(values["num_cases"] for values in sites.values()), "cases of a site"),
    }


def account_privacy_files(
    metrics_paths: Sequence[str | Path],
    arm: str,
    seed: int,
    privacy: Mapping[str, Any],
    batch_size: int,
    privacy_path: str | Path,
) -> None:
    """Write what an arm's noise is worth at the levels at which it has any; null at the others.

    Parameters
    ----------
    metrics_paths : of every round, those of all its sites
    privacy, batch_size : as of ``account_cases``
    """
    sent = [item for item in read_round_metrics(metrics_paths) if not item.missing]
    write_json(
        privacy_path,
        {
            "arm": arm,
            "seed": seed,
            "delta": privacy["delta"],
            "site_level": account_sites(sent, privacy) if privacy["noise_multiplier"] > 0 else None,
            "example_level": account_cases(sent, privacy, batch_size) if is_private(privacy["example_level"]) else None,
            "not_covered": NOT_COVERED,
        },
    )
