"""Compare this checkout with an earlier one: does what trains give the same bytes, and may it count as the same code?

    .venv/bin/python tests/benchmarks/equal_code.py EARLIER_CHECKOUT [--certify]

Runs a small study of the earlier checkout's settings in both, with several strategies, networks' and optimizers' kinds,
and compares every kept model file by its SHA-256. Where all are equal, ``--certify`` writes
``fedpedbrain/planning/equal_code.tsv``: which digests of today's code stand for which of the earlier one, so that
upgrading trains nothing again. What no certificate can say (a row that changed, a module that others reached before)
is listed, and so are the jobs that run again.
"""

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
TABLE = REPOSITORY / "pkg" / "fedpedbrain" / "planning" / "equal_code.tsv"
# All that training waits for, and the choice of its best round.
SCRIPTS = [
    "index_site",
    "split_site",
    "check_cohort",
    "build_shard",
    "split_shard",
    "initialize_model",
    "make_keys",
    "train_site",
    "aggregate_round",
    "validate_site",
    "select_model",
    "personalize_model",
]
ARMS = [
    {"name": "centralized", "participants": "pooled"},
    {"name": "local", "participants": "alone"},
    {"name": "fedavg", "participants": "sites"},
    {"name": "fedprox", "participants": "sites", "strategy": {"name": "fedprox", "mu": 0.1}},
    {"name": "scaffold", "participants": "sites", "strategy": {"name": "scaffold"}},
    {"name": "ditto", "participants": "sites", "strategy": {"name": "ditto", "lambda": 1.0}},
    {"name": "fedadam", "participants": "sites", "strategy": {"name": "fedadam"}},
    {
        "name": "other_recipe",
        "participants": "sites",
        "network": {"name": "i3d_unet", "i3d_unet": {"width": 0.03125}},
        "training": {"optimizer": {"name": "sgd"}, "loss": {"segmentation": "reference"}},
        "phases": [{"sites": ["north"], "rounds": 1}, {"start": "best"}],
    },
]
# Prints what each script reaches for each arm of a study: modules with their digest and what it counts as, rows of
# tables with what they count as, and the fingerprint.
PROBE = """
import json, sys
from pathlib import Path
from fedpedbrain.planning import fingerprint
from fedpedbrain.study.study import load_study
try:
    from fedpedbrain.planning.equal_code import counted_digests
except ImportError:
    def counted_digests(digest):
        return (digest,)
config = json.loads(sys.stdin.read())
study = load_study(config, "rules/schemas/config.schema.yaml", lambda settings: dict.fromkeys(settings["sites"], 1))
found = {}
for script in sys.argv[1:]:
    for arm, chosen in {"": study.choices, **study.arm_choices}.items():
        reached = fingerprint._reach(Path("workflow_scripts", f"{script}.py").resolve(), chosen)
        root = fingerprint.PACKAGE_ROOT
        found[f"{script} {arm}"] = {
            "modules": {
                path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name: [
                    module.digest, *counted_digests(module.digest)
                ]
                for path, module in reached.modules.items()
            },
            "rows": {row: list(counted_digests(row)) for row in sorted(reached.rows)},
            "fingerprint": fingerprint.code_fingerprint(f"workflow_scripts/{script}.py", chosen),
        }
print(json.dumps(found))
"""


def laid_over(config: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """A config with the keys of another laid over it, block by block."""
    merged = dict(config)
    for key, value in overlay.items():
        is_block = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = laid_over(merged[key], value) if is_block else value
    return merged


def read_yaml(path: Path) -> dict[str, Any]:
    """A config file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def run_in(checkout: Path, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command with the package of a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout / "pkg")}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, **options)
    if done.returncode:
        sys.exit(f"{checkout}: {' '.join(command[:4])} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done


def reached_by(checkout: Path, config: dict[str, Any]) -> dict[str, Any]:
    """What the scripts of a checkout reach for a study."""
    command = [sys.executable, "-c", PROBE, *SCRIPTS]
    return json.loads(run_in(checkout, command, input=json.dumps(config)).stdout)


def model_digests(checkout: Path, config: dict[str, Any], folder: Path) -> dict[str, str]:
    """Train a study with a checkout; SHA-256 of every model file that stays, by its path."""
    folder.mkdir()
    config_path = folder / "study.yaml"
    config_path.write_text(yaml.safe_dump(config), encoding="utf-8")
    arms = [arm["name"] for arm in ARMS if arm["participants"] != "alone"]
    targets = [f"results/models/{arm}/seed-0/best.pth" for arm in [*arms, "local-north", "local-east"]]
    snakemake = [str(Path(sys.executable).with_name("snakemake")), "--cores", "2", "--directory", str(folder)]
    run_in(checkout, [*snakemake, "--configfile", str(config_path), "--", *targets])
    models = (path for path in sorted((folder / "results").rglob("*.pth")))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in models}


def certificates(earlier: dict[str, Any], today: dict[str, Any]) -> tuple[dict[str, tuple[set[str], str]], list[str]]:
    """What today's digests stand for, with the code that each is of; and what nothing explains."""
    table: dict[str, tuple[set[str], str]] = {}
    unexplained = []
    known = {path for found in earlier.values() for path in found["modules"]}
    known_rows = {row for found in earlier.values() for row in found["rows"]}
    for key in today.keys() & earlier.keys():
        found, before = today[key], earlier[key]
        for path, (digest, *_) in found["modules"].items():
            if path in before["modules"]:
                _, *counted = before["modules"][path]
                if counted != [digest]:
                    table[digest] = (set(counted), path)
            elif path in known:
                unexplained.append(f"{key}: reaches {path}, which other jobs reached before")
            else:
                table[digest] = (set(), path)
        counted_rows = {row: counted for row, counted in before["rows"].items() if counted != [row]}
        table |= {row: (set(counted), "row of a table") for row, counted in counted_rows.items()}
        table |= {row: (set(), "row of a table") for row in found["rows"].keys() - known_rows}
        unexplained += [f"{key}: no longer reaches {path}" for path in before["modules"].keys() - found["modules"]]
        unexplained += [f"{key}: a row is gone or changed" for _ in before["rows"].keys() - found["rows"].keys()]
    return table, sorted(set(unexplained))


def write_table(table: dict[str, tuple[set[str], str]]) -> None:
    """Write the certificates."""
    with open(TABLE, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["digest", "stands_for", "code"])
        writer.writerows([digest, ";".join(sorted(old)), code] for digest, (old, code) in sorted(table.items()))


def say(*lines: str) -> None:
    """Write lines to the terminal."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def small_study(earlier: Path) -> dict[str, Any]:
    """The config of the study that both checkouts train, in the earlier one's words."""
    small = read_yaml(REPOSITORY / "tests" / "e2e" / "tiny.yaml")
    # The network of the other recipe needs a larger grid than the tests' study has.
    return laid_over(read_yaml(earlier / "config.yaml"), small | {"arms": ARMS, "preprocessing": {"grid": [8, 32, 32]}})


def named_studies(earlier: Path) -> dict[str, dict[str, Any]]:
    """The earlier checkout's own studies."""
    config = read_yaml(earlier / "config.yaml")
    paths = sorted((earlier / "studies").glob("*.yaml"))
    overlays = {path.stem: read_yaml(path) for path in paths if path.stem != "template"}
    return {name: laid_over(config, overlay | {"cohort_root": "."}) for name, overlay in overlays.items()}


def differing_models(earlier: Path, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Train the study with both checkouts; model files that differ, by their path."""
    with tempfile.TemporaryDirectory() as folder:
        old, new = (
            model_digests(checkout, config, Path(folder, name))
            for name, checkout, config in (("before", earlier, before), ("after", REPOSITORY, after))
        )
    differing = sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))
    say(f"{len(old)} model files, {len(differing)} of them differ")
    return differing


def main() -> None:
    """Compare, and certify where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("earlier", type=Path, help="checkout of an earlier version")
    parser.add_argument("--certify", action="store_true", help="write the table of certificates")
    arguments = parser.parse_args()
    earlier = arguments.earlier.resolve()
    today = read_yaml(REPOSITORY / "config.yaml")
    before = small_study(earlier)
    after = laid_over(today, before)
    differing = differing_models(earlier, before, after)
    if differing:
        sys.exit("\n".join(differing))
    table, unexplained = certificates(reached_by(earlier, before), reached_by(REPOSITORY, after))
    say(f"{len(table)} digests stand for others; no certificate can say: {len(unexplained)}", *unexplained)
    if arguments.certify:
        write_table(table)
        say(f"{TABLE.relative_to(REPOSITORY)}: written")
    for name, study in {"small study": before, **named_studies(earlier)}.items():
        old, new = reached_by(earlier, study), reached_by(REPOSITORY, laid_over(today, study))
        again = [key for key in sorted(old) if old[key]["fingerprint"] != new[key]["fingerprint"]]
        say(f"{name}: of {len(old)} jobs of a kind and arm, {len(again)} run again", *again)


if __name__ == "__main__":
    main()
