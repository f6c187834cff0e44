"""Arms: who trains in which round, and by which rules sites and server do it.

Imported while the job graph is built, so it needs the standard library alone.
"""

import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.seeds import derive_seed
from fedpedbrain.study.strategy_facts import (
    STRATEGIES,
    WITHOUT_EXCHANGE,
    StrategyFacts,
    meaningless_without_exchange,
    merged_block,
)

POOLED_SITE = "pooled"


@dataclass(frozen=True)
class Phase:
    """Rounds of the same sites.

    Attributes
    ----------
    first_round, last_round : from 1; the last phase has no last round
    sites : who may take part
    learning_rate : of this phase, None for the study's
    start : ``last`` or ``best``: which model of the phase before it goes on from
    """

    first_round: int
    last_round: int | None
    sites: tuple[str, ...]
    learning_rate: float | None
    start: str


@dataclass(frozen=True)
class Arm:
    """One way of training.

    Attributes
    ----------
    name : as in paths and tables
    shards_of : participant to the sites whose shards it trains on; a federated participant is one site
    block : the arm's settings, ``arm_defaults`` and its own merged; its ``training`` and ``network`` are a recipe's
    is_repartitioned : participants share all cases out at random, each as many as the site of its name has
    size_of : number of cases of each site, asked for only where phases speak of the largest sites
    """

    name: str
    shards_of: dict[str, list[str]]
    block: Mapping[str, Any]
    is_repartitioned: bool
    size_of: Callable[[], Mapping[str, int]]

    @property
    def sites(self) -> list[str]:
        """Every site whose cases the arm learns from."""
        return sorted({site for sites in self.shards_of.values() for site in sites})

    @property
    def participants(self) -> list[str]:
        """Who sends updates, in the order in which they are averaged."""
        return sorted(self.shards_of)

    @property
    def strategy(self) -> Mapping[str, Any]:
        """Name and every option of the strategy."""
        return {**STRATEGIES[self.block["strategy"]["name"]].options, **self.block["strategy"]}

    @property
    def strategy_options(self) -> dict[str, Any]:
        """Every option of the strategy."""
        return {key: value for key, value in self.strategy.items() if key != "name"}

    @property
    def facts(self) -> StrategyFacts:
        """What the job graph has to know of the strategy."""
        return STRATEGIES[self.block["strategy"]["name"]]

    @property
    def keeps_optimizer_state(self) -> bool:
        """Whether optimizers last across rounds as site state."""
        return self.block["optimizer_state"] == "kept"

    @property
    def exchanges_weights(self) -> bool:
        """Whether participants train apart and send weights; a pooled or local arm's one participant sends nothing."""
        return len(self.participants) > 1

    @property
    def is_personal(self) -> bool:
        """Whether every site is scored with weights of its own."""
        return self.facts.is_personal or self.block["batch_norm"] == "local"

    @property
    def is_cyclic(self) -> bool:
        """Whether a round goes from site to site instead of to all at once."""
        return self.facts.is_cyclic

    @property
    def is_private(self) -> bool:
        """Whether noise makes the arm differentially private."""
        privacy = self.block["privacy"]
        return privacy["noise_multiplier"] > 0 or privacy["example_level"]["noise_multiplier"] > 0

    @property
    def sums_securely(self) -> bool:
        """Whether updates are masked so that only their sum can be read."""
        return self.block["privacy"]["secure_sum"]

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the arm's result beside the study's own settings, but for who takes part in a round.

        That is in the history of every round: a later absence leaves earlier rounds as they are.
        """
        block = {key: value for key, value in self.block.items() if key not in ("participation", "training", "network")}
        block["privacy"] = {key: value for key, value in block["privacy"].items() if key != "delta"}
        return {**block, "strategy": self.strategy, "shards_of": self.shards_of, "iid": self.is_repartitioned}

    @cached_property
    def site_settings(self) -> dict[str, Any]:
        """The part that a site's round follows."""
        return self._settings_of("weighting", "optimizer_state", "batch_norm", "exchange", "privacy")

    @cached_property
    def server_settings(self) -> dict[str, Any]:
        """The part that the averaging of a round follows."""
        return self._settings_of("weighting", "exchange", "privacy")

    def _settings_of(self, *keys: str) -> dict[str, Any]:
        settings = self.settings
        return {key: settings[key] for key in (*keys, "strategy")}

    @property
    def allows_missing_sites(self) -> bool:
        """Whether a round goes on without a site whose training failed."""
        return self.block["participation"]["allow_missing_sites"]

    @property
    def minimum_sites(self) -> int:
        """The fewest updates that a round is averaged from, as asked for or as the strategy needs."""
        return max(self.block["participation"]["minimum_sites"], self.facts.fewest_sites(**self.strategy_options))

    @property
    def description(self) -> dict[str, Any]:
        """The arm in plain values, for the report."""
        return {
            **{key: value for key, value in self.block.items() if key not in ("training", "network")},
            "strategy": self.strategy,
            "strategy_words": self.facts.words.format_map(self.strategy),
            "weight_words": self.facts.weight_words,
            "keep_optimizer_state": self.keeps_optimizer_state,
            "is_repartitioned": self.is_repartitioned,
            "is_personal": self.is_personal,
            "exchanges_weights": self.exchanges_weights,
            "phases": [asdict(phase) | {"sites": list(phase.sites)} for phase in self.phases],
        }

    @cached_property
    def phases(self) -> tuple[Phase, ...]:
        """The arm's phases; one of all participants where the config names none."""
        blocks = self.block["phases"] or [{}]
        phases, first = [], 1
        for number, block in enumerate(blocks, start=1):
            rounds, is_last = block.get("rounds"), number == len(blocks)
            if (rounds is None) is not is_last:
                raise StudyError(
                    f"arms.{self.name}.phases: phase {number} of {len(blocks)} "
                    + ("takes the rounds that are left; leave its rounds out" if is_last else "needs its rounds")
                )
            if number == 1 and block.get("start") == "best":
                raise StudyError(f"arms.{self.name}.phases: phase 1 has no phase before it; leave its start out")
            last = None if is_last else first + rounds - 1
            sites = self._sites_of_phase(number, block)
            phases.append(Phase(first, last, sites, block.get("learning_rate"), block.get("start", "last")))
            first = first if is_last else last + 1
        return tuple(phases)

    def _sites_of_phase(self, number: int, block: Mapping[str, Any]) -> tuple[str, ...]:
        where = f"arms.{self.name}.phases: phase {number}"
        if "sites" in block and "largest" in block:
            raise StudyError(f"{where} has both sites and largest; keep one of them")
        if "largest" in block:
            sizes = self.size_of()
            ranked = sorted(self.participants, key=lambda site: (-sizes[site], site))
            if block["largest"] > len(ranked):
                raise StudyError(f"{where} wants {block['largest']} sites, there are {len(ranked)}; lower it")
            return tuple(sorted(ranked[: block["largest"]]))
        unknown = sorted(set(block.get("sites", ())) - set(self.participants))
        if unknown:
            raise StudyError(f"{where}: {unknown[0]!r} does not train in this arm ({', '.join(self.participants)})")
        if not block.get("sites", self.participants):
            raise StudyError(f"{where} has no site left in this arm; give it another one")
        return tuple(sorted(block.get("sites", self.participants)))

    def phase_of(self, round_number: int) -> Phase:
        """The phase that a round belongs to."""
        return next(phase for phase in self.phases if phase.last_round is None or round_number <= phase.last_round)

    def starts_from_best(self, round_number: int) -> bool:
        """Whether a round goes on from the best model of the phase before it, not from the round before."""
        phase = self.phase_of(round_number)
        return phase.start == "best" and phase.first_round == round_number > 1

    def rounds_of_phase_before(self, round_number: int) -> list[int]:
        """Rounds of the phase that ended before a round."""
        last = round_number - 1
        return list(range(self.phase_of(last).first_round, last + 1))

    def sites_in_round(self, seed: int, round_number: int) -> list[str]:
        """Who takes part in a round: of the phase's sites, those not absent, and of these a seeded draw.

        The draw depends on seed and round alone, so that arms that draw from the same sites draw the same.

        Raises
        ------
        StudyError : fewer than ``minimum_sites``
        """
        participation = self.block["participation"]
        absent = participation["absent"]
        there = [site for site in self.phase_of(round_number).sites if round_number not in absent.get(site, ())]
        wanted = max(math.ceil(participation["fraction"] * len(there) - 1e-9), participation["minimum_sites"])
        if wanted > len(there) or not there:
            raise StudyError(
                f"arms.{self.name}.participation: round {round_number} has {len(there)} of at least {max(wanted, 1)} "
                "sites; lower minimum_sites or the absences"
            )
        if wanted == len(there):
            return there
        return sorted(random.Random(derive_seed(seed, "participation", round_number)).sample(there, wanted))

    def left_out(self, seeds: Sequence[int], num_rounds: int) -> list[dict[str, Any]]:
        """Who of a phase's sites takes no part in one of its rounds, and whether it is ``absent`` or ``not drawn``."""
        absent = self.block["participation"]["absent"]
        return [
            {
                "seed": seed,
                "round": number,
                "site": site,
                "reason": "absent" if number in absent.get(site, ()) else "not drawn",
            }
            for seed in seeds
            for number in range(1, num_rounds + 1)
            for site in sorted(set(self.phase_of(number).sites) - set(self.sites_in_round(seed, number)))
        ]

    def last_round_with(self, site: str, seed: int, round_number: int) -> int | None:
        """The last round up to this one, within its phase, in which a site took part; None where there is none."""
        first = self.phase_of(round_number).first_round
        rounds = range(round_number, first - 1, -1)
        return next((number for number in rounds if site in self.sites_in_round(seed, number)), None)

    def personal_rounds(self, seed: int, round_number: int) -> dict[str, int]:
        """Sites that have weights of their own after a round, and the round that these are from; within its phase."""
        rounds = {site: self.personal_round(site, seed, round_number) for site in self.participants}
        return {site: number for site, number in rounds.items() if number is not None}

    def personal_round(self, site: str, seed: int, round_number: int) -> int | None:
        """The round that a site's own weights are from after a round; None where it has none."""
        if not self.is_personal or site not in self.participants:
            return None
        return self.last_round_with(site, seed, round_number)

    def state_round(self, site: str, seed: int, round_number: int) -> int | None:
        """The round whose site state a site goes on from; a phase starts without any."""
        if round_number == self.phase_of(round_number).first_round:
            return None
        return self.last_round_with(site, seed, round_number - 1)

    def site_before(self, site: str, seed: int, round_number: int) -> str | None:
        """Whose update a site goes on from in the same round: in a cyclic arm the one before it, else nobody's."""
        if not self.is_cyclic:
            return None
        sites = self.sites_in_round(seed, round_number)
        place = sites.index(site)
        return sites[place - 1] if place else None

    def start_of(self, site: str, seed: int, round_number: int) -> dict[str, Any]:
        """``kind``, ``rounds`` and ``site`` that the model may have which a site goes on from."""
        before = self.site_before(site, seed, round_number)
        if before is not None:
            return {"kind": "update", "rounds": [round_number], "site": before}
        if round_number == 1:
            return {"kind": "initial", "rounds": [0], "site": ""}
        best = self.starts_from_best(round_number)
        rounds = self.rounds_of_phase_before(round_number) if best else [round_number - 1]
        return {"kind": "global", "rounds": rounds, "site": ""}


def _without_others(block: Mapping[str, Any], sites: Collection[str]) -> dict[str, Any]:
    """A block that names sites, for an arm that leaves one of them out."""
    absent = {site: rounds for site, rounds in block["participation"]["absent"].items() if site in sites}
    phases = [
        phase | {"sites": [site for site in phase["sites"] if site in sites]} if "sites" in phase else phase
        for phase in block["phases"]
    ]
    return {**block, "participation": block["participation"] | {"absent": absent}, "phases": phases}


Participants = dict[str, dict[str, list[str]]]


def _pooled(name: str, sites: list[str]) -> Participants:
    return {name: {POOLED_SITE: sites}}


def _alone(name: str, sites: list[str]) -> Participants:
    return {f"{name}-{site}": {site: [site]} for site in sites}


def _federated(name: str, sites: list[str]) -> Participants:
    return {name: {site: [site] for site in sites}}


def _all_but_one(name: str, sites: list[str]) -> Participants:
    return {f"{name}-{left}": {site: [site] for site in sites if site != left} for left in sites}


def _repartitioned(name: str, sites: list[str]) -> Participants:
    return {name: dict.fromkeys(sites, sites)}


PARTICIPANTS: dict[str, Callable[[str, list[str]], Participants]] = {
    "pooled": _pooled,
    "alone": _alone,
    "sites": _federated,
    "all_but_one": _all_but_one,
    "iid": _repartitioned,
}


def build_arms(
    blocks: Sequence[Mapping[str, Any]],
    defaults: Mapping[str, Any],
    sites: list[str],
    size_of: Callable[[], Mapping[str, int]],
) -> dict[str, Arm]:
    """Every arm by name; ``alone`` and ``all_but_one`` are spread out to one arm a site.

    Parameters
    ----------
    blocks, defaults : ``arms`` and ``arm_defaults`` of the config
    sites : training sites
    size_of : gives the number of cases of each site
    """
    arms: dict[str, Arm] = {}
    for own in blocks:
        participants = own["participants"]
        exchanges = participants not in ("pooled", "alone")
        if not exchanges:
            named = meaningless_without_exchange(own)
            if named:
                raise StudyError(
                    f"arms.{own['name']}.{named[0]}: has no meaning with participants {participants}; drop it"
                )
        if participants == "all_but_one" and len(sites) < 3:
            raise StudyError(f"arms.{own['name']}: all_but_one needs three training sites, found {len(sites)}")
        settings = {key: value for key, value in own.items() if key not in ("name", "participants")}
        for name, shards_of in PARTICIPANTS[participants](own["name"], sites).items():
            if name in arms:
                raise StudyError(f"arms: two arms are named {name!r}; rename one")
            block = merged_block(defaults if exchanges else defaults | WITHOUT_EXCHANGE, settings)
            if participants == "all_but_one":
                block = _without_others(block, shards_of)
            arms[name] = Arm(name, shards_of, block, participants == "iid", size_of)
    return arms
