"""The report as a browser without a network shows it: on screen and on paper, light and dark, by keyboard."""

import imageio.v3 as iio
import numpy as np
import pytest
from fedpedbrain.reporting.pages.report import write_report_files
from PIL import Image
from study_arms import arm

NUM_MEDIA = "[document.images.length, document.querySelectorAll('video').length]"
# Elements that are wider than the window and do not lie in a part that scrolls by itself.
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
NUM_FRAMES, FRAMES_PER_SECOND = 6, 6

# The first table with a filter: its rows that are seen, headings of rows first.
FILTERED = "document.querySelector('.filter').nextElementSibling.querySelector('table')"
SEEN = f"[...{FILTERED}.querySelectorAll('tbody tr')].filter((row) => row.checkVisibility())"
SEEN_ROWS = f"""({{
  headings: {SEEN}.filter((row) => row.className === 'group').map((row) => row.textContent.trim()),
  rows: {SEEN}.filter((row) => row.className !== 'group').map((row) => row.cells[0].textContent.trim()),
  said: document.querySelector('.filter output').textContent,
}})"""
FOCUS_ON_FILTER = "document.querySelector('.filter input').focus()"

SLICE = "document.querySelector('.slice').textContent"
# Where the video stands once it has found the slice that it was asked for.
TIME_OF_VIDEO = """new Promise((done) => {
  const video = document.querySelector("video");
  const look = () => (video.seeking || video.readyState < 2 ? setTimeout(look, 10) : done(video.currentTime));
  look();
})"""


@pytest.fixture(scope="module")
def report(write_shared_study, list_videos):
    """A report of six arms, so that tables are long, and of a video of noise."""
    others = [arm(name, {"a": ["a"], "b": ["b"]}) for name in ("fedprox", "scaffold")]
    sent = {"fedavg": [(1, "a", 0.5, 0.9), (1, "b", 0.5, 0.9)]}
    synthetic = write_shared_study(arms=(*write_shared_study().study["arms"], *others), sent=sent)
    for path in synthetic.inputs.figures:
        Image.effect_noise((640, 400), 50).save(path)
    frames = np.random.default_rng(0).integers(0, 255, (NUM_FRAMES, 64, 256, 3), dtype=np.uint8)
    folder = synthetic.inputs.videos
    iio.imwrite(folder / "c1.mp4", frames, fps=FRAMES_PER_SECOND, codec="libx264", pixelformat="yuv420p")
    iio.imwrite(folder / "c1.jpg", frames[0])
    list_videos(folder, {"num_slices": NUM_FRAMES, "frames_per_second": FRAMES_PER_SECOND})
    write_report_files(synthetic.inputs, synthetic.study)
    return synthetic.inputs.report


@pytest.fixture
def page(tab, report):
    """The report in a window of its own."""
    tab.show()
    tab.open(report)
    return tab


def test_the_report_shows_all_it_has_without_a_network(page, report):
    # The picture that explains the case is shown beside the figures.
    num_figures = len(list(report.parent.glob("*.png")))
    assert page.evaluate(NUM_MEDIA) == [num_figures + 1, 1]
    assert page.undecoded == []
    assert page.requests == [report.as_uri()]
    assert page.complaints == []


def test_the_report_may_ask_nobody_for_anything(page):
    asked = "fetch('https://example.org').then(() => 'answered', () => 'refused')"
    assert page.evaluate(asked) == "refused"
    assert any("Content Security Policy" in complaint for complaint in page.complaints)


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_fits_its_window(tab, report, width):
    tab.open(report, width)
    assert tab.evaluate(TOO_WIDE) <= 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_bars_anybody_from_the_report(tab, write_study, scheme):
    # Few arms, but something in every section.
    sent = {"fedavg": [(1, "a", 0.5, 0.9), (1, "b", 0.5, 0.9)]}
    synthetic = write_study(arms=write_study().study["arms"][::3], sent=sent)
    for path in synthetic.inputs.figures:
        Image.new("RGB", (64, 40)).save(path)
    write_report_files(synthetic.inputs, synthetic.study)
    tab.show(scheme=scheme)
    tab.open(synthetic.inputs.report)
    assert tab.barriers == []


def test_a_filter_keeps_the_rows_that_have_all_words(page):
    everything = page.evaluate(SEEN_ROWS)
    assert len(everything["rows"]) == 10
    assert everything["said"] == ""
    page.evaluate(FOCUS_ON_FILTER)
    page.type("FEDAVG")
    assert page.evaluate(SEEN_ROWS) == {
        "headings": everything["headings"],
        "rows": ["FedAvg", "FedAvg"],
        "said": "2 of 10 rows",
    }
    # A heading belongs to each of its rows, and goes with the last of them.
    page.type(" accuracy")
    (heading,) = page.evaluate(SEEN_ROWS)["headings"]
    assert "Accuracy" in heading
    assert page.evaluate(SEEN_ROWS)["rows"] == ["FedAvg"]
    page.type(" nowhere")
    assert page.evaluate(SEEN_ROWS) == {"headings": [], "rows": [], "said": "0 of 10 rows"}
    page.press("Escape")
    assert page.evaluate(SEEN_ROWS) == everything


def test_short_tables_have_no_filter(page):
    sizes = """[...document.querySelectorAll('table')].map((table) => [
      table.querySelectorAll('tbody tr:not(.group)').length,
      table.closest('.scroll')?.previousElementSibling?.className === 'filter',
    ])"""
    found = page.evaluate(sizes)
    assert {has_filter for _, has_filter in found} == {True, False}
    assert all(has_filter == (num_rows > 8) for num_rows, has_filter in found)


def test_a_slider_goes_through_the_slices_of_a_video(page):
    assert page.evaluate(SLICE) == f"Slice 2 of {NUM_FRAMES}"
    page.evaluate("document.querySelector('.slice input').focus()")
    page.press("ArrowRight")
    assert page.evaluate(SLICE) == f"Slice 3 of {NUM_FRAMES}"
    assert page.evaluate(TIME_OF_VIDEO) == pytest.approx(2.5 / FRAMES_PER_SECOND, abs=0.01)
    page.press("End")
    assert page.evaluate(TIME_OF_VIDEO) == pytest.approx((NUM_FRAMES - 0.5) / FRAMES_PER_SECOND, abs=0.01)
    assert page.evaluate(SLICE) == f"Slice {NUM_FRAMES} of {NUM_FRAMES}"
    said = "document.querySelector('.slice input').getAttribute('aria-valuetext')"
    assert page.evaluate(said) == page.evaluate(SLICE)


def test_a_slider_follows_its_video_and_stops_it(page):
    page.evaluate("document.querySelector('video').play()")
    # On a busy machine a video leaves out frames.
    moves = f"""new Promise((done) => {{
      const look = () => (parseInt({SLICE}.split(' ')[1]) >= 4 ? done(true) : setTimeout(look, 20));
      look();
    }})"""
    assert page.evaluate(moves)
    page.evaluate("document.querySelector('.slice input').focus()")
    page.press("Home")
    assert page.evaluate("document.querySelector('video').paused")
    assert page.evaluate(TIME_OF_VIDEO) == pytest.approx(0.5 / FRAMES_PER_SECOND, abs=0.01)


def test_the_contents_mark_the_section_that_is_read(page):
    current = "[...document.querySelectorAll('nav [aria-current]')].map((link) => link.textContent)"
    assert page.evaluate(current) == ["Answer"]
    page.evaluate("document.getElementById('statistics').scrollIntoView({behavior: 'instant'})")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.evaluate(current) == ["Statistics"]


def test_on_paper_nothing_is_hidden(page):
    page.evaluate(FOCUS_ON_FILTER)
    page.type("nowhere")
    assert page.evaluate(SEEN_ROWS)["rows"] == []
    folded = "[...document.querySelectorAll('details table')].map((table) => table.getBoundingClientRect().height > 20)"
    page.show("print")
    assert len(page.evaluate(SEEN_ROWS)["rows"]) == 10
    assert set(page.evaluate(folded)) == {True}
    assert not page.evaluate("document.querySelector('.filter').checkVisibility()")


def test_without_scripts_everything_is_there_and_nothing_without_use(tab, report):
    tab.show()
    tab.send("Emulation.setScriptExecutionDisabled", value=True)
    tab.open(report)
    assert tab.evaluate("document.querySelectorAll('.filter, .slice, [hidden]').length") == 0
    assert tab.evaluate("document.querySelectorAll('tbody tr').length") > 100
    tab.send("Emulation.setScriptExecutionDisabled", value=False)


def test_what_a_page_lacks_is_found(tab, tmp_path):
    broken = tmp_path / "broken.html"
    lost = '<img src="https://example.org/lost.png" alt="lost"><img src="data:image/png;base64,AAAA" alt="torn">'
    broken.write_text(f"<!doctype html><title>Broken</title>{lost}<input><script>console.error('no')</script>")
    tab.open(broken)
    assert tab.undecoded == ["lost", "torn"]
    assert any("ERR_" in complaint for complaint in tab.complaints)
    assert any("consoleAPICalled" in complaint for complaint in tab.complaints)
    assert sorted(finding.split(": ")[1] for finding in tab.barriers) == ["html-has-lang", "label"]
