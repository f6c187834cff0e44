"""The critical path of a run: the chain of jobs that decided when it ended.

From the job that ended last back to the first one, each step goes to the job that ended last of those that the next one
waited for: without that one's work it could have started earlier. What lies between the two is waiting, mostly for a
core or a GPU that other jobs had.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """A job that ran to its end.

    Attributes
    ----------
    name : where its log is, which no other job's is
    rule : what it did
    arm, seed : of which arm and seed, "" for a job of all
    round : 0 for a job of all rounds
    started, ended : seconds
    busy_from : when it had its GPU; ``started`` where it needed none
    cpu_seconds : of all its threads
    host : machine
    gpu_id : its GPU, "" for none
    """

    name: str
    rule: str
    arm: str
    seed: str
    round: int
    started: float
    ended: float
    busy_from: float
    cpu_seconds: float
    host: str = ""
    gpu_id: str = ""


# Rule to the rules whose files it reads, but for those that are older than another of them anyway.
_OF_SCORES = ("plot_classes", "plot_comparison", "plot_confusion", "plot_cross_sites", "plot_reliability")
WAITS_FOR: Mapping[str, tuple[str, ...]] = {
    "fetch_site": (),
    "index_site": ("fetch_site",),
    "split_site": ("index_site",),
    "check_cohort": ("split_site",),
    "build_shard": ("check_cohort",),
    "find_duplicates": ("build_shard",),
    "audit_cohort": ("find_duplicates",),
    "plot_cohort": ("audit_cohort",),
    "plot_quality": ("build_shard",),
    "write_audit_page": ("audit_cohort", "plot_quality"),
    "summarize_intensities": ("build_shard",),
    "fetch_pretrained": (),
    "initialize_model": ("fetch_pretrained",),
    "make_keys": ("build_shard", "initialize_model", "select_phase_start", "aggregate_round"),
    "train_site": (
        "build_shard",
        "initialize_model",
        "make_keys",
        "select_phase_start",
        "aggregate_round",
        "train_site",
    ),
    "aggregate_round": ("train_site",),
    "inspect_updates": ("aggregate_round",),
    "plot_updates": ("inspect_updates",),
    "account_privacy": ("train_site",),
    "validate_round": ("aggregate_round",),
    "select_phase_start": ("validate_round",),
    "select_model": ("validate_round",),
    "plot_convergence": ("select_model",),
    "personalize_model": ("select_model",),
    "record_lineage": ("select_model", "personalize_model"),
    "predict_cases": ("select_model", "personalize_model"),
    "measure_cost": ("predict_cases",),
    "score_predictions": ("predict_cases",),
    "plot_volumes": ("score_predictions",),
    "compare_arms": ("score_predictions",),
    **dict.fromkeys(_OF_SCORES, ("compare_arms",)),
    "choose_cases": ("score_predictions",),
    "explain_cases": ("choose_cases",),
    "plot_explanations": ("explain_cases",),
    "render_videos": ("choose_cases",),
    "write_model_folders": ("compare_arms", "account_privacy", "summarize_intensities"),
    "export_results": ("write_model_folders", "inspect_updates"),
}
_KIND_OF = {
    "train_site": "training",
    "aggregate_round": "averaging",
    "validate_round": "validation",
    "predict_cases": "prediction",
} | dict.fromkeys(
    ("fetch_site", "index_site", "split_site", "check_cohort", "build_shard", "find_duplicates", "audit_cohort"),
    "cohort",
)
# In the order in which a study does them; what is none of these is small and of many kinds.
OTHER, WAITING = "other", "waiting"
KINDS = ("cohort", "training", "averaging", "validation", "prediction", OTHER)


def kind_of_job(rule: str) -> str:
    """What kind of work a rule does, one of ``KINDS``."""
    return _KIND_OF.get(rule, OTHER)


def critical_path(jobs: Sequence[Job], chains: Collection[str] = ()) -> list[Job]:
    """The critical path, its first job first.

    Parameters
    ----------
    jobs : whatever ran, in any order; a job that another waited for may be missing, and the path then begins after it
    chains : arms in which a round goes from site to site; in others its sites do not wait for each other
    """
    by_owner: dict[tuple[str, str, str], list[Job]] = defaultdict(list)
    by_rule: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        by_owner[job.rule, job.arm, job.seed].append(job)
        by_rule[job.rule].append(job)
    path = [max(jobs, key=lambda job: job.ended)] if jobs else []
    while path:
        job = path[-1]
        candidates = [
            other
            for rule in WAITS_FOR[job.rule]
            if rule != job.rule or job.arm in chains
            for other in (_of_owners(by_owner, rule, job) if job.arm else by_rule[rule])
            if other.ended <= job.started and (not job.round or other.round <= job.round)
        ]
        if not candidates:
            break
        path.append(max(candidates, key=lambda other: other.ended))
    return path[::-1]


def _of_owners(by_owner: Mapping[tuple[str, str, str], list[Job]], rule: str, job: Job) -> list[Job]:
    """Jobs of a rule that are of the same arm and seed, or of all."""
    owners = ((job.arm, job.seed), ("", job.seed), ("", ""))
    return [other for arm, seed in owners for other in by_owner.get((rule, arm, seed), ())]


def seconds_on_path(path: Sequence[Job], begun: float = 0.0) -> dict[str, float]:
    """Seconds of the path by kind of work, and of the waiting between its jobs and before the first.

    Parameters
    ----------
    path : see ``critical_path``
    begun : when the run began
    """
    seconds = dict.fromkeys((*KINDS, WAITING), 0.0)
    for job in path:
        seconds[WAITING] += job.busy_from - begun
        seconds[kind_of_job(job.rule)] += job.ended - job.busy_from
        begun = job.ended
    return seconds
