"""The files of an arm of three rounds, with the notes of the jobs that made them, and its history."""

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import torch
from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import sha256_of_file
from fedpedbrain.base.lineage import AveragedUpdate, Lineage
from fedpedbrain.federated.chain.chain_files import ArmFiles, record_lineage_files, verify_lineage_files
from fedpedbrain.federated.site_metrics import write_round_metrics
from fedpedbrain.models.files import ModelFile, ModelSpec, load_model_file, save_model_file, save_tensors
from round_metrics import make_metrics

# One file of each kind, by its path in the folder of ``Study``.
KINDS = {
    "initial": "initial/seed-0.pth",
    "global": "fedavg/seed-0/round-002/global.pth",
    "last global": "fedavg/seed-0/round-003/global.pth",
    "server": "fedavg/seed-0/round-002/server.pth",
    "state": "fedavg/seed-0/round-002/states/south.pth",
    "best": "fedavg/seed-0/best.pth",
    "personal": "fedavg/seed-0/personal/north.pth",
}


class Study:
    """Three rounds of the arm fedavg at north (3 cases) and south (1 case), the second of them the best."""

    def __init__(self, folder: Path, spec: dict) -> None:
        self.folder = folder
        self.spec = ModelSpec(**spec)
        self.arm_folder = folder / "fedavg" / "seed-0"
        self.initial = folder / KINDS["initial"]
        self.models = [self.arm_folder / f"round-{number:03d}" / "global.pth" for number in (1, 2, 3)]
        self.best = self.arm_folder / "best.pth"
        self.lineage = self.arm_folder / "lineage.json"
        self.arguments = {
            "arm": "fedavg",
            "seed": 0,
            "initial_path": self.initial,
            "best_path": self.best,
            "lineage_path": self.lineage,
            "kept_rounds": [1, 2, 3, 4],
            "rounds_of_kept_states": [1, 2, 3, 4],
        }
        self.save(self.initial, Lineage("initial", "", 0, 0, "", 0, 0, "of the network", ""))
        for number in (1, 2, 3):
            self.save_round(number)
            for site in ("north", "south", ""):
                self.save_state(number, site)
        self.best.write_bytes(self.models[1].read_bytes())
        self.save_personal()
        self.beside = self.arguments["beside_paths"] = [self.arm_folder / "personal" / "north.pth"]
        self.trained = [(number, site) for number in (1, 2, 3) for site in ("south", "north")]
        self.note()

    def metrics_path(self, number: int) -> Path:
        return self.arm_folder / f"round-{number:03d}" / "metrics.json"

    def note(self) -> None:
        """Write what the jobs of files note of them, and name it to those who record and verify."""
        self.arguments["round_paths"] = [path.with_name("lineage.json") for path in self.models]
        rounds = sorted({number for number, _ in self.trained})
        self.arguments["metrics_paths"] = [self.metrics_path(number) for number in rounds]
        for path in filter(Path.exists, self.models):
            digests = {"model_sha256": path, "state_sha256": path.with_name("server.pth")}
            note = {key: sha256_of_file(file) for key, file in digests.items()}
            with contextlib.suppress(StudyError):
                note["lineage"] = load_model_file(path).lineage.to_dict()
            path.with_name("lineage.json").write_text(json.dumps(note))
        for number in rounds:
            sites = [site for of_round, site in self.trained if of_round == number]
            states = {site: self.state_path(number, site) for site in sites}
            digests = {site: sha256_of_file(path) if path.exists() else "" for site, path in states.items()}
            metrics = [make_metrics(site, number, state_sha256=digests[site]) for site in sites]
            write_round_metrics(self.metrics_path(number), metrics)

    def state_path(self, number: int, site: str) -> Path:
        return self.arm_folder / f"round-{number:03d}" / "states" / f"{site}.pth"

    def save_state(self, number: int, sender: str, **changes) -> None:
        """Write a state, of the server where the site is "", that fits but for the changes."""
        path = self.state_path(number, sender) if sender else self.models[number - 1].with_name("server.pth")
        owner = {"arm": "fedavg", "seed": 0, "round": number, "settings_digest": "digest"} | {"site": sender} | changes
        save_tensors(path, {**owner, "kept": {"momentum": {"weight": torch.full((4,), float(number))}}})

    def save_personal(self, **changes) -> None:
        """Write the personal model of north, made from the best one but for the changes."""
        lineage = load_model_file(self.best).lineage
        own = {"kind": "personal", "site": "north", "parent_sha256": sha256_of_file(self.best), "updates": ()}
        self.save(self.arm_folder / "personal" / "north.pth", replace(lineage, **(own | changes)))

    def save(self, path: Path, lineage: Lineage) -> None:
        weights = {"weight": torch.arange(64.0) + lineage.round}
        save_model_file(path, ModelFile(self.spec, lineage, weights))

    def save_round(self, number: int, parent: Path | None = None, **changes) -> None:
        """Write a global model whose lineage fits but for the changes."""
        parent = parent or [self.initial, *self.models][number - 1]
        updates = (AveragedUpdate("north", f"{number}a", 0.75), AveragedUpdate("south", f"{number}b", 0.25))
        lineage = Lineage("global", "fedavg", 0, number, "", 4, 8, "digest", sha256_of_file(parent), "", updates)
        self.save(self.models[number - 1], replace(lineage, **changes))

    def record(self) -> dict:
        self.note()
        record_lineage_files(ArmFiles(**self.arguments))
        return json.loads(self.lineage.read_text())

    def edit_record(self, name: str, **changes) -> None:
        """Change values of one file's entry in the history."""
        content = json.loads(self.lineage.read_text())
        (entry,) = (entry for entry in content["files"] if entry["name"] == name)
        assert set(changes) <= set(entry)
        entry.update(changes)
        self.lineage.write_text(json.dumps(content))

    def verify(self) -> str:
        return verify_lineage_files([self.arguments])


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
