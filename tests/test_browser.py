"""The app as a person meets it: a real server, headless Chromium, from a question to overlays."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from taxonomy import load_kb
from taxonomy.card import card

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MINUTE = 60_000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start the app on a free port with a store of its own."""
    folder = tmp_path_factory.mktemp("app")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "XAI_ATLAS_DATABASE_URL": f"sqlite:///{folder / 'atlas.sqlite'}",
        "OMP_NUM_THREADS": "1",
    }
    options = ["--server.port", str(port), "--server.headless", "true", "--server.fileWatcherType", "none"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", "app.py", *options],
            cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(240):
            assert server.poll() is None, (folder / "log").read_text()
            try:
                urllib.request.urlopen(f"{url}/_stcore/health", timeout=5).close()
                break
            except (urllib.error.URLError, TimeoutError):
                time.sleep(0.5)
        yield url
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def browser() -> Iterator[Page]:
    """Open a page of a real browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1400, "height": 1500})
        page.set_default_timeout(2 * MINUTE)
        yield page
        chromium.close()


def test_from_a_question_to_overlays_that_survive_a_reload(address: str, browser: Page, tmp_path: Path) -> None:
    page = browser
    page.goto(address)
    page.get_by_placeholder("Which method for ultrasound segmentation?").fill(
        "Which method for chest x-ray classification?"
    )
    page.keyboard.press("Enter")
    page.get_by_text("Suggested panel").wait_for()
    page.wait_for_function("location.href.includes('q=Which')")
    page.get_by_role("button", name="Run these").click()

    start = page.get_by_role("button", name="Run", exact=True)
    start.wait_for()
    page.wait_for_function("location.href.includes('methods=')")
    page.wait_for_function("!document.querySelector('[data-testid=stBaseButton-primary]').disabled")
    start.click()
    page.get_by_role("link", name="New run").wait_for(timeout=5 * MINUTE)

    for again in (False, True):
        if again:
            page.reload()
        page.get_by_text("Image and the model's answer").wait_for()
        page.wait_for_function("document.querySelectorAll('[data-testid=stImage] img').length >= 4")
        page.wait_for_function("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
        assert "run=" in page.evaluate("location.href")
        assert page.get_by_text("Traceback").count() == 0
    page.screenshot(path=tmp_path / "run.png")
    assert (tmp_path / "run.png").stat().st_size > 50_000

    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download all").click()
    assert waiting.value.suggested_filename.endswith(".zip")
    assert waiting.value.path().stat().st_size > 10_000


def test_the_card_of_a_method_fits_on_one_page(browser: Page) -> None:
    kb = load_kb()
    for method in sorted(kb.methods, key=lambda one: -len(kb.index.by_method.get(one, ())))[:6]:
        browser.set_content(card(kb, method))
        pdf = browser.pdf(prefer_css_page_size=True)
        assert len(re.findall(rb"/Type\s*/Page[^s]", pdf)) == 1, method


def test_a_click_on_the_sunburst_and_on_the_evidence_opens_what_was_clicked(address: str, browser: Page) -> None:
    page = browser
    page.goto(f"{address}/explore?view=Taxonomy")
    page.locator(".sunburstlayer path.surface").first.wait_for()
    page.get_by_text("All branches and families").wait_for()
    page.locator(".sunburstlayer g.slice", has_text="Class activation maps").first.click()
    page.get_by_text("All branches and families").wait_for(state="detached")
    page.get_by_role("link", name="Grad-CAM", exact=True).click()
    page.get_by_role("heading", name="Grad-CAM", exact=True).wait_for()
    page.wait_for_function("location.href.includes('id=grad_cam')")

    page.goto(f"{address}/explore?view=Evidence")
    page.locator(".scatterlayer .points path").first.wait_for()
    box = page.locator(".scatterlayer .points path").first.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.get_by_text("publications. Tick rows").wait_for()


def test_a_search_stands_in_the_address_and_comes_back_by_it(address: str, browser: Page) -> None:
    page = browser
    page.goto(f"{address}/explore")
    page.get_by_role("textbox", name="Search").fill("speckle")
    page.keyboard.press("Enter")
    page.wait_for_function("location.href.includes('find=speckle')")
    page.goto(f"{address}/explore?modality=Ultrasound&kind=publications")
    page.get_by_text("publications. Tick rows").wait_for()
    page.get_by_role("button", name="Cite").click()
    with page.expect_download() as waiting:
        page.get_by_role("button", name="BibTeX").click()
    references = Path(waiting.value.path()).read_text(encoding="utf-8")
    assert references.count("\n@") + 1 == len(load_kb().index.by_modality["ultrasound"])


def test_the_graph_around_an_entity_is_drawn_and_leads_on(address: str, browser: Page) -> None:
    page = browser
    page.goto(f"{address}/explore?id=spect")
    page.get_by_text("Around it in the graph").click()
    point = page.locator(".scatterlayer .points path").first
    point.wait_for()
    point.click(force=True)
    page.wait_for_function("!location.href.includes('id=spect')")
    page.get_by_role("heading", level=1).wait_for()
