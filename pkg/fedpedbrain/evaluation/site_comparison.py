"""Tables of sites: the worst and the best one, what each gains by joining, and who does how well where."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from fedpedbrain.base.cases import TEST
from fedpedbrain.evaluation.case_values import estimate, paired_values
from fedpedbrain.evaluation.diagnosis_scores import GroupScores
from fedpedbrain.evaluation.tables import CROSS_SITE_COLUMNS, GAIN_COLUMNS, POOLED_SCOPE, SITE_COLUMNS
from fedpedbrain.study.metric_facts import HIGHER, METRICS, ZERO

# With one or two, a site's mean is this patient or that one: the smallest site would be worst and best in turn.
MIN_PATIENTS_OF_SITE = 3
ONE_SITE, ALL_BUT_ONE, ALL_SITES = "one site", "all but one", "all sites"
# Of a model made elsewhere, nobody knows whose cases it learnt from.
ELSEWHERE = "elsewhere"


def site_gaps(summary: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Worst and best site of every arm and measure, among sites that trained and their test patients.

    The gap of a few noisy means is above 0 even where all sites are alike; sites with fewer than
    ``MIN_PATIENTS_OF_SITE`` patients are left out and counted.
    """
    is_site = (summary["split"] == TEST) & (summary["scope"] != POOLED_SCOPE) & summary["value"].notna()
    rows = []
    for (arm, target, metric), group in summary[is_site].groupby(["arm", "target", "metric"], observed=True):
        better = METRICS[metric].better
        large = group[group["num_patients"] >= MIN_PATIENTS_OF_SITE]
        if better == ZERO or target in classes or len(large) < 2:
            continue
        ranked = large.sort_values("value", ascending=better == HIGHER, kind="stable")
        worst, best = ranked.iloc[0], ranked.iloc[-1]
        rows.append(
            {"arm": arm, "target": target, "metric": metric, "better": better}
            | {"num_sites": len(large), "num_too_small": len(group) - len(large)}
            | {"worst_site": worst["scope"], "worst": worst["value"]}
            | {"best_site": best["scope"], "best": best["value"], "gap": abs(best["value"] - worst["value"])}
        )
    return pd.DataFrame(rows, columns=SITE_COLUMNS)


def joining_gains(
    values: pd.DataFrame,
    diagnosed: Mapping[tuple[str, str], Mapping[str, GroupScores]],
    arms: Mapping[str, Sequence[str]],
    settings: Mapping[str, Any],
) -> pd.DataFrame:
    """What each site gains: every arm of several sites less the site's own local arm, paired, on its test patients.

    Parameters
    ----------
    values : one value a case, seed, target and metric, see ``case_values``
    diagnosed : (scope, split) to arm to its scores, see ``score_diagnoses``
    arms : arm to the sites that it learns from
    """
    local_arms = {sites[0]: arm for arm, sites in arms.items() if len(sites) == 1}
    rows = []
    for arm, sites in arms.items():
        for site in [site for site in sites if len(sites) > 1 and site in local_arms]:
            part = values[(values["site"] == site) & (values["split"] == TEST)]
            found = [
                {"target": target, "metric": metric, "empty_rule": METRICS[metric].empty_rule}
                | estimate(group, settings)
                for (target, metric), group in paired_values(part, arm, local_arms[site]).groupby(["target", "metric"])
            ]
            scores = diagnosed.get((site, TEST), {})
            if arm in scores:
                found += scores[arm].less(scores[local_arms[site]]).estimates(settings["confidence_level"])
            place = {"arm": arm, "local_arm": local_arms[site], "site": site}
            rows += [place | row | {"gain": row["value"]} for row in found]
    return pd.DataFrame(rows, columns=GAIN_COLUMNS)


def cross_sites(summary: pd.DataFrame, arms: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Every arm at every site: what it was trained on, and how it does there.

    ``kind`` picks the cross-site matrix (``ONE_SITE``) and the arms that leave a site out (``ALL_BUT_ONE``);
    ``is_own_site`` says whether the arm learnt from the site that it is tested on, and split ``external`` where nobody
    did.

    Parameters
    ----------
    arms : arm to the sites that it learns from
    """
    everyone = {site for sites in arms.values() for site in sites}
    table = summary[summary["scope"] != POOLED_SCOPE].rename(columns={"scope": "tested_on"})
    names = table["arm"].astype(str)
    own = [site in arms[arm] for arm, site in zip(names, table["tested_on"], strict=True)]
    return table.assign(
        kind=names.map({arm: _kind(sites, everyone) for arm, sites in arms.items()}),
        trained_on=names.map({arm: ";".join(sites) for arm, sites in arms.items()}),
        is_own_site=pd.Series(own, index=table.index, dtype=int),
    )[list(CROSS_SITE_COLUMNS)]


def _kind(sites: Sequence[str], everyone: set[str]) -> str:
    if not sites:
        return ELSEWHERE
    if len(sites) == 1:
        return ONE_SITE
    return ALL_SITES if len(sites) == len(everyone) else ALL_BUT_ONE
