import imageio.v3 as iio
import numpy as np
import pytest
from browser import open_browser
from fedpedbrain.reporting.report import write_report_files
from PIL import Image

NUM_MEDIA = "[document.images.length, document.querySelectorAll('video').length]"
# Elements that are wider than the window and do not lie in a part that scrolls by itself.
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def report(write_study, list_videos):
    synthetic = write_study()
    for path in synthetic.inputs.figures:
        Image.effect_noise((640, 400), 50).save(path)
    frames = np.random.default_rng(0).integers(0, 255, (3, 64, 256, 3), dtype=np.uint8)
    folder = synthetic.inputs.videos
    iio.imwrite(folder / "c1.mp4", frames, fps=6, codec="libx264", pixelformat="yuv420p")
    iio.imwrite(folder / "c1.jpg", frames[0])
    list_videos(folder, {"num_slices": len(frames)})
    write_report_files(synthetic.inputs, synthetic.study)
    return synthetic.inputs.report


def test_the_report_shows_all_it_has_without_a_network(page, report):
    page.open(report)
    num_figures = len(list(report.parent.glob("*.png")))
    assert page.evaluate(NUM_MEDIA) == [num_figures, 1]
    assert page.undecoded == []
    assert page.requests == [report.as_uri()]
    assert page.complaints == []


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_fits_its_window(page, report, width):
    page.open(report, width)
    assert page.evaluate(TOO_WIDE) <= 0


def test_what_a_page_lacks_is_found(page, tmp_path):
    broken = tmp_path / "broken.html"
    lost = '<img src="https://example.org/lost.png" alt="lost"><img src="data:image/png;base64,AAAA" alt="torn">'
    broken.write_text(f"<!doctype html><title>Broken</title>{lost}<script>console.error('no')</script>")
    page.open(broken)
    assert page.undecoded == ["lost", "torn"]
    assert any("ERR_" in complaint for complaint in page.complaints)
    assert any("consoleAPICalled" in complaint for complaint in page.complaints)
