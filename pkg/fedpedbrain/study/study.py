"""The study that a config describes: the one place that reads the config's keys.

Imported while the job graph is built, so it needs the standard library, jsonschema and PyYAML alone.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from fedpedbrain.base.choices import defaults_of
from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.lineage import digest_of
from fedpedbrain.base.seeds import derive_seed
from fedpedbrain.study.arms import Arm, build_arms
from fedpedbrain.study.candidates import Candidate, build_candidates
from fedpedbrain.study.checks import check_arms, check_cohort, check_recipe
from fedpedbrain.study.colours import arm_colours
from fedpedbrain.study.description import study_in_plain_values
from fedpedbrain.study.geometry_facts import geometries_of
from fedpedbrain.study.prediction_settings import PredictionSettings
from fedpedbrain.study.recipes import ArmRecipe, build_recipe
from fedpedbrain.study.requests import Requests
from fedpedbrain.study.schema import check_config, load_schema, restore_types
from fedpedbrain.study.source_facts import SOURCES
from fedpedbrain.study.tables import Choice

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
        check_cohort(self.config)
        for name, recipe in {"": self.own_recipe, **self.recipes}.items():
            check_recipe(f"arms.{name}." if name and recipe.differences else "", recipe, self.config)
        check_arms(self.config, self.arms, self.recipes)

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
            # Where the cohort is not, nothing trains.
            if self.requests.need_cohort:
                raise
            return dict.fromkeys(self.sites, 0)

    @property
    def source_settings(self) -> dict[str, Any]:
        """What decides which cases there are and what they look like, at all sites."""
        cohort = {key: value for key, value in self.config["cohort"].items() if key not in ("splits", "anatomy")}
        source = cohort["source"]
        facts = SOURCES[source]
        block = defaults_of(facts.options) | self.config.get(source, {})
        of_sites = {key: {site: block[key][site] for site in block[key] if site in self.sites} for key in facts.by_site}
        return {
            "cohort": cohort,
            "root": self.config["cohort_root"],
            "sites": self.sites,
            source: block | of_sites,
        } | ({"formats": self.format_settings} if facts.reads_any_form else {})

    @property
    def format_settings(self) -> dict[str, Any]:
        """What is assumed of images in forms that carry no geometry: the argument of ``read_scan``."""
        return self.config["formats"]

    @property
    def preprocessing_settings(self) -> dict[str, Any]:
        """How images are brought to the network's grid: what is foreground, and of intensities the chosen options."""
        intensity = self.config["preprocessing"]["intensity"]
        chosen = {key: value for key, value in intensity.items() if key in ("name", intensity["name"])}
        return self.config["preprocessing"] | {"intensity": chosen, "foreground": self.anatomy["foreground"]}

    @property
    def anatomy(self) -> dict[str, Any]:
        """What the images show: ``organ`` and ``finding`` in words, ``extent_mm`` and ``foreground``."""
        return self.config["cohort"]["anatomy"]

    @property
    def duplicate_settings(self) -> dict[str, Any]:
        """When two cases look like one image."""
        names = ("near_duplicate_bits", "near_duplicate_correlation")
        return {name: self.config["audit"][name] for name in names}

    @property
    def fetched_sites(self) -> list[str]:
        """Sites whose files are fetched from a hub."""
        is_fetched = self.config["cohort"]["source"] == "flpedbrain" and self.config["cohort_root"] is None
        return self.sites if is_fetched else []

    @property
    def fetch_settings(self) -> dict[str, Any]:
        """What decides which files are fetched."""
        names = ("repository", "revision", "sha256", "parts", "site_parts", "normals", "normal_fraction")
        return {name: self.config["flpedbrain"][name] for name in names}

    @property
    def regions(self) -> list[str]:
        """Names of the regions."""
        return [region["name"] for region in self.config["cohort"]["regions"]]

    @cached_property
    def candidates(self) -> dict[str, Candidate]:
        """Whatever is scored, by name: the arms, then models made elsewhere."""
        return build_candidates(self.arms, self.config["candidates"])

    @property
    def imported_candidates(self) -> list[str]:
        """Candidates that the study does not train."""
        return [name for name, candidate in self.candidates.items() if not candidate.is_arm]

    @property
    def scored_spec(self) -> dict[str, Any]:
        """What a model has to agree on with the study to be scored: a part of the arguments of ``ModelSpec``."""
        cohort = self.config["cohort"]
        names = {"channels": cohort["channels"], "regions": self.regions, "classes": cohort["classes"]}
        return names | {"preprocessing": self.preprocessing_settings}

    @cached_property
    def own_recipe(self) -> ArmRecipe:
        """The recipe that the study's own blocks describe, which arms may change."""
        return build_recipe(self.config, {})

    @cached_property
    def recipes(self) -> dict[str, ArmRecipe]:
        """How each arm trains."""
        return {name: build_recipe(self.config, arm.block) for name, arm in self.arms.items()}

    @cached_property
    def starts(self) -> dict[str, ArmRecipe]:
        """The starts that arms share, one per network, and a recipe that begins there."""
        return {recipe.start: recipe for recipe in self.recipes.values()}

    def model_spec(self, recipe: ArmRecipe) -> dict[str, Any]:
        """Arguments of ``ModelSpec`` for the network of a recipe."""
        return recipe.network_settings | self.scored_spec | recipe.patch_of_spec

    @cached_property
    def arm_choices(self) -> dict[str, frozenset[Choice]]:
        """What each arm takes from the tables of choices."""
        source = ("SOURCES", self.config["cohort"]["source"])
        return {
            name: frozenset({source, ("STRATEGIES", arm.strategy["name"])}) | self.recipes[name].choices
            for name, arm in self.arms.items()
        }

    def choices_of(self, candidate: str) -> frozenset[Choice]:
        """What a candidate takes from them; of a model made elsewhere nobody knows which network it is."""
        if candidate in self.arm_choices:
            return self.arm_choices[candidate]
        return frozenset(choice for choice in self.choices if choice[0] != "NETWORKS")

    @cached_property
    def choices(self) -> frozenset[Choice]:
        """What all arms together take from them."""
        return frozenset().union(*self.arm_choices.values())

    @cached_property
    def settings_digests(self) -> dict[str, str]:
        """Arm to the digest of how it trains, for any number of rounds; what it trains on is in the lineage apart."""
        return {
            name: digest_of(
                {"model": self.model_spec(recipe), "training": recipe.training_settings, "arm": arm.settings}
            )
            for (name, arm), recipe in zip(self.arms.items(), self.recipes.values(), strict=True)
        }

    def site_plan(self, arm_name: str, seed: int, round_number: int, site: str) -> dict[str, Any]:
        """Arguments of ``SitePlan``: how a site's round goes. Never how many rounds there are."""
        arm, recipe = self.arms[arm_name], self.recipes[arm_name]
        phase = arm.phase_of(round_number)
        return {
            "training": recipe.training_settings,
            "arm": arm.site_settings,
            "digest": self.settings_digests[arm_name],
            "learning_rate": phase.learning_rate or recipe.learning_rate,
            "start": arm.start_of(site, seed, round_number),
            "state_round": arm.state_round(site, seed, round_number),
            "sites": arm.sites_in_round(seed, round_number),
            "cases_of": arm.shards_of[site],
            "part_of": arm.participants if arm.is_repartitioned else None,
        }

    def round_plan(self, arm_name: str, round_number: int) -> dict[str, Any]:
        """Arguments of ``RoundPlan``: how a round is averaged."""
        arm, training = self.arms[arm_name], self.recipes[arm_name].training_settings
        has_fresh_momentum = training["optimizer"]["name"] == "sgd" and not arm.keeps_optimizer_state
        return {
            "arm": arm.server_settings,
            "digest": self.settings_digests[arm_name],
            "num_sites": len(arm.phase_of(round_number).sites),
            "is_chain": arm.is_cyclic,
            "momentum": training["optimizer"]["momentum"] if has_fresh_momentum else 0.0,
            "freezes_encoder": training["freeze_encoder"],
        }

    @cached_property
    def prediction(self) -> PredictionSettings:
        """How models are run on cases, and what is made of their probabilities."""
        return PredictionSettings(self.config)

    def validation_settings(self, arm_name: str) -> dict[str, Any]:
        """How the rounds of an arm are validated."""
        return self.prediction.validation(self.recipes[arm_name].patch_size is not None)

    def validation_sites(self, candidate: str) -> list[str]:
        """Sites whose validation patients choose for a candidate: an arm's own, else all that train."""
        return list(self.candidates[candidate].sites) or self.training_sites

    @property
    def comparison_settings(self) -> dict[str, Any]:
        """What the tables that compare the arms are made with."""
        names = ("reference_arm", "noninferiority_margin", "reliability_bins")
        names += ("bootstrap_samples", "confidence_level", "seed")
        return {name: self.config["evaluation"][name] for name in names}

    @property
    def scoring_settings(self) -> dict[str, float]:
        """What a case's scores depend on beside the masks: arguments of ``MaskPair``."""
        return {name: self.config["evaluation"][name] for name in ("surface_tolerance_mm", "lesion_overlap")}

    @property
    def candidate_sites(self) -> dict[str, list[str]]:
        """Candidate to the sites that it learns from."""
        return {name: list(candidate.sites) for name, candidate in self.candidates.items()}

    @property
    def kept_splits(self) -> list[str]:
        """The splits file of an earlier study, if the config names one."""
        keep_file = self.config["cohort"]["splits"]["keep_file"]
        return [] if keep_file is None else [keep_file]

    @property
    def allows_missing_sites(self) -> bool:
        """Whether some arm's rounds may go on without a site whose training failed."""
        return any(arm.allows_missing_sites for arm in self.arms.values())

    @property
    def exchanging_arms(self) -> list[str]:
        """Arms whose participants train apart and send weights."""
        return [arm.name for arm in self.arms.values() if arm.exchanges_weights]

    @property
    def inspected_arms(self) -> list[str]:
        """Arms whose updates can be compared with each other: several a round, and readable one by one."""
        return [name for name in self.exchanging_arms if not self.arms[name].sums_securely]

    @property
    def shared_arms(self) -> list[str]:
        """Candidates that learn from more than one site, or nobody knows where."""
        return [name for name, candidate in self.candidates.items() if len(candidate.sites) != 1]

    @property
    def local_sites(self) -> dict[str, str]:
        """Arms that learn from one site alone, and that site."""
        return {arm.name: arm.sites[0] for arm in self.arms.values() if len(arm.sites) == 1}

    @property
    def figure_style(self) -> dict[str, Any]:
        """What the figures need to show an arm the same way everywhere."""
        colours, dpi = (self.config["reporting"][name] for name in ("arm_colours", "figure_dpi"))
        arms = {"study_arms": list(self.candidates), "local_sites": self.local_sites}
        return arms | {"configured_colours": colours, "dpi": dpi}

    @property
    def geometries(self) -> list[str]:
        """Geometries that held-out cases are scored in; the first is that of the main scores and of what is shown."""
        return geometries_of(self.config["evaluation"]["geometry"])

    @property
    def geometry_choices(self) -> list[Choice]:
        """What scores take from the tables of choices beside what is scored."""
        return [("GEOMETRIES", word) for word in self.geometries]

    @property
    def video_style(self) -> dict[str, Any]:
        """What the report's videos show: colours of arms that they do not show are none of their business."""
        colours = arm_colours(list(self.candidates), self.config["reporting"]["arm_colours"])
        shown = {arm: colours[arm] for arm in self.config["reporting"]["video"]["arms"]}
        finding = {"regions": self.regions, "classes": self.config["cohort"]["classes"]}
        finding |= {"geometry": self.geometries[0]}
        return {"colours": shown} | finding | self.video_settings

    @property
    def description(self) -> dict[str, Any]:
        """The study in plain values, for its report."""
        return study_in_plain_values(self)

    @property
    def export_description(self) -> dict[str, Any]:
        """The study in plain values, for its exports: of the config what decides its models and scores."""
        # What is said of the data stands in the block that is named as their source.
        blocks = ("cohort", self.config["cohort"]["source"], "preprocessing", "network", "training", "evaluation")
        return self.description | {"config": {name: self.config[name] for name in blocks if name in self.config}}

    @cached_property
    def requests(self) -> Requests:
        """What is asked for beside the study."""
        return Requests(self.config)

    @property
    def participant_columns(self) -> dict[str, str]:
        """Columns of participants.tsv for site and class."""
        return {name: self.config["bids"][name] for name in ("site_column", "class_column")}

    @property
    def scan_plan(self) -> dict[str, Any]:
        """Arguments of ``ScanPlan``: how a new scan is predicted."""
        return {
            **self.prediction.scan_plan,
            "flags": {name: self.config["inference"][name] for name in ("least_probability", "intensity_tolerance")},
            "formats": self.format_settings,
            "anatomy": {name: self.anatomy[name] for name in ("organ", "extent_mm")},
        }

    @property
    def video_settings(self) -> dict[str, Any]:
        """What the video of a new scan has in common with those of the report."""
        return {name: self.config["reporting"]["video"][name] for name in ("frames_per_second", "panel_pixels")}

    def check_files(self) -> None:
        """Refuse files that are not there: with older results at hand, a job graph would be built without them."""
        named = {
            "network.pretrained.source": [recipe.pretrained_path for recipe in self.starts.values()],
            "cohort.splits.keep_file": self.kept_splits,
            "candidates": [path for candidate in self.candidates.values() for path in candidate.model_paths],
        }
        for key, paths in named.items():
            for path in filter(None, paths):
                if not Path(path).is_file():
                    raise StudyError(f"{key}: no file {path}; correct the path")
        self.requests.check_files()

    def model_seed(self, seed: int) -> int:
        """Seed of the weights that all arms start from."""
        return derive_seed(seed, "initial model")


def load_study(config: Mapping[str, Any], schema_path: str | Path, count_cases: CountCases | None = None) -> Study:
    """Check a config and return the study it describes; a ``StudyError`` names the key and what to do."""
    return Study(config, load_schema(schema_path), count_cases)
