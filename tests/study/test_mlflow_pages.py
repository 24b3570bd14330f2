"""MLflow's pages of a study as a person uses them: a real server, a real browser, screenshots of every step.

Needs the extra ``browser`` and Debian's chromium (``apt-get install chromium``); screenshots go to the folder in
``STUDY_SCREENSHOTS``, or to pytest's temporary folder.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from study import tracking
from study.analysis import compare
from study.report import note, write_report

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def home(simulate, kept, tmp_path_factory):
    """A study home with a study of 14 arms and two seeds, recorded as a run does it."""
    home = tmp_path_factory.mktemp("home")
    results = simulate(num_seeds=2, num_epochs=5)
    folder = kept(results, home)
    write_report(results, folder.report)
    tracking.sync(
        folder, f"sqlite:///{home / 'mlflow.db'}", "FINISHED", note(compare(results)), {"trials_finished": 28}
    )
    return home


@pytest.fixture(scope="module")
def server(home):
    """The address of the server, and that of the runs, as `study ui` tells it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "study.cli", "ui", "--home", str(home), "--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    with (home / "ui.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(f"{address}/health", process)
        (page,) = re.findall(r"^weighting: (http\S+)$", (home / "ui.log").read_text(), re.MULTILINE)
        assert page.startswith(address)
        yield page
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def _wait_for(address, process, seconds=180.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail("the MLflow server did not start")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -e '.[browser]'")
    if CHROMIUM is None:
        pytest.skip("no browser: apt-get install chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def shots(tmp_path_factory):
    folder = Path(os.environ.get("STUDY_SCREENSHOTS") or tmp_path_factory.getbasetemp() / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def tab(browser, server):
    page = browser.new_page(viewport={"width": 1600, "height": 1100})
    page.set_default_timeout(60_000)
    yield page
    page.close()


def open_runs(tab, server):
    """Open the runs where `study ui` says they are, close what MLflow puts beside them, and expand the study."""
    tab.goto(server)
    tab.get_by_text("matching runs").wait_for()
    close = tab.locator("button[data-component-id*=assistant][data-component-id*=close]").first
    if close.count():
        close.click()
    tab.locator(
        "[role=row]:has-text('weighting-1a2b3c4d') button[data-component-id*=runnamecellrenderer]"
    ).first.click()
    tab.locator("[role=row]:has-text('softmax · seed 0')").first.wait_for()


def test_runs_lie_under_their_study_and_their_metrics_are_curves_side_by_side(tab, server, shots):
    open_runs(tab, server)
    tab.screenshot(path=shots / "1_runs.png")
    names = [row.inner_text() for row in tab.locator("[role=row]:has-text('seed')").all()]
    assert len(names) == 28
    for arm in ("softmax", "uncertainty", "gradnorm"):
        tab.locator(f"[role=row]:has-text('{arm} · seed 0') .ag-selection-checkbox input").first.click()
    tab.get_by_role("button", name="Compare", exact=True).click()
    tab.get_by_text("Comparing 3 Runs from 1 Experiment").wait_for()
    tab.get_by_text("Parallel Coordinates Plot").first.wait_for()
    tab.screenshot(path=shots / "2_compare.png")
    body = tab.inner_text("body")
    for expected in ("softmax · seed 0", "strategy", "training.learning_rate"):
        assert expected in body
    link = tab.locator("a[href*='metric=%22best_epoch%22']").first.get_attribute("href")
    tab.goto(
        f"{server.partition('/#')[0]}/{link.replace('best_epoch', 'weight%2Femotion')}"
    )  # one of a list that is long to scroll
    tab.locator(".js-plotly-plot .scatterlayer .trace").nth(2).wait_for()
    tab.screenshot(path=shots / "3_weight_curves.png")
    body = tab.inner_text("body")
    for arm in ("softmax", "uncertainty", "gradnorm"):
        assert f"{arm} · seed 0 (weight/emotion)" in body


def test_the_study_shows_its_summary_corpus_and_the_report_in_its_frame(tab, server, shots):
    open_runs(tab, server)
    tab.get_by_role("link", name="weighting-1a2b3c4d", exact=True).first.click()
    tab.get_by_text("No arm differs from static 0.5/0.5").or_(tab.get_by_text("static 0.5/0.5")).first.wait_for()
    tab.get_by_text("synthetic (aaaaaaaa").first.wait_for()
    tab.screenshot(path=shots / "4_study.png")
    tab.get_by_role("tab", name="Artifacts").click()
    tab.get_by_text("report", exact=True).first.click()
    tab.get_by_text("report.html", exact=True).first.click()
    frame = tab.frame_locator("iframe").first
    frame.locator("h2", has_text="What it shows").wait_for()
    tab.screenshot(path=shots / "5_report.png")
    assert frame.locator("figure svg").count() == 5
    sizes = frame.locator("figure svg").evaluate_all("all => all.map(one => one.getBoundingClientRect().width)")
    assert min(sizes) > 200


def test_the_page_opens_from_disk_without_a_request_and_prints(browser, home, shots):
    page = browser.new_page(viewport={"width": 1250, "height": 1400})
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    (report,) = home.glob("weighting-*/report/report.html")
    page.goto(report.as_uri())
    page.screenshot(path=shots / "6_page.png", full_page=True)
    page.emulate_media(media="print")
    page.pdf(path=shots / "7_page.pdf", format="A4")
    width = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    page.close()
    assert asked == [report.as_uri()]
    assert said == []
    assert width <= 0
