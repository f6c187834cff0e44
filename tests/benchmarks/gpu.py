"""Measure what the package does on a GPU, within four minutes; without one, or with --short, a rehearsal on a CPU.

    python3 tests/benchmarks/gpu.py [--short] [--json PATH] [--reference FOLDER] [PART ...]

Needs torch and NumPy, and nothing installed beside them. Parts that fail are reported by name, and the others run; the
status is then 1. What is measured so far is written after every part.
"""

import argparse
import faulthandler
import gc
import platform
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "pkg"))
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "support"))

import torch
from fedpedbrain.base.files import write_json
from gpu_parts import (
    Bench,
    Skipped,
    Values,
    measure_compilation,
    measure_data,
    measure_equality,
    measure_memory,
    measure_parity,
    measure_start,
    measure_steps,
)
from gpu_shapes import SHAPES
from parity_fixture import REFERENCE

DEFAULT_JSON = Path(__file__).resolve().parents[2] / "results" / "gpu_benchmark.json"
# Less than four minutes, with what it takes to import torch. In the short form, what is taken for a hang.
ALL_SECONDS, SHORT_SECONDS = 220.0, 900.0


@dataclass(frozen=True)
class Part:
    """One measurement.

    Attributes
    ----------
    title : what is measured, with its unit
    at_most_seconds : after which it is given up
    """

    title: str
    at_most_seconds: float
    measure: Callable[[Bench], Values]


STEP_SECONDS = {"i3d_unet": 35.0, "unet": 8.0, "residual_unet": 20.0, "residual_unet, slices": 10.0}
# The last one takes what is left: nobody knows how long a compiler needs.
PARTS: dict[str, Part] = {
    "start": Part("seconds of a short job in a process of its own", 20.0, measure_start),
    "parity": Part("logits of i3d_unet beside the reference network's", 8.0, measure_parity),
    **{
        f"step of {name}": Part("training step on one batch", STEP_SECONDS[name], partial(measure_steps, name))
        for name in SHAPES
    },
    "memory": Part("training step with activations kept, and computed again", 15.0, measure_memory),
    "equal runs": Part("weights after the same training, twice", 45.0, measure_equality),
    "data": Part("samples per second from a shard to an augmented batch", 20.0, measure_data),
    "compile": Part("torch.compile", ALL_SECONDS, measure_compilation),
}


@contextmanager
def limited_to(seconds: float) -> Iterator[None]:
    """Raise ``TimeoutError`` in a block that takes longer."""

    def give_up(signal_number: int, frame: object) -> None:
        raise TimeoutError(f"not finished within {seconds:.1f} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def run_part(part: Part, bench: Bench, at_most_seconds: float) -> dict[str, Any]:
    """What a part has measured; or why it failed or was left out."""
    begun = time.monotonic()
    try:
        if at_most_seconds <= 0.0:
            raise TimeoutError("no time was left")
        with limited_to(at_most_seconds):
            outcome = {"values": part.measure(bench)}
    except Skipped as reason:
        outcome = {"skipped": str(reason)}
    except Exception as error:
        outcome = {"failed": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    # What a failed part has left goes with its traceback.
    gc.collect()
    torch.cuda.empty_cache()
    return {"title": part.title, "seconds": round(time.monotonic() - begun, 2), **outcome}


def describe_machine(bench: Bench) -> dict[str, Any]:
    """What the numbers hold for."""
    facts = {"torch": torch.__version__, "python": platform.python_version(), "threads": torch.get_num_threads()}
    if bench.device.type == "cpu":
        return facts | {"device": platform.processor() or platform.machine()}
    gpu = torch.cuda.get_device_properties(bench.device)
    versions = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return facts | versions | {"device": gpu.name, "memory_mb": gpu.total_memory >> 20}


def shown(value: float | bool | str) -> str:
    """A value in a table."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:12.4g}"


def lines_of(name: str, outcome: Mapping[str, Any]) -> list[str]:
    """A part as lines of the table."""
    lines = [f"\n{name}: {outcome['title']} ({outcome['seconds']:.1f} s)"]
    lines += [f"  {word.upper()}: {outcome[word]}" for word in ("failed", "skipped") if word in outcome]
    return lines + [f"  {what:52s} {shown(value)}" for what, value in outcome.get("values", {}).items()]


def run_parts(parts: Mapping[str, Part], bench: Bench, json_path: Path, at_most_seconds: float) -> list[str]:
    """Run parts, show and write what they find; names of those that failed.

    Parameters
    ----------
    at_most_seconds : for all of them; in the short form no part has less
    """
    ends = time.monotonic() + at_most_seconds
    results: dict[str, Any] = {**describe_machine(bench), "short": bench.is_short, "parts": {}}
    for name, part in parts.items():
        left = ends - time.monotonic()
        outcome = run_part(part, bench, left if bench.is_short else min(left, part.at_most_seconds))
        results["parts"][name] = outcome
        sys.stdout.write("".join(f"{line}\n" for line in lines_of(name, outcome)))
        sys.stdout.flush()
        write_json(json_path, results)
    return [name for name, outcome in results["parts"].items() if "failed" in outcome]


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{'; '.join(PARTS)}; all where none is named")
    parser.add_argument("--short", action="store_true", help="small networks, few steps; always so without a GPU")
    parser.add_argument("--json", type=Path, default=DEFAULT_JSON, help="where the results go")
    parser.add_argument("--reference", type=Path, default=REFERENCE, help="folder with i3d_unet_parity.npz")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    has_gpu = torch.cuda.is_available()
    device = torch.device("cuda", torch.cuda.current_device()) if has_gpu else torch.device("cpu")
    bench = Bench(device, arguments.short or not has_gpu, arguments.reference)
    seconds = SHORT_SECONDS if bench.is_short else ALL_SECONDS
    # Ends the process even where it hangs in a library.
    faulthandler.dump_traceback_later(seconds + 5.0, exit=True)
    chosen = {name: part for name, part in PARTS.items() if name in arguments.parts or not arguments.parts}
    failed = run_parts(chosen, bench, arguments.json, seconds)
    sys.exit(f"failed: {'; '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
