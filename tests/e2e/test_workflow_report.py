"""Snakemake's own report of a finished study, in a browser without a network."""

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
    for (let tries = 0; tries < 400; tries++) {
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


def test_every_figure_stands_in_snakemakes_report_with_category_and_caption_and_shows(study_copy, tmp_path):
    # Captions are no inputs: the next report has the new one, and nothing is made anew for it.
    study_copy.edit("rules/captions/volumes.rst", "Predicted less true volume", "What is too much or too little")
    target = tmp_path / "snakemake-report.html"
    result = study_copy.snakemake("--configfile", TINY, "--report", str(target))
    assert result.returncode == 0, result.stdout
    assert "Paired differences of every arm to centralized" in target.read_text()
    with open_browser(tmp_path / "profile") as page:
        page.open(target)
        shown = {path: rest for category, path, *rest in json.loads(page.evaluate(WALK)) if category in CATEGORIES}
        assert page.requests == [target.as_uri()]
    figures = study_copy.folder / "results" / "figures"
    assert set(shown) == {path.relative_to(study_copy.folder).as_posix() for path in figures.rglob("*.png")}
    for path, (width, caption) in shown.items():
        assert width > 200, path
        assert len(caption) > 40, path
    captions = {path: caption for path, (_, caption) in shown.items()}
    assert captions["results/figures/volumes.png"].startswith("What is too much or too little over the mean of both")
    convergence = captions["results/figures/convergence.png"]
    assert convergence.startswith("Validation scores of every arm by round")
    assert "Arms that exchange weights stand a second time" in convergence
