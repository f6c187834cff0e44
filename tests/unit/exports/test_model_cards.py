"""Model cards as the Hugging Face hub reads them, and what lies beside them."""

import re

import pytest
from huggingface_hub import ModelCard
from organ_words import organ_words
from study_arms import arm

SITES = {"a": ["a"], "b": ["b"]}


def found_results(card):
    return {(item.dataset_config, item.metric_type): item.metric_value for item in card.data.eval_results}


def cells(text, measure, place):
    """Cells of the row of a measure and a place in the table of scores."""
    (row,) = re.findall(rf"^\| {re.escape(measure)} \| {re.escape(place)} \| (.*) \|$", text, re.MULTILINE)
    return row.split(" | ")


def test_the_hub_reads_scores_of_test_patients_and_external_sites(export):
    card = ModelCard.load(export().card("fedavg"))
    assert found_results(card) == {
        ("all test patients", "dice"): pytest.approx(0.6015),
        ("x", "dice"): pytest.approx(0.603),
        ("all test patients", "accuracy"): 1.0,
        ("x", "accuracy"): 1.0,
    }
    assert {item.task_type for item in card.data.eval_results} == {"image-segmentation", "image-classification"}
    assert card.data.model_name == "A study: FedAvg, seed 0"
    assert card.data.library_name == "fedpedbrain"
    assert card.data.license is None
    assert "federated-learning" in card.data.tags
    assert "simulated-data" not in card.data.tags


def test_a_card_says_what_the_model_is_and_is_not_for(export):
    text = ModelCard.load(export().card("fedavg")).text
    assert "It is not a medical device" in text
    assert "Federated: a and b train apart. FedAvg: the weighted mean of the sites' weights." in text
    assert (
        "outlines regions of tumour (tumour) and tells 2 classes apart (normal, glioma), on MRI of the head (T2w)"
        in text
    )
    assert "| learning rate | 0.003 |" in text
    grid = r"^\| grid \(feet to head, front to back, right to left\) \| \d+ x \d+ x \d+ voxels \|$"
    assert re.search(grid, text, re.MULTILINE)
    assert "| a | trained on | 17 | 11 | 3 | 3 |" in text
    assert "| x | never seen in training | 17 | – | – | 3 |" in text
    assert "normal 16, glioma 16." in text, "of the sites that it was trained on"
    assert "`" + "34" * 32 + "`" in text
    assert "snakemake predict --config scan=PATH model=best.pth" in text
    assert cells(text, "Tumour Dice (tumour)", "all test patients") == [
        *("2", "2"),
        "0.602 (too few patients for an interval)",
    ]
    assert "Privacy" not in text
    assert "None" not in text


def test_a_card_of_another_organ_speaks_of_no_head_and_no_tumour(export):
    anatomy = {"organ": "prostate", "finding": "Gleason lesion"}
    text = export(regions=("outline",), classes=("normal", "cancer"), anatomy=anatomy).card("fedavg").read_text()
    assert "outlines regions of Gleason lesion (outline) and tells" in text
    assert ", on MRI of the prostate (T2w)" in text
    assert {"prostate", "gleason-lesion"} <= set(ModelCard(text).data.tags)
    assert organ_words(text) == []


def test_the_hub_is_told_on_whose_test_patients_a_local_arm_was_scored(export):
    card = ModelCard.load(export(arms=(arm("local-a", {"a": ["a"]}),)).card("local-a"))
    names = {item.dataset_config: item.dataset_name for item in card.data.eval_results}
    assert names == {"all test patients": "A study: test patients of a and b", "x": "A study: external site x"}


def test_a_card_says_which_measures_are_no_means_over_cases(export):
    text = export().card("fedavg").read_text()
    groups = "macro-F1, balanced accuracy, AUROC and calibration error"
    assert f"\nMeans over cases, except for {groups}: these are of all cases together. In brackets 95 %" in text
    assert "\nMeans over cases. In brackets 95 %" in export(classes=()).card("fedavg").read_text()


def test_a_title_is_text_whatever_it_looks_like(export):
    title = "# One *title* of <img src=x onerror=y> & [two](https://three) | four: five"
    card = ModelCard.load(export(title=title).card("fedavg"))
    assert card.data.model_name == f"{title}: FedAvg, seed 0"
    line = next(line for line in card.text.splitlines() if "title" in line)
    shown = r"\# One \*title\* of \<img src=x onerror=y\> \& \[two\](https://three) \| four: five"
    assert line == f"Study: {shown}."


def test_no_patient_is_named(export):
    exported = export()
    assert "Jane-p2" in (exported.folder / "metrics.csv").read_text()
    assert not re.search(r"Jane|\bp[1-4]\b", exported.card("fedavg").read_text())


def test_the_folder_of_a_model_holds_what_may_be_published_and_nothing_else(export):
    folder = export().card("pooled-arm").parent
    assert {path.name for path in folder.iterdir()} == {"README.md", "best.pth", "intensities.json"}
    assert (folder / "best.pth").read_bytes() == b"weights"


def test_each_seed_has_its_own_scores_beside_the_mean_of_all(export):
    exported = export(seeds=(0, 1, 2))
    for seed, own in enumerate(("0.602", "0.612", "0.622")):
        text = exported.card("fedavg", seed).read_text()
        row = cells(text, "Tumour Dice (tumour)", "all test patients")
        assert row[2].startswith(own)
        assert row[3] == "0.612 (seeds ± 0.010)"
        assert "one of 3 trainings" in text


@pytest.mark.parametrize(
    ("differing", "task", "metrics"),
    [
        ({"classes": ()}, "image-segmentation", {"dice"}),
        ({"regions": ()}, "image-classification", {"accuracy"}),
    ],
    ids=["no classes", "no regions"],
)
def test_a_study_of_one_task_speaks_of_no_other(export, differing, task, metrics):
    card = ModelCard.load(export(**differing).card("fedavg"))
    assert card.data.pipeline_tag == task
    assert {metric for _, metric in found_results(card)} == metrics
    assert ("outlines" in card.text) == ("dice" in metrics)
    assert ("classes apart" in card.text) == ("accuracy" in metrics)


def test_a_personal_arms_card_claims_no_scores_of_its_sites_own_models(export):
    personal = arm("fedbn", SITES, strategy={"name": "fedbn"})
    card = ModelCard.load(export(arms=(personal,)).card("fedbn"))
    assert {place for place, _ in found_results(card)} == {"x"}
    assert "| all test patients |" not in card.text
    assert "This is the common model" in card.text


def test_a_private_arm_says_what_its_noise_is_worth(export):
    cases = {"neighbours": "one case is there or not", "epsilon": 3.25}
    account = {"arm": "fedavg", "seed": 0, "delta": 1e-5, "site_level": None, "example_level": cases}
    exported = export(privacy=[account | {"not_covered": ["the loss"]}])
    assert "| one case is there or not | 3.25 | 1e-05 |" in exported.card("fedavg").read_text()
    assert "Not covered: the loss." in exported.card("fedavg").read_text()
    assert "Privacy" not in exported.card("pooled-arm").read_text()
