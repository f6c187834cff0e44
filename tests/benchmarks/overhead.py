"""What a study takes beside the work of its jobs: planning, starting jobs and keeping account of them.

Studies of sites with five cases, a network of a few numbers and one epoch a round are planned and trained, with more
and more rounds. Arguments are numbers of rounds, 10 and 50 without. A job's own work is what its log says of it. Wall
times mean something on a machine that does nothing else; CPU times are those of Snakemake and of starting jobs, which
the work of the jobs is not part of.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from fedpedbrain.jobs.usage import read_usage_line

REPOSITORY = Path(__file__).resolve().parents[2]
NUM_SITES, FEW_SITES = 16, 4
NUM_CORES = 2
CASES_OF_A_SITE = 5
NUMBERS_OF_ROUNDS = (10, 50)


@dataclass(frozen=True)
class Run:
    """One run of Snakemake: seconds, those of CPU without the jobs' own work, peak memory, and what it said."""

    wall_seconds: float
    cpu_seconds: float
    peak_memory_mb: float
    output: str

    @property
    def num_jobs(self) -> int:
        """Jobs that were planned."""
        return int(re.search(r"^total +(\d+)$", self.output, re.MULTILINE).group(1))


def trivial_study(num_sites: int, num_rounds: int) -> dict:
    """A study of one federated arm whose training takes next to no time."""
    study = yaml.safe_load((REPOSITORY / "tests" / "e2e" / "tiny.yaml").read_text())
    sites = [f"site{number:02d}" for number in range(num_sites)]
    study["study"]["rounds"] = num_rounds
    study["cohort"]["sites"] = {"training": sites, "external": []}
    study["phantom"] |= {"cases": dict.fromkeys(sites, CASES_OF_A_SITE), "normal_fraction": 0.0}
    study["arms"] = [{"name": "fedavg", "participants": "sites"}]
    study["evaluation"]["reference_arm"] = "fedavg"
    study["reporting"]["video"]["arms"] = ["fedavg"]
    return study


def run_snakemake(folder: Path, *arguments: str) -> Run:
    """Run the workflow in a folder that holds ``study.yaml``."""
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--directory",
        str(folder),
        "--configfile",
        str(folder / "study.yaml"),
    ]
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen([*command, *arguments], cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        output.seek(0)
        text = output.read()
    if status:
        raise RuntimeError(text[-3000:])
    return Run(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, text)


def own_seconds(logs: list[Path]) -> float:
    """Wall time of the jobs that left these logs."""
    return sum(read_usage_line(path)[1].wall_seconds for path in logs)


def seconds_beyond_training(rounds: Path, logs: Path) -> float:
    """Median time from one round's average to the next, less that of its training at ``NUM_CORES`` sites at once."""
    folders = sorted(rounds.glob("round-*"))
    ends = [(folder / "global.pth").stat().st_mtime for folder in folders]
    training = [own_seconds(list((logs / folder.name).glob("train-*.log"))) / NUM_CORES for folder in folders]
    return float(np.median(np.diff(ends) - training[1:]))


def measure(num_sites: int, num_rounds: int) -> dict[str, float]:
    """Plan and run one study up to its models."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "study.yaml").write_text(yaml.safe_dump(trivial_study(num_sites, num_rounds)))
        plan = run_snakemake(folder, "--dry-run")
        run_snakemake(folder, "--cores", str(NUM_CORES), "cohort")
        training = run_snakemake(folder, "--dry-run", "models")
        run = run_snakemake(folder, "--cores", str(NUM_CORES), "models")
        rounds = folder / "results" / "models" / "fedavg" / "seed-0"
        logs = folder / "results" / "logs" / "models" / "fedavg" / "seed-0"
        own = own_seconds([*logs.glob("round-*/*.log"), *logs.glob("validation/*/*.log")])
        return {
            "jobs of the study": plan.num_jobs,
            "seconds to plan it": plan.wall_seconds,
            "of CPU": plan.cpu_seconds,
            "peak MB": plan.peak_memory_mb,
            "jobs of its training": training.num_jobs,
            "seconds to train it": run.wall_seconds,
            "own seconds of its jobs": own,
            "seconds of a job beside its own": (run.wall_seconds * NUM_CORES - own) / training.num_jobs,
            "of CPU, planning included": run.cpu_seconds / training.num_jobs,
            "seconds of a round beyond training": seconds_beyond_training(rounds, logs),
        }


def main(numbers_of_rounds: list[int]) -> None:
    """Measure studies of few and of many sites, and print a table of each."""
    studies = [(FEW_SITES, numbers_of_rounds[0]), *((NUM_SITES, number) for number in numbers_of_rounds)]
    for num_sites, num_rounds in studies:
        sys.stdout.write(
            f"\n{num_sites} sites x {num_rounds} rounds, {NUM_CORES} jobs at once, load {os.getloadavg()[0]}\n"
        )
        sys.stdout.writelines(f"  {what:40s} {value:10.2f}\n" for what, value in measure(num_sites, num_rounds).items())
        sys.stdout.flush()


if __name__ == "__main__":
    main([int(number) for number in sys.argv[1:]] or list(NUMBERS_OF_ROUNDS))
