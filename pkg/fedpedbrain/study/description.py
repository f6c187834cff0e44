"""The study in plain values, for its report."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedpedbrain.study.study import Study


def study_in_plain_values(study: "Study") -> dict[str, Any]:
    """What the report's sentences and tables speak of: title, arms with their recipes, sites, regions and classes."""
    cohort = study.config["cohort"]
    arms = [
        {
            "name": arm.name,
            "participants": arm.shards_of,
            "sites": arm.sites,
            "left_out": arm.left_out(study.seeds, study.num_rounds),
            **arm.description,
            **study.recipes[arm.name].description,
        }
        for arm in study.arms.values()
    ]
    return {
        "title": study.config["study"]["title"],
        "source": cohort["source"],
        "arms": arms,
        "candidates": [study.candidates[name].description for name in study.imported_candidates],
        "reference_arm": study.config["evaluation"]["reference_arm"],
        "training_sites": study.training_sites,
        "external_sites": study.external_sites,
        "regions": study.regions,
        "classes": cohort["classes"],
        "normal_class": cohort["normal_class"],
        "anatomy": cohort["anatomy"],
        "num_rounds": study.num_rounds,
        "seeds": study.seeds,
        "config": study.config,
    }
