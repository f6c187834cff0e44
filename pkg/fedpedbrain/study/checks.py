"""What a config's values may not say together, which its schema cannot see."""

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import getitem
from typing import Any

from fedpedbrain.base.cases import DIAGNOSIS
from fedpedbrain.base.errors import StudyError
from fedpedbrain.study.arm_checks import check_arm, check_noise
from fedpedbrain.study.arms import POOLED_SITE, Arm
from fedpedbrain.study.candidates import build_candidates
from fedpedbrain.study.network_facts import NETWORKS, NetworkFacts
from fedpedbrain.study.prediction_settings import PredictionSettings
from fedpedbrain.study.recipes import ArmRecipe
from fedpedbrain.study.sample_checks import check_augmentation, check_flips, check_own_sizes, check_patch, check_powers
from fedpedbrain.study.source_facts import SOURCES
from fedpedbrain.study.training_facts import SEGMENTATION_LOSSES


def check_cohort(config: Mapping[str, Any]) -> None:
    """Refuse sites, regions, classes, splits and channels that contradict each other."""
    cohort = config["cohort"]
    sites = [*cohort["sites"]["training"], *cohort["sites"]["external"]]
    twice = [site for site in sites if sites.count(site) > 1]
    if twice:
        raise StudyError(f"cohort.sites: {twice[0]!r} is listed twice; a site trains or is external")
    if POOLED_SITE in sites:
        raise StudyError(f"cohort.sites: {POOLED_SITE!r} is the name of all sites together; rename the site")
    if not cohort["regions"] and not cohort["classes"]:
        raise StudyError("cohort: no regions and no classes; name what the models shall predict")
    smallest, largest = cohort["anatomy"]["extent_mm"]
    if smallest >= largest:
        raise StudyError(
            f"cohort.anatomy.extent_mm: expected the smallest and then the largest extent in mm, found "
            f"[{smallest:g}, {largest:g}]; correct them"
        )
    check_flips(PredictionSettings(config).flips, cohort["anatomy"]["mirror_axes"])
    names = [region["name"] for region in cohort["regions"]]
    if len(set(names)) < len(names):
        raise StudyError("cohort.regions: two regions have one name; rename one")
    # Tables of scores name a region, a class or the diagnosis as a whole in one column.
    both = [name for name in names if name in (*cohort["classes"], DIAGNOSIS)]
    if both:
        raise StudyError(f"cohort.regions: {both[0]!r} is a class's name or that of all diagnoses, too; rename it")
    if DIAGNOSIS in cohort["classes"]:
        raise StudyError(f"cohort.classes: {DIAGNOSIS!r} is the name of all diagnoses together; rename the class")
    normal = cohort["normal_class"]
    if normal is not None and normal not in cohort["classes"]:
        raise StudyError(f"cohort.normal_class: {normal!r} is none of cohort.classes; add it there or write null")
    splits = cohort["splits"]
    if splits["test_fraction"] + splits["validation_fraction"] >= 1.0:
        raise StudyError("cohort.splits: test_fraction + validation_fraction leave nobody to train on; lower them")
    _check_channels(config)
    _check_class_map(config)
    if cohort["regions"] and not SOURCES[cohort["source"]].has_outlines:
        raise StudyError(f"cohort.regions: the {cohort['source']} source has no outlines; write []")
    if cohort["source"] == "flpedbrain":
        _check_flpedbrain(config["flpedbrain"], sites, normal)


def check_recipe(where: str, recipe: ArmRecipe, config: Mapping[str, Any]) -> None:
    """Refuse a loss, patches, an augmentation or a network that cannot learn from the cohort.

    Parameters
    ----------
    where : place of the recipe's blocks in the config, "" for the study's own
    """
    loss, cohort = recipe.training["loss"], config["cohort"]
    unknown = set(loss["class_weights"]) - set(cohort["classes"])
    if unknown:
        raise StudyError(
            f"{where}training.loss.class_weights: {min(unknown)!r} is not one of cohort.classes; correct it"
        )
    _check_loss_weights(where, loss, cohort)
    _check_label_loss(where, loss, recipe.network_settings, cohort["regions"])
    check_patch(where, recipe.training["patch"])
    check_augmentation(where, recipe.training_settings["augmentation"], cohort["anatomy"]["mirror_axes"])
    check_powers(where, recipe.training_settings["augmentation"], config["preprocessing"]["intensity"]["name"])
    check_own_sizes(where, config["preprocessing"], recipe.patch_size)
    sample = ("preprocessing.grid", config["preprocessing"]["grid"])
    if recipe.patch_size:
        sample = (f"{where}training.patch.size", recipe.patch_size)
    _check_grid(where, recipe.network_settings, *sample)


def check_arms(config: Mapping[str, Any], arms: Mapping[str, Arm], recipes: Mapping[str, ArmRecipe]) -> None:
    """Refuse arms that contradict themselves, each other, or what the config says of them elsewhere."""
    _check_arm_names("evaluation.reference_arm", [config["evaluation"]["reference_arm"]], arms)
    candidates = build_candidates(arms, config["candidates"])
    _check_arm_names("reporting.video.arms", config["reporting"]["video"]["arms"], candidates)
    for arm in arms.values():
        check_arm(arm, config["study"]["rounds"], config["study"]["seeds"])
        check_noise(arm, recipes[arm.name].network["name"], recipes[arm.name].training)
    _check_local_arms(config)


def _check_loss_weights(where: str, loss: Mapping[str, Any], cohort: Mapping[str, Any]) -> None:
    """Refuse a loss that is 0 whatever the network predicts."""
    tasks = {"segmentation_weight": cohort["regions"], "classification_weight": cohort["classes"]}
    weights = {key: loss[key] for key, names in tasks.items() if names}
    if not any(weights.values()):
        named = " and ".join(f"{key} 0" for key in weights)
        raise StudyError(f"{where}training.loss: nothing is learnt with {named}; raise one")


def _check_label_loss(
    where: str, loss: Mapping[str, Any], network: Mapping[str, Any], regions: Sequence[Mapping[str, Any]]
) -> None:
    """Refuse a loss over labels where regions may overlap, and the other way round."""
    over_labels = SEGMENTATION_LOSSES[loss["segmentation"]].is_over_labels
    is_exclusive = network["options"].get("exclusive_regions", False)
    if over_labels != is_exclusive:
        raise StudyError(
            f"{where}training.loss.segmentation: {loss['segmentation']} is over "
            f"{'labels' if over_labels else 'regions that may overlap'}, found exclusive_regions "
            f"{str(is_exclusive).lower()} of network.{network['name']}; change one of them"
        )
    labels = [label for region in regions for label in region["labels"]]
    twice = [label for label in labels if labels.count(label) > 1]
    if is_exclusive and twice:
        names = " and ".join(region["name"] for region in regions if twice[0] in region["labels"])
        raise StudyError(
            f"{where}network.{network['name']}.exclusive_regions: true, but label {twice[0]} is of {names}; set it "
            "to false, or give each label of cohort.regions to one region"
        )


def _check_local_arms(config: Mapping[str, Any]) -> None:
    """A site is compared with its own local arm: with two of them nobody could tell which is meant."""
    alone = [block["name"] for block in config["arms"] if block["participants"] == "alone"]
    if len(alone) > 1:
        raise StudyError(f"arms: {alone[0]!r} and {alone[1]!r} both have participants alone; keep one of them")


def _check_channels(config: Mapping[str, Any]) -> None:
    """Every channel comes from one image: one suffix each in a BIDS folder, one column each in a table, else one."""
    channels, source = config["cohort"]["channels"], config["cohort"]["source"]
    key = SOURCES[source].channels_key
    if not key:
        if len(channels) != 1:
            raise StudyError(f"cohort.channels: the {source} source has one channel, found {len(channels)}; name one")
        return
    names = reduce(getitem, key.split("."), config[source])
    if len(channels) != len(names):
        raise StudyError(
            f"cohort.channels: {len(channels)} channels but {len(names)} {source}.{key}; give one of each a channel"
        )


def _check_class_map(config: Mapping[str, Any]) -> None:
    """Refuse a name of a diagnosis that would stand for no class."""
    source, classes = config["cohort"]["source"], config["cohort"]["classes"]
    for name, target in config.get(source, {}).get("class_map", {}).items():
        if classes and target not in classes:
            raise StudyError(
                f"{source}.class_map: {name!r} leads to {target!r}, which is none of cohort.classes "
                f"({', '.join(classes)}); correct it"
            )


def _check_flpedbrain(block: Mapping[str, Any], sites: Sequence[str], normal_class: str | None) -> None:
    """Refuse normal cases of a study without normal cases, and parts and cases of sites that it does not have."""
    if block["normal_fraction"] > 0 and normal_class not in block["label_names"]:
        raise StudyError(
            f"flpedbrain.normal_fraction: normal cases are asked for, but cohort.normal_class {normal_class!r} is "
            "none of flpedbrain.label_names; correct it or set the fraction to 0"
        )
    unknown = sorted(set(block["site_parts"]) - set(sites))
    if unknown:
        raise StudyError(f"flpedbrain.site_parts: {unknown[0]!r} is none of cohort.sites; correct it")
    strange = sorted(case for case in block["left_out_cases"] if case.split("-")[0] not in sites)
    if strange:
        raise StudyError(f"flpedbrain.left_out_cases: {strange[0]!r} is of none of cohort.sites; correct its name")


def _check_arm_names(key: str, names: Sequence[str], arms: Mapping[str, Arm]) -> None:
    for name in names:
        if name not in arms:
            raise StudyError(f"{key}: {name!r} is none of the study's arms ({', '.join(arms)})")


def _check_grid(where: str, network: Mapping[str, Any], key: str, grid: Sequence[int]) -> None:
    """Refuse a grid or a patch, which stands under ``key``, that the network shrinks to nothing or cannot divide."""
    name, facts = network["name"], NETWORKS[network["name"]]
    if any(size < least for size, least in zip(grid, facts.smallest_grid, strict=True)):
        raise StudyError(f"{key}: {name} needs at least {list(facts.smallest_grid)}, found {grid}; enlarge it")
    if facts.strides:
        _check_stages(f"{where}network.{name}", key, grid, facts, network["options"])


def _check_stages(where: str, key: str, grid: Sequence[int], facts: NetworkFacts, options: Mapping[str, Any]) -> None:
    """Refuse a grid that the stages do not divide, or that ends as a single voxel."""
    strides, number = options[facts.strides], len(options[facts.stages])
    for name in (facts.strides, *facts.per_stage):
        if len(options[name]) != number:
            raise StudyError(
                f"{where}: {number} {facts.stages} but {len(options[name])} {name}; give one of each per stage"
            )
    is_flat = all(sizes[0] == 1 for name in ("strides", "kernels") for sizes in options.get(name, [[0]]))
    if facts.neighbours and options[facts.neighbours] and not is_flat:
        raise StudyError(
            f"{where}.{facts.neighbours}: expected 0, or 1 along D in all kernels and strides, found "
            f"{options[facts.neighbours]} for a network that reaches along D; set it to 0"
        )
    divisors = [math.prod(stride[axis] for stride in strides) for axis in range(3)]
    for axis, (size, divisor) in enumerate(zip(grid, divisors, strict=True)):
        if size % divisor:
            raise StudyError(
                f"{key}: {size} voxels along {'DHW'[axis]} are not a multiple of {divisor}, "
                f"the product of {where}.{facts.strides} there; change one of them"
            )
    # A network that works slice by slice scales each slice on its own.
    first_axis = 1 if is_flat else 0
    if math.prod(grid[first_axis:]) == math.prod(divisors[first_axis:]):
        raise StudyError(
            f"{key}: the deepest stage of {where} is a single voxel, which instance normalisation "
            "cannot scale; enlarge it or lower the strides"
        )
