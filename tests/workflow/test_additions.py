"""An addition costs one file, one row and one test, and reruns nothing: no fingerprint of an existing study changes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from workspace import Workspace

# Prints the fingerprint of every script for every arm of every study, and for all arms together, and the digest of each
# arm's settings.
PROBE = """
import json, sys
from pathlib import Path

import yaml
from fedpedbrain.planning.fingerprint import code_fingerprint
from fedpedbrain.study.study import load_study


def laid_over(config, overlay):
    for key, value in overlay.items():
        nested = isinstance(value, dict) and isinstance(config.get(key), dict)
        config[key] = laid_over(config[key], value) if nested else value
    return config


found = {}
for study_file in [None, "tcga_lgg", "flpedbrain"]:
    config = yaml.safe_load(Path("config.yaml").read_text())
    if study_file:
        config = laid_over(config, yaml.safe_load(Path(f"studies/{study_file}.yaml").read_text()))
        config["cohort_root"] = "."
    study = load_study(config, "rules/schemas/config.schema.yaml", lambda settings: dict.fromkeys(settings["sites"], 1))
    found |= {f"{study_file} settings {name}": digest for name, digest in study.settings_digests.items()}
    for script in sorted(Path("workflow_scripts").glob("*.py")):
        for name, chosen in {"": study.choices, **study.arm_choices}.items():
            found[f"{study_file} {script.stem} {name}"] = code_fingerprint(str(script), chosen)
print(json.dumps(found))
"""
NETWORK = '''"""One convolution."""

from torch import nn

from fedpedbrain.models.outputs import Logits


class OneLayer(nn.Module):
    """A network of one layer."""

    def __init__(self, in_channels, num_regions, num_classes):
        super().__init__()
        self.layer = nn.Conv3d(in_channels, num_regions, 1)

    def forward(self, images):
        return Logits(self.layer(images), None)
'''
# What is added: the file of its code with that code, the table's file, and the row.
ADDITIONS = {
    "network": (
        "models/architectures/one_layer.py",
        NETWORK,
        "study/network_facts.py",
        '"one_layer": NetworkFacts("fedpedbrain.models.architectures.one_layer:OneLayer"),',
    ),
    "strategy": (
        "federated/strategies/last.py",
        "from fedpedbrain.federated.strategies.strategy import Strategy\n\n\nclass Last(Strategy):\n    pass\n",
        "study/strategy_facts.py",
        '"last": StrategyFacts("fedpedbrain.federated.strategies.last:Last", words="as FedAvg"),',
    ),
    "loss": (
        "training/losses/squares.py",
        "def squares(logits, masks, alpha):\n"
        "    return alpha * (logits.sigmoid() - masks).square().mean((1, 2, 3, 4))\n",
        "study/training_facts.py",
        '"squares": LossFacts("fedpedbrain.training.losses.squares:squares", '
        '{"alpha": Option(4.0, {"type": "number", "minimum": 0}, "Factor on the squares.")}),',
    ),
    "augmentation": (
        "training/nothing_changed.py",
        "class NothingChanged:\n    pass\n",
        "study/augmentation_facts.py",
        '"nothing": AugmentationFacts("fedpedbrain.training.nothing_changed:NothingChanged", lambda block: []),',
    ),
    "source": (
        "data/sources/nothing.py",
        "from fedpedbrain.data.sources.source_files import SourceFiles\n\n\n"
        "def open_nothing(settings):\n    return None\n\n\n"
        "NO_FILES = SourceFiles(lambda settings: [], lambda settings: {})\n",
        "study/source_facts.py",
        '"nothing": SourceFacts("fedpedbrain.data.sources.nothing:open_nothing", '
        '"fedpedbrain.data.sources.nothing:NO_FILES"),',
    ),
}
# The row that another one is put before.
FIRST_ROWS = {
    "network": '"unet": ',
    "strategy": '"fedavg": ',
    "loss": '"dice_cross_entropy": ',
    "augmentation": '"in_plane": ',
    "source": '"phantom": ',
}


# Prints the added loss of one voxel with probability 1/2, with its option left out, and given.
LOSS_PROBE = """
import json
from pathlib import Path

import torch
import yaml
from fedpedbrain.models.outputs import Logits
from fedpedbrain.study.study import load_study
from fedpedbrain.training.losses.joint import JointLoss

found = []
for own in [{}, {"alpha": 8.0}]:
    config = yaml.safe_load(Path("config.yaml").read_text())
    config["training"]["loss"] |= {"segmentation": "squares", "segmentation_weight": 1.0} | own
    settings = load_study(config, "rules/schemas/config.schema.yaml").own_recipe.training_settings["loss"]
    voxel = torch.zeros(1, 1, 1, 1, 1)
    found.append(JointLoss(settings, torch.ones(3))(Logits(voxel, None), voxel, torch.tensor([0])).item())
print(json.dumps(found))
"""


def printed(probe: str, folder: Path) -> Any:
    """What a script prints as JSON that imports the package in a folder."""
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=folder, env={"PYTHONPATH": "pkg"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def fingerprints(folder: Path) -> dict[str, str]:
    """Of the package and the scripts that lie in a folder, and the settings' digests."""
    return printed(PROBE, folder)


@pytest.fixture
def copy(tmp_path) -> Workspace:
    """A copy of the workflow, to be added to."""
    (tmp_path / "copy").mkdir()
    return Workspace(tmp_path / "copy")


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """Fingerprints of the studies as they are."""
    return fingerprints(Path(__file__).resolve().parents[2])


def add(folder: Path, what: str) -> None:
    """Add one choice to a copy of the package: its file and its row."""
    place, code, table, row = ADDITIONS[what]
    package = folder / "pkg" / "fedpedbrain"
    (package / place).write_text(code)
    text = (package / table).read_text()
    assert text.count(FIRST_ROWS[what]) == 1
    (package / table).write_text(text.replace(FIRST_ROWS[what], f"{row}\n        {FIRST_ROWS[what]}"))


@pytest.mark.parametrize("what", ADDITIONS)
def test_an_addition_reruns_nothing_of_any_study(copy, before, what):
    add(copy.folder, what)
    assert fingerprints(copy.folder) == before


@pytest.mark.parametrize("what", ADDITIONS)
def test_an_addition_can_be_chosen(copy, what):
    add(copy.folder, what)
    choice = {
        "network": "network={name: one_layer}",
        "strategy": "arm_defaults={strategy: {name: last}}",
        "loss": "training={loss: {segmentation: squares}}",
        "augmentation": "training={augmentation: {name: nothing}}",
        "source": "cohort={source: nothing}",
    }[what]
    assert copy.planned("--config", choice)["train_site"] > 0


def test_an_added_loss_gets_its_own_option(copy):
    add(copy.folder, "loss")
    assert printed(LOSS_PROBE, copy.folder) == [4.0 * 0.25, 8.0 * 0.25]


def test_a_module_that_moves_reruns_nothing_of_any_study(copy, before):
    package = copy.folder / "pkg" / "fedpedbrain"
    (package / "training" / "epochs.py").rename(package / "training" / "loop.py")
    for path in copy.folder.rglob("*.py"):
        text = path.read_text()
        if "fedpedbrain.training.epochs" in text:
            path.write_text(text.replace("fedpedbrain.training.epochs", "fedpedbrain.training.loop"))
    assert fingerprints(copy.folder) == before


@pytest.mark.parametrize("name", ["patches", "volume_augmentation", "intensity_changes"])
def test_an_edit_of_samples_reruns_the_training_of_studies_that_choose_them_alone(copy, before, name):
    path = copy.folder / "pkg" / "fedpedbrain" / "training" / f"{name}.py"
    path.write_text(path.read_text() + "\n\nEDITED = True\n")
    changed = {key for key, value in fingerprints(copy.folder).items() if value != before[key]}
    assert "tcga_lgg train_site fedavg" in changed
    assert {key.split()[0] for key in changed} == {"tcga_lgg"}


def test_another_loss_of_the_default_study_reruns_its_training(copy, before):
    path = copy.folder / "pkg" / "fedpedbrain" / "training" / "losses" / "dice_cross_entropy.py"
    path.write_text(path.read_text().replace("1.0 -", "2.0 -"))
    after = fingerprints(copy.folder)
    changed = {key for key in before if after[key] != before[key]}
    assert {"None train_site fedavg", "None train_site "} <= changed
    assert not {key for key in changed if " build_shard " in key or " score_predictions " in key}
