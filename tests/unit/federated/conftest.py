"""An arm's files, before and after their history is recorded. Two sites that go through rounds."""

from types import SimpleNamespace

import pytest
from arm_history import Study
from fedpedbrain.federated.round_files import RoundFiles, aggregate_round_files
from fedpedbrain.federated.rounds import RoundPlan
from fedpedbrain.study.strategy_facts import WITHOUT_EXCHANGE, merged_block

# Two sites and their numbers of cases.
SIZES = {"north": 5, "south": 3}
SITES = tuple(SIZES)


@pytest.fixture
def study(tmp_path, spec) -> Study:
    return Study(tmp_path, spec)


@pytest.fixture
def recorded(study) -> Study:
    study.record()
    return study


@pytest.fixture
def site_cases(make_case):
    """Site to its cases, of which every second one is normal."""
    return {
        site: [make_case(f"{site}-{n}", site, class_name=("normal", "dipg")[n % 2]) for n in range(size)]
        for site, size in SIZES.items()
    }


@pytest.fixture
def make_round_plan(settings):
    """``make_round_plan(block)``: plan of a round's averaging; ``block`` is laid over the arm's."""

    def _make(block: dict) -> RoundPlan:
        arm = merged_block(WITHOUT_EXCHANGE, block)
        return RoundPlan(
            {key: arm[key] for key in ("strategy", "exchange", "privacy")} | {"weighting": "cases"},
            "digest",
            len(SIZES),
            freezes_encoder=settings["freeze_encoder"],
        )

    return _make


@pytest.fixture
def federation(tmp_path, train, site_cases, write_shard, start, make_round_plan):
    """Two sites that go through rounds: ``run(name, block, num_rounds)`` gives the files of each round."""
    shards = {site: write_shard(tmp_path / f"shard-{site}", cases) for site, cases in site_cases.items()}

    def aggregate(name: str, block: dict, before, number: int, sites) -> SimpleNamespace:
        result, state = (tmp_path / f"{name}-{number}-{part}.pth" for part in ("global", "server"))
        updates, metrics = ({site: getattr(sites[site], kind) for site in sites} for kind in ("update", "metrics"))
        notes = (result.with_suffix(suffix) for suffix in (".json", ".metrics"))
        files = RoundFiles(before.result, updates, metrics, result, state, *notes, before.state)
        aggregate_round_files(files, "fedavg", 0, number, make_round_plan(block))
        return SimpleNamespace(result=result, state=state, sites=sites)

    def run(name: str, block: dict, num_rounds=1, sites=SITES, broadcasts=False, **options) -> list[SimpleNamespace]:
        rounds = [SimpleNamespace(result=start, state=None, sites={})]
        for number in range(1, num_rounds + 1):
            before = rounds[-1]
            trained = {
                site: train(
                    f"{name}-{site}",
                    start=before.result,
                    shards=[shards[site]],
                    round_number=number,
                    state=before.sites[site].state if before.sites else None,
                    server=before.state if broadcasts else None,
                    block=block,
                    keep=True,
                    site=site,
                    **options,
                )
                for site in sites
            }
            rounds.append(aggregate(name, block, before, number, trained))
        return rounds[1:]

    return run
