"""The study that a config describes: the one place that reads the config's keys.

Imported while the job graph is built, so it needs the standard library, jsonschema and PyYAML alone.
"""

import math
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from fedpedbrain.arm_checks import check_arm, check_noise
from fedpedbrain.arms import POOLED_SITE, Arm, build_arms
from fedpedbrain.downloads import is_address
from fedpedbrain.errors import StudyError
from fedpedbrain.lineage import digest_of
from fedpedbrain.schema import check_config, restore_types
from fedpedbrain.seeds import derive_seed

# As ``fedpedbrain.models.i3d_unet.SMALLEST_SIZE``, which would load torch.
I3D_SMALLEST_GRID = (8, 17, 17)

# Source settings to the number of cases of each site.
CountCases = Callable[[Mapping[str, Any]], Mapping[str, int]]


class Study:
    """A checked config.

    Parameters
    ----------
    config : the merged config
    schema : JSON schema of the config
    count_cases : gives the number of cases of each site, from ``source_settings``; needed where phases speak of the
        largest sites
    """

    def __init__(
        self, config: Mapping[str, Any], schema: Mapping[str, Any], count_cases: CountCases | None = None
    ) -> None:
        self._count_cases = count_cases
        self.config = restore_types(config, schema, schema)
        check_config(self.config, schema)
        self._check_meaning()

    @property
    def training_sites(self) -> list[str]:
        """Sites that train, in the order of the config."""
        return self.config["cohort"]["sites"]["training"]

    @property
    def external_sites(self) -> list[str]:
        """Sites never trained on."""
        return self.config["cohort"]["sites"]["external"]

    @property
    def sites(self) -> list[str]:
        """All sites."""
        return [*self.training_sites, *self.external_sites]

    @property
    def seeds(self) -> list[int]:
        """Seeds of the study."""
        return self.config["study"]["seeds"]

    @property
    def num_rounds(self) -> int:
        """Rounds of every arm."""
        return self.config["study"]["rounds"]

    @cached_property
    def arms(self) -> dict[str, Arm]:
        """Every arm by name, ``alone`` and ``all_but_one`` spread out to one arm a site."""
        return build_arms(self.config["arms"], self.config["arm_defaults"], self.training_sites, self._sizes)

    def _sizes(self) -> Mapping[str, int]:
        if self._count_cases is None:
            raise ValueError("Study: phases speak of the largest sites, but nothing was given to count cases with")
        try:
            return self._count_cases(self.source_settings)
        except StudyError:
            # A new scan is predicted where the cohort is not, and then nothing trains.
            if not self.predicts_scan:
                raise
            return dict.fromkeys(self.sites, 0)

    @property
    def source_settings(self) -> dict[str, Any]:
        """What decides which cases there are and what they look like: the argument of ``open_source``."""
        cohort = {key: value for key, value in self.config["cohort"].items() if key != "splits"}
        source = cohort["source"]
        return {
            "cohort": cohort,
            "root": self.config["cohort_root"],
            "sites": self.sites,
            source: self.config[source],
        }

    @property
    def model_spec(self) -> dict[str, Any]:
        """Arguments of ``ModelSpec``."""
        network, cohort = self.config["network"], self.config["cohort"]
        return {
            "name": network["name"],
            "options": network[network["name"]],
            "channels": cohort["channels"],
            "regions": [region["name"] for region in cohort["regions"]],
            "classes": cohort["classes"],
            "preprocessing": self.config["preprocessing"],
        }

    @property
    def pretrained_settings(self) -> dict[str, Any]:
        """Which weights all arms start from, and how much of them."""
        return self.config["network"]["pretrained"]

    @property
    def is_pretrained(self) -> bool:
        """Whether arms start from weights made elsewhere."""
        return self.pretrained_settings["source"] is not None

    @property
    def pretrained_path(self) -> str | None:
        """The file of these weights, absolute; None where there are none or they have to be fetched."""
        source = self.pretrained_settings["source"]
        return None if source is None or is_address(source) else str(Path(source).absolute())

    @property
    def training_settings(self) -> dict[str, Any]:
        """The ``training`` block without what cannot change the result's meaning."""
        return {key: value for key, value in self.config["training"].items() if key != "threads"}

    def settings_digest(self, arm: str) -> str:
        """Digest of how an arm trains, whatever the number of rounds; what it trains on is in the lineage apart."""
        arm_settings = self.arms[arm].settings
        return digest_of({"model": self.model_spec, "training": self.training_settings, "arm": arm_settings})

    def site_plan(self, arm_name: str, seed: int, round_number: int, site: str) -> dict[str, Any]:
        """Arguments of ``SitePlan``: how a site's round goes. Never how many rounds there are."""
        arm = self.arms[arm_name]
        phase = arm.phase_of(round_number)
        return {
            "training": self.training_settings,
            "arm": arm.site_settings,
            "digest": self.settings_digest(arm_name),
            "learning_rate": phase.learning_rate or self.config["training"]["optimizer"]["learning_rate"],
            "start": arm.start_of(site, seed, round_number),
            "state_round": arm.state_round(site, seed, round_number),
            "sites": arm.sites_in_round(seed, round_number),
            "part_of": arm.participants if arm.is_repartitioned else None,
            "may_be_missing": arm.block["participation"]["allow_missing_sites"],
        }

    def round_plan(self, arm_name: str) -> dict[str, Any]:
        """Arguments of ``RoundPlan``: how a round is averaged."""
        arm = self.arms[arm_name]
        return {
            "arm": arm.server_settings,
            "digest": self.settings_digest(arm_name),
            "num_sites": len(arm.participants),
            "is_chain": arm.is_cyclic,
        }

    @property
    def decision_settings(self) -> dict[str, Any]:
        """What turns probabilities into regions: arguments of ``decide_regions``."""
        evaluation = self.config["evaluation"]
        return {
            "threshold": evaluation["threshold"],
            "smallest_region_ml": evaluation["smallest_region_ml"],
            "empty_class": self.config["cohort"]["normal_class"] if evaluation["empty_when_normal"] else None,
        }

    @property
    def comparison_settings(self) -> dict[str, Any]:
        """What the tables that compare the arms are made with."""
        names = ("reference_arm", "bootstrap_samples", "confidence_level", "seed")
        return {name: self.config["evaluation"][name] for name in names}

    @property
    def kept_splits(self) -> list[str]:
        """The splits file of an earlier study, if the config names one."""
        keep_file = self.config["cohort"]["splits"]["keep_file"]
        return [] if keep_file is None else [keep_file]

    @property
    def allows_missing_sites(self) -> bool:
        """Whether some arm's rounds may go on without a site whose training failed."""
        return any(arm.block["participation"]["allow_missing_sites"] for arm in self.arms.values())

    @property
    def inspected_arms(self) -> list[str]:
        """Arms whose updates can be compared with each other: several a round, and readable one by one."""
        return [arm.name for arm in self.arms.values() if len(arm.participants) > 1 and not arm.sums_securely]

    @property
    def shared_arms(self) -> list[str]:
        """Arms that learn from more than one site."""
        return [arm.name for arm in self.arms.values() if len(arm.sites) > 1]

    @property
    def local_sites(self) -> dict[str, str]:
        """Arms that learn from one site alone, and that site."""
        return {arm.name: arm.sites[0] for arm in self.arms.values() if len(arm.sites) == 1}

    @property
    def arm_style(self) -> dict[str, Any]:
        """What the figures need to show an arm the same way everywhere."""
        colours = self.config["reporting"]["arm_colours"]
        return {"study_arms": list(self.arms), "local_sites": self.local_sites, "configured_colours": colours}

    @property
    def description(self) -> dict[str, Any]:
        """The study in plain values, for its report."""
        cohort = self.config["cohort"]
        arms = [
            {
                "name": arm.name,
                "participants": arm.shards_of,
                "sites": arm.sites,
                "left_out": arm.left_out(self.seeds, self.num_rounds),
                **arm.description,
            }
            for arm in self.arms.values()
        ]
        return {
            "title": self.config["study"]["title"],
            "source": cohort["source"],
            "arms": arms,
            "reference_arm": self.config["evaluation"]["reference_arm"],
            "training_sites": self.training_sites,
            "external_sites": self.external_sites,
            "regions": self.model_spec["regions"],
            "classes": cohort["classes"],
            "normal_class": cohort["normal_class"],
            "num_rounds": self.num_rounds,
            "seeds": self.seeds,
            "config": self.config,
        }

    @property
    def scan_paths(self) -> list[str]:
        """Files of the new scan, one a channel: a path, or several joined by commas; none where none is given."""
        return [str(Path(path).absolute()) for path in (self.config["scan"] or "").split(",") if path]

    @property
    def scan_model(self) -> str | list[str]:
        """The model that predicts the new scan; empty where none is given.

        An absolute path: the model is taken as it is, not as something that this study could train anew.
        """
        return str(Path(self.config["model"]).absolute()) if self.config["model"] is not None else []

    @property
    def scan_name(self) -> str:
        """Name of the new scan's results folder: its first file's name, and six digits that stand for its path."""
        if not self.scan_paths:
            return "no-scan"
        name = re.sub(r"\.nii(\.gz)?$", "", Path(self.scan_paths[0]).name)
        return f"{name}-{digest_of({'scan': self.scan_paths})[:6]}"

    @property
    def predicts_scan(self) -> bool:
        """Whether the config names a scan and a model, all that the prediction of a new scan needs."""
        return bool(self.scan_paths and self.scan_model)

    def check_files(self) -> None:
        """Refuse files that are not there: with older results at hand, a job graph would be built without them."""
        named = {
            "network.pretrained.source": [self.pretrained_path] if self.pretrained_path is not None else [],
            "cohort.splits.keep_file": self.kept_splits,
            "scan": self.scan_paths,
            "model": [self.scan_model] if self.scan_model else [],
        }
        for key, paths in named.items():
            for path in paths:
                if not Path(path).is_file():
                    raise StudyError(f"{key}: no file {path}; correct the path")

    def model_seed(self, seed: int) -> int:
        """Seed of the weights that all arms start from."""
        return derive_seed(seed, "initial model")

    def _check_meaning(self) -> None:
        """Refuse what a schema cannot see: values that contradict each other."""
        cohort = self.config["cohort"]
        twice = [site for site in self.sites if self.sites.count(site) > 1]
        if twice:
            raise StudyError(f"cohort.sites: {twice[0]!r} is listed twice; a site trains or is external")
        if POOLED_SITE in self.sites:
            raise StudyError(f"cohort.sites: {POOLED_SITE!r} is the name of all sites together; rename the site")
        if not cohort["regions"] and not cohort["classes"]:
            raise StudyError("cohort: no regions and no classes; name what the models shall predict")
        names = [region["name"] for region in cohort["regions"]]
        if len(set(names)) < len(names):
            raise StudyError("cohort.regions: two regions have one name; rename one")
        normal = cohort["normal_class"]
        if normal is not None and normal not in cohort["classes"]:
            raise StudyError(f"cohort.normal_class: {normal!r} is none of cohort.classes; add it there or write null")
        splits = cohort["splits"]
        if splits["test_fraction"] + splits["validation_fraction"] >= 1.0:
            raise StudyError("cohort.splits: test_fraction + validation_fraction leave nobody to train on; lower them")
        self._check_arm_names("evaluation.reference_arm", [self.config["evaluation"]["reference_arm"]])
        self._check_arm_names("reporting.video.arms", self.config["reporting"]["video"]["arms"])
        unknown = set(self.config["training"]["loss"]["class_weights"]) - set(cohort["classes"])
        if unknown:
            raise StudyError(f"training.loss.class_weights: {min(unknown)!r} is none of cohort.classes; correct it")
        for arm in self.arms.values():
            check_arm(arm, self.num_rounds, self.seeds)
            check_noise(arm, self.config["network"]["name"], self.config["training"]["loss"])
        self._check_loss_weights()
        self._check_local_arms()
        self._check_channels()
        {"unet": self._check_unet_grid, "i3d_unet": self._check_i3d_grid}[self.config["network"]["name"]]()

    def _check_loss_weights(self) -> None:
        """Refuse a loss that is 0 whatever the network predicts."""
        loss, cohort = self.config["training"]["loss"], self.config["cohort"]
        tasks = {"segmentation_weight": cohort["regions"], "classification_weight": cohort["classes"]}
        weights = {key: loss[key] for key, names in tasks.items() if names}
        if not any(weights.values()):
            named = " and ".join(f"{key} 0" for key in weights)
            raise StudyError(f"training.loss: nothing is learnt with {named}; raise one")

    def _check_local_arms(self) -> None:
        """A site is compared with its own local arm: with two of them nobody could tell which is meant."""
        alone = [block["name"] for block in self.config["arms"] if block["participants"] == "alone"]
        if len(alone) > 1:
            raise StudyError(f"arms: {alone[0]!r} and {alone[1]!r} both have participants alone; keep one of them")

    def _check_channels(self) -> None:
        """Every channel comes from one image: one suffix each in a BIDS folder, one in all from the phantom."""
        channels = self.config["cohort"]["channels"]
        if self.config["cohort"]["source"] == "phantom":
            if len(channels) != 1:
                raise StudyError(
                    f"cohort.channels: the phantom source draws one channel, found {len(channels)}; name one"
                )
        elif len(channels) != len(self.config["bids"]["image_suffixes"]):
            raise StudyError(
                f"cohort.channels: {len(channels)} channels but {len(self.config['bids']['image_suffixes'])} "
                "bids.image_suffixes; give one suffix a channel"
            )

    def _check_arm_names(self, key: str, names: list[str]) -> None:
        for name in names:
            if name not in self.arms:
                raise StudyError(f"{key}: {name!r} is none of the study's arms ({', '.join(self.arms)})")

    def _check_i3d_grid(self) -> None:
        """Refuse a grid that the encoder would shrink to nothing."""
        grid = self.config["preprocessing"]["grid"]
        if any(size < least for size, least in zip(grid, I3D_SMALLEST_GRID, strict=True)):
            raise StudyError(
                f"preprocessing.grid: i3d_unet needs at least {list(I3D_SMALLEST_GRID)}, found {grid}; enlarge it"
            )

    def _check_unet_grid(self) -> None:
        """A U-Net halves the grid at every stage: refuse one that does not divide, or that ends as a single voxel."""
        grid, unet = self.config["preprocessing"]["grid"], self.config["network"]["unet"]
        if len(unet["channels"]) != len(unet["strides"]):
            raise StudyError(
                f"network.unet: {len(unet['channels'])} channels but {len(unet['strides'])} strides; "
                "give one of each a stage"
            )
        for axis, size in enumerate(grid):
            divisor = 1
            for stride in unet["strides"]:
                divisor *= stride[axis]
            if size % divisor:
                raise StudyError(
                    f"preprocessing.grid: {size} voxels along {'DHW'[axis]} are not a multiple of {divisor}, "
                    "the product of network.unet.strides there; change one of them"
                )
        deepest = [size // math.prod(stride[axis] for stride in unet["strides"]) for axis, size in enumerate(grid)]
        if math.prod(deepest) == 1:
            raise StudyError(
                "preprocessing.grid: the deepest stage of network.unet is a single voxel, which instance normalisation "
                "cannot scale; enlarge the grid or lower the strides"
            )


def load_study(config: Mapping[str, Any], schema_path: str | Path, count_cases: CountCases | None = None) -> Study:
    """Check a config and return the study it describes; a ``StudyError`` names the key and what to do."""
    return Study(config, yaml.safe_load(Path(schema_path).read_text(encoding="utf-8")), count_cases)
