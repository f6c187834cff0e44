"""The report: one HTML file that holds everything it shows and asks the network for nothing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from fedpedbrain.base.cases import EXTERNAL, TEST
from fedpedbrain.base.files import read_table, replacing
from fedpedbrain.evaluation.intervals import MIN_PATIENTS_FOR_INTERVAL
from fedpedbrain.evaluation.tables import POOLED_SCOPE, read_results
from fedpedbrain.reporting.figures.style import readable, sentence_case
from fedpedbrain.reporting.numbers import count_noun, format_names
from fedpedbrain.reporting.pages.pages import data_uri, load_pictures, page_environment, template_text
from fedpedbrain.reporting.pages.record import write_record
from fedpedbrain.reporting.results import Results, headline_measures, measure_groups
from fedpedbrain.reporting.tables import score_tables, site_tables, site_updates, tables
from fedpedbrain.reporting.tables.cost_tables import load_costs, usage_part
from fedpedbrain.reporting.tables.statistics_tables import statistics_part
from fedpedbrain.reporting.words import answers, arms_in_words, headlines
from fedpedbrain.reporting.words.reading_notes import (
    count_volume_cases,
    describe_geometry,
    is_scored_on_grid,
    notes_part,
)
from fedpedbrain.reporting.words.source_notes import SOURCE_NOTES
from fedpedbrain.reporting.words.timeline_words import timeline_part
from fedpedbrain.study.colours import MOST_ARMS_BY_COLOUR, arm_colours

# Of pictures and videos, written as addresses; tables take the rest of the 25 MB beyond which mail refuses files.
_MOST_ADDRESS_BYTES = 22_000_000


@dataclass(frozen=True)
class ReportInputs:
    """Where the parts of the report are, and where it goes.

    Attributes
    ----------
    tables : of the comparison, each named as what it holds
    audit : audit of the cohort
    histories, selections : one of each arm and seed, in the order of the config
    figures : PNG, each named as what it shows; any of them may be absent
    videos, explanations : folders with ``videos.tsv`` and ``explanations.tsv``
    report, record : the files to write, for readers and for programs
    inspections : of every round of every arm whose updates can be read, none where there is no such arm
    privacy : of every differentially private arm and seed
    quality : pictures of every site's cases, named as the site
    costs : what the jobs of every arm and seed took
    timeline : when they and all other jobs ran, see ``measure_timeline_files``
    """

    tables: Sequence[str | Path]
    audit: str | Path
    histories: Sequence[str | Path]
    selections: Sequence[str | Path]
    figures: Sequence[str | Path]
    videos: str | Path
    explanations: str | Path
    report: str | Path
    record: str | Path
    timeline: str | Path
    inspections: Sequence[str | Path] = ()
    privacy: Sequence[str | Path] = ()
    quality: Sequence[str | Path] = ()
    costs: Sequence[str | Path] = ()

    @property
    def sources(self) -> list[str | Path]:
        """Every file and folder that the report is made of."""
        several = (self.tables, self.histories, self.selections, self.figures)
        several += (self.inspections, self.privacy, self.quality, self.costs)
        return [
            self.audit,
            self.videos,
            self.explanations,
            self.timeline,
            *(path for paths in several for path in paths),
        ]


def write_report_files(inputs: ReportInputs, study: Mapping[str, Any]) -> None:
    """Write the report and its record.

    Parameters
    ----------
    inputs : what to read and where to write
    study : ``Study.description`` and ``versions`` (name to version)
    """
    table_paths = by_stem(inputs.tables)
    results = Results.from_files(table_paths)
    audit = json.loads(Path(inputs.audit).read_text(encoding="utf-8"))
    selections, accounts = (
        [json.loads(Path(path).read_text(encoding="utf-8")) for path in paths]
        for paths in (inputs.selections, inputs.privacy)
    )
    costs = load_costs(inputs.costs)
    timeline = json.loads(Path(inputs.timeline).read_text(encoding="utf-8"))
    configured = study["config"]["reporting"]["arm_colours"]
    colours = arm_colours(answers.scored_names(study), configured)
    content = {
        "study": study,
        "colours": colours,
        "settings": report_settings(study),
        "css": Markup(template_text("report.css")),
        **answer_part(results, study, audit, colours),
        "audit": audit,
        "cohort_tables": tables.cohort_tables(study, audit),
        "arm_table": arms_in_words.arm_table(study, colours),
        "personal": [readable(arm["name"]) for arm in study["arms"] if arm["is_personal"]],
        "personal_note": arms_in_words.PERSONAL_NOTE,
        **exchange_parts(inputs, study, accounts, colours),
        **result_tables(results, study, colours),
        **site_parts(results, study, colours),
        **statistics_part(results, study, colours),
        "mistakes": {
            where: sentences
            for split, where in ((TEST, "the test cases"), (EXTERNAL, "the cases of external sites"))
            if (sentences := describe_mistakes(table_paths["confusion"], list(colours), split))
        },
        "selection_table": tables.selection_table(selections, study, audit, colours),
        **notes_part(results, study, audit, selections),
        "cost_table": tables.cost_table(study, selections, first_uploads(inputs.histories), colours),
        **usage_part(costs, study, colours),
        **timeline_part(timeline),
        "selections": selections,
        "alt": figure_texts(results, study, audit, selections),
        **load_pictures_and_videos(inputs),
        "limits": describe_limits(results, study),
        "config_text": yaml.safe_dump(json.loads(json.dumps(study["config"])), sort_keys=False, allow_unicode=True),
    }
    with replacing(inputs.report) as temporary:
        temporary.write_text(page_environment().get_template("report.html.j2").render(content), encoding="utf-8")
    facts = {"audit": audit, "selections": selections, "privacy": accounts, "costs": costs, "timeline": timeline}
    write_record(inputs.record, study, facts, table_paths, inputs.sources)


def answer_part(
    results: Results, study: Mapping[str, Any], audit: Mapping[str, Any], colours: Mapping[str, str]
) -> dict[str, Any]:
    """The first screen: the answer in words, its numbers, and what was compared."""
    return {
        "source_note": SOURCE_NOTES.get(study["source"], ""),
        "setting": answers.describe_study(study, audit),
        "arms_in_words": arms_in_words.describe_arms(study, answers.main_arms(study)),
        "headlines": headlines.headlines(results, study),
        "places": headlines.places(results, study),
        "findings": answers.find_all(results, study),
        "headline_groups": score_tables.headline_table(results, study, colours),
    }


def load_pictures_and_videos(inputs: ReportInputs) -> dict[str, Any]:
    """Figures, pictures of sites, and the gallery as far as it fits into the report."""
    figures = {name: data_uri(path) for name, path in by_stem(inputs.figures).items()}
    quality = load_pictures(inputs.quality)
    taken = sum(map(len, [*figures.values(), *(picture["uri"] for picture in quality)]))
    # Base64 writes three bytes as four.
    videos = load_videos(Path(inputs.videos), Path(inputs.explanations), (_MOST_ADDRESS_BYTES - taken) * 3 // 4)
    return {"figures": figures, "quality": quality, "videos": videos, "sides": describe_sides(videos)}


def by_stem(paths: Sequence[str | Path]) -> dict[str, Path]:
    """Paths by their name without its ending."""
    return {path.stem: path for path in map(Path, paths)}


def report_settings(study: Mapping[str, Any]) -> dict[str, Any]:
    """The few settings that the report's sentences name."""
    config = study["config"]
    level = config["evaluation"]["confidence_level"]
    return {
        "level": f"{100 * level:g} %",
        "significance": f"{100 * (1 - level):g} %",
        "seed_note": describe_seeds(len(study["seeds"])),
        "tail": f"{50 * (1 - level):g} %",
        "fewest_patients": MIN_PATIENTS_FOR_INTERVAL,
        "samples": config["evaluation"]["bootstrap_samples"],
        "epochs": config["training"]["epochs_per_round"],
        "passes": config["training"]["epochs_per_round"] * study["num_rounds"],
        "shown_voxels": "the network's grid" if is_scored_on_grid(study) else "the voxels of its scan",
    }


def exchange_parts(
    inputs: ReportInputs, study: Mapping[str, Any], accounts: Sequence[Mapping[str, Any]], colours: Mapping[str, str]
) -> dict[str, Any]:
    """What sites sent, who took part, and what noise is worth; None for what the study has not."""
    updates = site_updates.load_updates(inputs.inspections)
    return {
        "updates": site_updates.updates_part(updates, len(study["seeds"]) > 1),
        "outlier_rule": site_updates.OUTLIER_RULE,
        "participation_table": site_updates.participation_table(study, updates, colours),
        "privacy_table": tables.privacy_table(accounts, colours),
        "not_covered": list(dict.fromkeys(note for account in accounts for note in account["not_covered"])),
        "is_many": len(study["arms"]) > MOST_ARMS_BY_COLOUR,
        "has_exchange": bool(answers.federated_arms(study)),
    }


def result_tables(results: Results, study: Mapping[str, Any], colours: Mapping[str, str]) -> dict[str, Any]:
    """Every measure on all test patients, and the differences of the headline measures."""
    groups = measure_groups(study)
    tables_of_groups = [
        score_tables.score_table(results, colours, [POOLED_SCOPE], measures, f"{name}, all test patients")
        for name, measures in groups.items()
    ]
    return {
        "score_tables": [table for table in tables_of_groups if table],
        "class_table": score_tables.class_table(results, study, colours, [POOLED_SCOPE], "all test patients"),
        "difference_table": score_tables.difference_table(results, study, colours, [POOLED_SCOPE]),
    }


def site_parts(results: Results, study: Mapping[str, Any], colours: Mapping[str, str]) -> dict[str, Any]:
    """Scores at training sites and at external ones, worst sites, gains, and who does how well where."""
    headline = headline_measures(study)
    groups = measure_groups(study)
    parts: dict[str, Any] = {}
    for place, sites in (("site", results.test_sites), ("external", results.external_sites)):
        parts[f"{place}_scores"] = score_tables.score_table(results, colours, sites, headline)
        others = [
            score_tables.score_table(results, colours, sites, measures, name) for name, measures in groups.items()
        ]
        parts[f"{place}_details"] = [table for table in others if table]
        parts[f"{place}_differences"] = score_tables.difference_table(results, study, colours, sites)
    where = "external sites"
    return {
        **parts,
        "external_classes": score_tables.class_table(results, study, colours, results.external_sites, where),
        "gap_table": site_tables.gap_table(results, study, colours),
        "gain_table": site_tables.gain_table(results, study, colours),
        "cross_site_table": site_tables.cross_site_table(results, study, colours),
        "left_out_table": site_tables.left_out_table(results, study, colours),
    }


def describe_mistakes(confusion_path: str | Path, arms: Sequence[str], split: str) -> list[str]:
    """Each arm's most frequent wrong diagnosis among the cases of a split."""
    confusion = read_results(confusion_path)
    wrong = confusion[(confusion["split"] == split) & (confusion["true_class"] != confusion["predicted_class"])]
    sentences = []
    for arm in arms:
        rows = wrong[(wrong["arm"] == arm) & (wrong["num_cases"] > 0)]
        if len(rows):
            worst = rows.loc[rows["num_cases"].idxmax()]
            taken = f"{readable(worst['true_class'])} taken for {readable(worst['predicted_class'])}"
            sentences.append(f"{readable(arm)}: {taken} ({count_noun(int(worst['num_cases']), 'time')})")
    return sentences


def first_uploads(history_paths: Sequence[str | Path]) -> dict[str, list[tables.Upload]]:
    """Arm to what its participants send in each round, of its first seed."""
    uploads: dict[str, list[tables.Upload]] = {}
    for path in history_paths:
        rows = read_table(path)
        sent = [tables.Upload(float(row["uploaded_bytes"]), int(row["num_updates"])) for row in rows]
        uploads.setdefault(rows[0]["arm"], sent)
    return uploads


def figure_texts(
    results: Results, study: Mapping[str, Any], audit: Mapping[str, Any], selections: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    """What each figure shows, for readers who do not see it."""
    names = answers.scored_names(study)
    comparison = []
    for measure in headline_measures(study):
        known = [(arm, value) for arm in names if (value := results.value(arm, measure))]
        scores = [f"{readable(arm)} {answers.describe_value(value)}" for arm, value in known]
        comparison.append(f"{sentence_case(measure.title)}, all test patients: {', '.join(scores) or 'none'}.")
    sizes = [f"{site['site']} {site['num_cases']} ({site['role']})" for site in audit["sites"]]
    chosen = [f"{readable(item['arm'])} seed {item['seed']} round {item['round']}" for item in selections]
    return {
        "cohort": f"Bars of the number of cases at each site: {', '.join(sizes)}.",
        "comparison": f"Scores of every arm with intervals. {' '.join(comparison)} Sites are in the tables.",
        "convergence": f"Validation scores by round. Selected rounds: {', '.join(chosen)}.",
        "classes": "Precision, recall, F1 and AUROC of each class against the rest, with intervals; the table of "
        "classes has the numbers.",
        "updates": "Heat maps of the length of every site's update and of its cosine to the others', by round, an arm "
        "a row; the table has their medians and extremes.",
        "cross_sites": "Heat map of every arm's score at every site; the tables below have the numbers.",
        "reliability": "Accuracy of the diagnosis by the probability of the most probable class, an arm a panel; the "
        "tables have the calibration error.",
        "volumes": "Predicted less true volume of each held-out case with an outline over the mean of both, an arm a "
        f"panel: {count_volume_cases(results, study)}. Lines are of test cases alone; the tables have "
        "volume bias and volume error.",
        "timeline": "A bar for every job, in lanes of the devices that they ran on, by time; the text has what was "
        "busy and what the critical path is made of.",
        "confusion": "Confusion matrices of true and predicted class, test cases; the text below names the mistakes.",
    }


def load_videos(folder: Path, explanations: Path, most_bytes: int) -> list[dict[str, Any]]:
    """The videos, each with the picture that explains the models; "" for those that would make the report too large."""
    pictures = {row["case"]: row for row in read_table(explanations / "explanations.tsv")}
    entries, total = [], 0
    for row in read_table(folder / "videos.tsv"):
        picture = pictures[row["case"]]
        paths = (folder / row["poster"], folder / row["file"], explanations / picture["file"])
        size = sum(path.stat().st_size for path in paths)
        fits = total + size <= most_bytes
        total += size if fits else 0
        names = ("poster_uri", "video_uri", "explanation_uri")
        entry = {name: data_uri(path) if fits else "" for name, path in zip(names, paths, strict=True)}
        words = {"explanation": picture["text"], "saliency_cells": picture["saliency_cells"]}
        entries.append({**row, **entry, **words, "results": row["results"].split("; ")})
    return entries


def describe_sides(videos: Sequence[Mapping[str, str]]) -> str:
    """On which side of the videos the patient's right is, as far as anybody knows."""
    known = {video["are_sides_known"] for video in videos}
    if known == {"1"}:
        return "the patient's right is on the left of the image"
    if known == {"0"}:
        return "nobody knows which side of the image is the patient's right"
    return "where R and L stand beside an image, the patient's right is on its left; elsewhere nobody knows the sides"


def describe_limits(results: Results, study: Mapping[str, Any]) -> list[str]:
    """What this report cannot say, as far as the data themselves tell."""
    settings = report_settings(study)
    measures = headline_measures(study)
    reference = study["reference_arm"]
    sizes = [f"{value.num_cases} for {m.title}" for m in measures if (value := results.value(reference, m))]
    lines = [
        f"The number of test cases is {format_names(sizes) or 'zero'}; at a single site it is a part of that. Small "
        "numbers make wide intervals, and an interval of no width only says that all cases agree.",
        f"Intervals ({settings['level']}, {settings['samples']} bootstrap samples) are over patients: they say how far "
        "other patients of the same sites could move the mean.",
        f"Fewer than {MIN_PATIENTS_FOR_INTERVAL} patients have no interval: even a sign test of so few cannot reach 5 "
        "%. Intervals of few patients are too narrow: a 95 % interval of 10 patients misses the mean about twice as "
        "often as it says, one of 30 still somewhat more often.",
        "“No difference shown” means that the interval includes 0. It does not show that two arms are equally good.",
        "Intervals and answers on non-inferiority are not corrected for their number: where there is no difference at "
        "all, some of many intervals will still seem to show one. The p-values are corrected over the arms of a "
        "measure, not over measures or sites.",
        "Each arm's round was chosen on validation patients, so its validation scores flatter it. Test patients were "
        "scored once, after that choice.",
        describe_geometry(study),
    ]
    lines.insert(3, describe_seeds(len(study["seeds"])))
    if not results.external_sites:
        lines.append("No external site: nothing is known of sites that did not train.")
    return lines


def describe_seeds(number: int) -> str:
    """What is known of how much another training would differ."""
    if number == 1:
        return "One training of each arm (one seed): how much another training would differ is not known."
    return (
        f"Scores are means over {number} trainings (seeds). “seeds ±” is the standard deviation between them; the "
        "intervals are over patients and do not contain it. Confusion counts are summed over seeds."
    )
