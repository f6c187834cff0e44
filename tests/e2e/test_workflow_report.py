"""Snakemake's own report of a finished study, as it is and in a browser without a network."""

import json

import pytest
from browser import open_browser
from workspace import TINY

pytestmark = pytest.mark.slow

CATEGORIES = {"Cohort", "Training", "Results"}
# Opens every category, every picture in it and what is said of it: [category, path, width, caption].
WALK = """
(async () => {
  const until = async (test) => {
    for (let tries = 0; tries < 12000; tries++) {
      const value = test();
      if (value) return value;
      await new Promise((done) => setTimeout(done, 5));
    }
    throw new Error(`never came: ${test}`);
  };
  const icons = (name) => [...document.querySelectorAll(`tr a[iconname="${name}"]`)];
  const menu = () => [...document.querySelectorAll("a")].map((entry) => entry.innerText.trim());
  await until(() => Object.keys(categories).every((category) => menu().includes(category)));
  const found = [];
  for (const [category, parts] of Object.entries(categories)) {
    const number = Object.values(parts).flat().length;
    for (let row = 0; row < number; row++) {
      app.showCategory(category);
      await until(() => icons("information-circle").length === number);
      icons("information-circle")[row].click();
      const caption = (await until(() => /description([^]*?)size/i.exec(document.body.innerText)))[1].trim();
      const path = app.state.resultPath;
      if (results[path].mime_type.startsWith("image/")) {
        (await until(() => document.querySelector('a[iconname="eye"]'))).click();
        const isShown = (image) => image.src === results[path].data_uri && image.naturalWidth;
        const picture = await until(() => [...document.images].find(isShown));
        found.push([category, path, picture.naturalWidth, caption]);
      }
    }
  }
  return JSON.stringify(found);
})()
"""


@pytest.fixture(scope="module")
def report(finished_study, tmp_path_factory):
    """The report of a finished study one of whose captions is another one since."""
    study = finished_study.copy(tmp_path_factory.mktemp("report") / "study")
    # Captions are no inputs: the report has the new one, and nothing is made anew for it.
    study.edit("rules/captions/volumes.rst", "Predicted less true volume", "What is too much or too little")
    target = study.folder.with_name("snakemake-report.html")
    result = study.without_jobs("--configfile", TINY, "--report", str(target))
    assert result.returncode == 0, result.stdout
    return target


def test_it_lists_figures_and_tables(report):
    text = report.read_text()
    for figure in ("cohort", "convergence", "comparison", "confusion", "cross_sites", "reliability", "volumes"):
        assert f"results/figures/{figure}.png" in text
    assert "Paired differences of every arm to centralized" in text


def test_every_figure_stands_in_it_with_category_and_caption_and_shows(finished_study, report, tmp_path):
    with open_browser(tmp_path / "profile") as page:
        page.open(report)
        shown = {path: rest for category, path, *rest in json.loads(page.evaluate(WALK)) if category in CATEGORIES}
        assert page.requests == [report.as_uri()]
    figures = finished_study.folder / "results" / "figures"
    assert set(shown) == {path.relative_to(finished_study.folder).as_posix() for path in figures.rglob("*.png")}
    for path, (width, caption) in shown.items():
        assert width > 200, path
        assert len(caption) > 40, path
    captions = {path: caption for path, (_, caption) in shown.items()}
    assert captions["results/figures/volumes.png"].startswith("What is too much or too little over the mean of both")
    convergence = captions["results/figures/convergence.png"]
    assert convergence.startswith("Validation scores of every arm by round")
    assert "Arms that exchange weights stand a second time" in convergence
