"""What a study needs of the disk: the estimate before its run, the most that was there at once, and what stays.

A study of four simulated sites and six rounds is run twice, with every round kept and with every third.
"""

import json
import os
import re
import sys
import tempfile
import threading
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "support"))

from workspace import Workspace  # noqa: E402

STUDY = {
    "study": {"rounds": 6},
    "cohort": {"sites": {"training": ["north", "east", "south", "west"], "external": []}},
    "phantom": {"cases": {"north": 10, "east": 10, "south": 10, "west": 10}, "in_plane_coarsening": 12.0},
    "preprocessing": {"grid": [16, 32, 32]},
    # A quarter of the published network's features: 8 MB.
    "network": {"name": "i3d_unet", "i3d_unet": {"width": 0.25, "dropout": 0.5}},
    "training": {"epochs_per_round": 1},
    "arms": [
        {"name": "centralized", "participants": "pooled"},
        {"name": "fedavg", "participants": "sites"},
        {"name": "scaffold", "participants": "sites", "strategy": {"name": "scaffold"}},
    ],
}
POLL_SECONDS = 0.05
NEEDED = re.compile(r"up to ([\d.]+) (GB|MB) of disk are needed \(.*\)")
MB_OF = {"GB": 1000.0, "MB": 1.0}


def folder_bytes(folder: str | Path) -> int:
    """Bytes of all files below a folder; those that go meanwhile are left out."""
    total = 0
    try:
        for entry in os.scandir(folder):
            is_folder = entry.is_dir(follow_symlinks=False)
            total += folder_bytes(entry.path) if is_folder else entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        pass
    return total


def watch(folder: Path, is_over: threading.Event) -> int:
    """The most bytes that a folder holds at any look."""
    largest = 0
    while not is_over.is_set():
        largest = max(largest, folder_bytes(folder))
        time.sleep(POLL_SECONDS)
    return largest


def measure(keep_every: int) -> tuple[str, float, float, float]:
    """The estimate as it was printed and in MB, and MB at the fullest and at the end."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        config = STUDY | {"study": STUDY["study"] | {"keep_every": keep_every}}
        (workspace.folder / "study.json").write_text(json.dumps(config))
        before, is_over, largest = folder_bytes(folder), threading.Event(), []
        looking = threading.Thread(target=lambda: largest.append(watch(workspace.folder, is_over)))
        looking.start()
        try:
            run = workspace.snakemake("--cores", "2", "--configfile", "study.json", "--", "models")
        finally:
            is_over.set()
            looking.join()
        if run.returncode != 0:
            raise SystemExit(run.stdout)
        end = folder_bytes(folder)
    needed = NEEDED.search(run.stdout)
    estimated = float(needed[1]) * MB_OF[needed[2]]
    return needed[0], estimated, (largest[0] - before) / 1e6, (end - before) / 1e6


def main() -> None:
    """Print a line a policy."""
    for keep_every in (1, 3):
        text, estimated, peak, end = measure(keep_every)
        sys.stdout.write(f"keep_every {keep_every}: {text}\n")
        sys.stdout.write(
            f"  estimate {estimated:.0f} MB, peak {peak:.0f} MB ({peak / estimated:.2f} of it), end {end:.0f} MB\n"
        )


if __name__ == "__main__":
    main()
