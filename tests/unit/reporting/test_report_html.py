import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from fedpedbrain.reporting.pages import report
from fedpedbrain.reporting.pages.report import write_report_files
from fedpedbrain.reporting.words.reading_notes import (
    describe_geometry,
    describe_outline_rules,
    describe_selection,
    grid_in_words,
)
from organ_words import organ_words
from study_arms import arm

SIMULATED = "scores say nothing clinical"
VOID = {"meta", "link", "img", "br", "source"}


class Page(HTMLParser):
    """Collects addresses, ids and texts, and fails on tags that do not close in order."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.ids, self.images, self.open = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.addresses += [values[key] for key in ("src", "href", "poster", "action", "srcset") if key in values]
        self.ids += [values["id"]] if "id" in values else []
        self.images += [values] if tag == "img" else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def write_stand_ins(synthetic):
    """The report takes figures as bytes; drawing them is tested elsewhere."""
    for path in synthetic.inputs.figures:
        path.write_bytes(b"figure")


@pytest.fixture
def report_of(write_study):
    def build(**differing):
        synthetic = write_study(**differing)
        write_stand_ins(synthetic)
        write_report_files(synthetic.inputs, synthetic.study)
        return synthetic.inputs.report.read_text(encoding="utf-8")

    return build


VARIANTS = {
    "full": {},
    "no classes": {"classes": ()},
    "no regions": {"regions": ()},
    "no external site": {"external": ()},
    "two regions": {"regions": ("core", "edema")},
    "two seeds": {"seeds": (0, 1)},
}


@pytest.mark.parametrize("differing", VARIANTS.values(), ids=VARIANTS)
def test_every_kind_of_study_gives_a_page_that_asks_the_network_for_nothing(report_of, differing):
    text = report_of(**differing)
    page = Page(text)
    assert [address[:40] for address in page.addresses if not address.startswith(("#", "data:"))] == []
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert all(image["alt"] for image in page.images)
    assert not re.search(r"@import|url\(|<script |<link rel=\"style|fetch\(|XMLHttp|import\(", text)
    assert not re.search(r"\bnan\b|None\b", re.sub(r'"data:[^"]*"', "", text))


PROSTATE = {"organ": "prostate", "finding": "lesion"}


@pytest.mark.parametrize("differing", VARIANTS.values(), ids=VARIANTS)
def test_a_report_on_another_organ_speaks_of_no_head_and_no_tumour(report_of, differing):
    text = report_of(**({"regions": ("whole_lesion",), "classes": ("normal", "cancer")} | differing), anatomy=PROSTATE)
    assert organ_words(re.sub(r'"data:[^"]*"', "", text)) == []
    if differing.get("regions") != ():
        assert "Lesion Dice is the overlap of predicted and true outline in cases with a lesion: 1 is perfect" in text
        assert "Scores of a region are over cases with a lesion. All-case Dice counts" in text


def test_the_words_of_a_report_on_heads_are_those_of_before(report_of):
    text = report_of()
    assert "Tumour Dice is the overlap of predicted and true outline in cases with a tumour: 1 is perfect" in text
    assert "Scores of a region are over cases with a tumour. All-case Dice counts a case without tumour as 1" in text


def test_numbers_of_the_tables_stand_in_the_report(report_of):
    text = report_of()
    assert "0.801" in text
    assert "[0.761, 0.841]" in text
    assert "lower by 0.300" in text
    assert "0.750" in text, "weight of an update"
    assert "12" * 32 in text, "SHA-256 of the parent"
    assert "local-b: normal taken for glioma (2 times)" in text
    assert "pooled-arm: normal taken" not in text


def test_classes_and_mistakes_of_external_sites_are_shown(report_of):
    text = report_of()
    external = section(text, "external")
    assert "Each class against the rest, external sites" in external
    assert "x: normal, 12 cases" in external
    assert "1 of 1 classes" in external, "which macro-F1 is a mean over"
    of_external = text.split("Most frequent mistake of each arm among the cases of external sites")[1]
    assert "local-b: normal taken for glioma (4 times)" in of_external
    assert "among the cases of external sites" not in report_of(external=())


@pytest.mark.parametrize(
    ("counts", "words"), [((3, 3), None), ((2, 2), "2 were validated"), ((2, 1), "1 to 2 were validated")]
)
def test_rounds_that_were_not_validated_are_spoken_of_where_there_are_any(counts, words):
    study = {"training_sites": [], "regions": [], "classes": ["p"], "num_rounds": 3, "seeds": [0], "arms": []}
    study["config"] = {"evaluation": {}}
    selections = [{"num_validated": count, "num_rounds": 3, "selection_score": None} for count in counts]
    notes = describe_selection(study, {"sites": []}, selections)
    assert [note for note in notes[1:] if "rounds" in note] == (
        [f"Of an arm's 3 rounds {words}; the chosen one is among these."] if words else []
    )


def study_of_windows(**filters):
    """What notes read of a study whose second arm trains on patches."""
    windows = {"overlap": 0.5, "validation_overlap": 0.25}
    study = {"training_sites": [], "regions": ["tumour"], "classes": [], "num_rounds": 1, "seeds": [0]}
    study |= {"anatomy": {"finding": "tumour"}, "normal_class": None}
    evaluation = {"surface_tolerance_mm": 1.0, "lesion_overlap": 0.1, "smallest_region_ml": 0.0, "windows": windows}
    evaluation["geometry"] = "scan"
    evaluation["component_filters"] = {"smallest_ml": [0.0], "largest_only": [False]} | filters
    patches = [None, {"size": [1, 8, 8]}]
    return study | {"arms": [{"training": {"patch": patch}} for patch in patches], "config": {"evaluation": evaluation}}


def test_the_report_says_by_how_much_validation_was_cheaper():
    selections = [{"num_validated": 1, "num_rounds": 1, "selection_score": None}]
    study = study_of_windows()
    words = "Rounds are validated on the network's grid, without mirrored copies or component filters"
    of_patches = f"{words}, in windows that overlap by 25 % (50 % where models are scored)."
    assert of_patches in describe_selection(study, {"sites": []}, selections)[0]
    del study["arms"][1]
    assert f"{words}." in describe_selection(study, {"sites": []}, selections)[0]


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"smallest_ml": [0.0, 2.0], "largest_only": [False, True]}, "chosen on validation patients among 4 settings"),
        ({"smallest_ml": [2.5]}, "Of the components of a predicted region those below 2.5 ml are left out."),
        ({"largest_only": [True]}, "Of the components of a predicted region all except the largest are left out."),
        ({}, None),
    ],
)
def test_the_report_says_which_components_are_left_out(filters, words):
    note = describe_outline_rules(study_of_windows(**filters), {"sites": []})
    assert (words in note) if words else ("component" not in note)


@pytest.mark.parametrize(
    ("geometry", "voxel", "limit"),
    [
        ("scan", "scan (axes as stored, median over held-out cases): 5.0 x 1.0 x 1.0 mm", "in the scans' own voxels"),
        ("both", "scan (axes as stored, median over held-out cases): 5.0 x 1.0 x 1.0 mm", "in the scans' own voxels"),
        (
            "grid",
            "grid (D x H x W, median over held-out cases): 9.0 x 4.0 x 4.0 mm",
            "on the network's grid (1 x 8 x 8",
        ),
    ],
)
def test_the_report_says_in_which_voxels_masks_are_compared(geometry, voxel, limit):
    study = study_of_windows()
    study["config"]["evaluation"]["geometry"] = geometry
    study["config"]["preprocessing"] = {"grid": [1, 8, 8]}
    site = {"site": "a", "held_out_spacing_mm": {"scan": [5.0, 1.0, 1.0], "grid": [9.0, 4.0, 4.0]}}
    assert f"Read these against a voxel of the {voxel}" in describe_outline_rules(study, {"sites": [site]})
    assert describe_geometry(study).startswith(f"Scores are computed {limit}")


def test_what_numbers_must_be_read_against_stands_beside_them(report_of):
    text = report_of()
    results, convergence = section(text, "results"), section(text, "convergence")
    assert "12 test cases (filled) and 12 cases of external sites (open). All lines are of test cases alone" in results
    assert "Surfaces agree within 4.5 mm; a lesion is found where the other outline holds 20 % of its voxels" in results
    assert "below 0.75 ml are left out. A case predicted as normal gets no outline." in results
    assert "6.0 x 5.0 x 5.0 mm (0.15 ml) at a and b and 6.0 x 4.0 x 5.0 mm (0.12 ml) at x." in results
    assert "Curves are over 6 validation patients" in convergence
    assert "the score is the mean of tumour Dice and accuracy" in convergence
    assert "No plateau shown for pooled-arm, local-a, local-b and FedAvg: the best round is the last." in convergence
    assert '<em style="left:' in section(text, "answer")


SENT = {"fedavg": [(1, "a", 1.0, 0.5), (1, "b", 1.0, 0.5), (2, "a", None, ""), (2, "b", 9.0, -0.5)]}
PRIVACY = {
    "arm": "fedavg",
    "seed": 0,
    "delta": 1e-5,
    "site_level": None,
    "example_level": {"neighbours": "x", "epsilon": 3.25, "clip_norm": 1.0, "noise_multiplier": 1.0, "warnings": []},
    "not_covered": ["the loss"],
}


def test_updates_participation_and_privacy_are_shown_where_there_are_any(report_of):
    text = report_of(sent=SENT, privacy=PRIVACY)
    Page(text)
    assert "Of 3 updates in 1 arm, 1 stands out:" in text
    assert "FedAvg: b in round 2 (points away from the others)" in text
    assert "Training failed" in text
    assert ">3.25<" in text
    assert "<li>The loss.</li>" in text


def test_a_study_without_them_speaks_of_none(report_of):
    text = report_of()
    for words in ("stands out", "Who took part", 'id="updates"', 'href="#updates"', "Epsilon"):
        assert words not in text


def section(text, name):
    return text.split(f'<section id="{name}"')[1].split("</section>")[0]


def test_the_contents_list_every_section(report_of):
    text = report_of()
    contents = text.split('<nav aria-label="Contents">')[1].split("</nav>")[0]
    assert re.findall(r'href="#(\w+)"', contents) == re.findall(r'<section id="(\w+)"', text)


def test_statistics_compare_every_class_and_say_what_computes_each_metric(report_of):
    statistics = section(report_of(), "statistics")
    of_class = statistics.split("The same of every class")[1].split("</details>")[0]
    assert "Recall of normal" in of_class
    assert "12 of 12" in of_class, "patients of the class, of all who count"
    assert "over 3 arms" not in of_class, "nothing is tested"
    assert "−0.300 [−0.450, −0.150]" in of_class.split("FedAvg</th>")[1].split("</tr>")[0]
    origins = statistics.split("Where the metrics come from</summary>")[1].split("</details>")[0]
    assert "SciPy: binary_erosion, distance_transform_edt" in origins.split("Surface Dice and HD95 (mm)")[1]
    assert "scikit-learn: roc_auc_score" in origins.split(">AUROC<")[1]
    without_classes = section(report_of(classes=()), "statistics")
    assert "scikit-learn" not in without_classes
    assert "The same of every class" not in without_classes


def test_statistics_say_what_is_judged_and_by_which_rule(report_of):
    statistics = section(report_of(), "statistics")
    assert "FedAvg is inferior, worse by more than the margin of 0.05." in statistics
    assert "Accuracy of the diagnosis: the config sets no margin" in statistics
    assert "(Hesterberg, 2015)" in statistics
    # The corrected p is 0.060 of every Dice; the interval of local-a includes 0.
    assert "2 intervals exclude 0 where the corrected test does not reject (largest corrected p 0.060: " in statistics
    row = statistics.split("FedAvg</th>")[1].split("</tr>")[0]
    assert re.findall(r"<td[^>]*>([^<]*)", row) == [
        "12",
        "\u22120.300 [\u22120.450, \u22120.150]",
        "0.020",
        "0.060",
        "Inferior",
        "one_or_zero: 2 of 12",
    ]
    assert "1 where both masks are empty, 0 where one is" in statistics


def test_sites_show_the_worst_one_and_what_each_gains(report_of):
    sites = section(report_of(), "sites")
    assert "Worst and best training site" in sites
    assert re.search(r'FedAvg</th><td class="words">a</td><td>0.501</td><td class="words">b</td>', sites)
    assert "\u22120.200<small>[\u22120.250, \u22120.150]\none_or_zero: 2 of 12</small>" in sites


def test_external_validity_says_what_a_study_does_not_have(report_of):
    text = section(report_of(external=()), "external")
    assert "This study has no external site" in text
    assert "No arm of this study leaves a site out" in text


def test_an_arm_that_leaves_a_site_out_is_scored_there(report_of, write_study):
    without_a = arm("fedavg-a", {"b": ["b"], "c": ["c"]})
    text = section(report_of(arms=(*write_study().study["arms"], without_a)), "external")
    table = text.split("Leave one site out: ")[-1].split("</table>")[0]
    assert re.search(r'<th scope="row" class="words">a</th>.*fedavg-a</td><td>0.401', table)


def test_the_record_holds_study_tables_and_digests(write_study):
    synthetic = write_study()
    write_stand_ins(synthetic)
    write_report_files(synthetic.inputs, synthetic.study)
    record = json.loads(synthetic.inputs.record.read_text(encoding="utf-8"))
    assert record["study"]["title"] == "A <study>"
    assert list(record["tables"]) == [path.stem for path in synthetic.inputs.tables]
    first = record["tables"]["summary"][0]
    assert (first["arm"], first["value"], first["seed_sd"]) == ("pooled-arm", 0.801, None)
    audit = synthetic.inputs.audit
    assert record["files"][str(audit)] == hashlib.sha256(audit.read_bytes()).hexdigest()
    assert len(record["files"]) == len(synthetic.inputs.sources), "one folder of two files stands for two"


def test_names_are_escaped(report_of):
    text = report_of()
    assert "A &lt;study&gt;" in text
    assert "a &lt;note&gt; &amp; more" in text


def test_only_a_simulated_cohort_carries_the_note(report_of):
    assert SIMULATED in report_of(source="phantom")
    assert SIMULATED not in report_of(source="bids")


def test_one_arm_is_not_compared(report_of, write_study):
    text = report_of(arms=write_study().study["arms"][:1])
    assert "Only one arm, pooled-arm, was trained: nothing is compared." in text
    assert "Difference to" not in text
    assert "no difference shown" not in text.lower().split('id="limits"')[0]


def test_the_report_says_where_patients_are_too_few_for_an_interval(report_of):
    text = report_of()
    assert "<td>n = 12<small>too few patients for an interval</small></td>" in text
    assert "Fewer than 6 patients have no interval" in text.split('id="limits"')[1]
    assert "Intervals of few patients are too narrow" in text.split('id="limits"')[1]


def test_several_seeds_show_their_spread(report_of):
    assert "seeds ± 0.013" in report_of(seeds=(0, 1))
    assert "how much another training would differ is not known" in report_of()


def test_a_study_without_classes_speaks_of_no_accuracy(report_of):
    text = report_of(classes=())
    assert "This study has no classes" in text
    assert "macro-f1" not in text.lower()
    assert "accuracy of the diagnosis" not in text.lower()


def test_videos_stand_in_the_file(write_study, list_videos):
    synthetic = write_study()
    write_stand_ins(synthetic)
    for name in ("c1.mp4", "c1.jpg"):
        (synthetic.inputs.videos / name).write_bytes(b"bytes")
    list_videos(synthetic.inputs.videos, {})
    write_report_files(synthetic.inputs, synthetic.study)
    text = synthetic.inputs.report.read_text(encoding="utf-8")
    assert 'src="data:video/mp4;base64,Ynl0ZXM="' in text
    assert 'poster="data:image/jpeg;base64,Ynl0ZXM="' in text
    assert '<img src="data:image/jpeg;base64,Ynl0ZXM=" alt="Evidence for glioma">' in text
    assert "the patient&#39;s right is on the left of the image" in text


@pytest.mark.parametrize(
    ("known", "sentence"),
    [("11", "the patient's right is on the left"), ("00", "nobody knows which side"), ("10", "where R and L")],
)
def test_the_side_of_the_patient_is_said_where_it_is_known(known, sentence):
    assert report.describe_sides([{"are_sides_known": value} for value in known]).startswith(sentence)


def test_pictures_of_the_sites_stand_in_the_file(tmp_path, write_study):
    synthetic = write_study()
    write_stand_ins(synthetic)
    (tmp_path / "north.png").write_bytes(b"bytes")
    write_report_files(replace(synthetic.inputs, quality=[tmp_path / "north.png"]), synthetic.study)
    cohort = synthetic.inputs.report.read_text(encoding="utf-8").split('id="cohort"')[1].split("</section>")[0]
    assert "Cases of site north" in cohort
    assert 'src="data:image/png;base64,Ynl0ZXM="' in cohort


def test_a_video_too_large_for_the_file_keeps_no_later_one_out(tmp_path, list_videos):
    rows = []
    for name, size in (("large", 101), ("small", 60), ("next", 60), ("last", 30)):
        rows.append({"case": name, "file": f"{name}.mp4", "poster": f"{name}.jpg"})
        (tmp_path / f"{name}.mp4").write_bytes(bytes(size - 20))
        (tmp_path / f"{name}.jpg").write_bytes(bytes(10))
    list_videos(tmp_path, *rows)
    assert [bool(video["video_uri"]) for video in report.load_videos(tmp_path, tmp_path, 100)] == [
        False,
        True,
        False,
        True,
    ]


def test_equal_input_gives_an_equal_report(report_of):
    assert report_of() == report_of()


def test_the_report_loads_no_torch():
    code = "import sys, fedpedbrain.reporting.pages.report, fedpedbrain.reporting.pictures.video; "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("grid", "spacing", "words"),
    [
        ([24, 48, 40], [3.0, 1.0, 1.0], "24 x 48 x 40 voxels"),
        (None, [3.0, 0.9, 0.9], "each case's own size, voxels of 3.0 x 0.9 x 0.9 mm"),
        (None, "native", "each case's own size, the scan's own voxels"),
    ],
)
def test_the_grid_in_words(grid, spacing, words):
    assert grid_in_words({"grid": grid, "voxel_spacing_mm": spacing}) == words
