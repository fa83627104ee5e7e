"""The kept history as a person sees it: asv's page, opened in Chromium without a network."""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from processes import git

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # last: `fastnn` stays the one that is under test

from benchmarks.dashboard import __main__ as dashboard  # noqa: E402

BENCHMARK = "bench_train.TrainEpoch.time_train_epoch"
COMMITS = 8
"""So many of the project's own, at least, have a result."""

WAIT = 30
"""Seconds after which what has not been drawn will not be."""

DRAWN = """
const plot = $("#main-graph").data("plot");
if (!plot) return null;
const canvas = $("#main-graph canvas.flot-base")[0];
const scale = canvas.width / $(canvas).width();
return plot.getData().map(series => ({
    label: series.label,
    color: series.color,
    points: series.data.map(([x, y]) => {
        const at = plot.pointOffset({x: x, y: y});
        const [left, top] = [at.left, at.top].map(place => Math.round(scale * place) - 4);
        return {y: y, pixels: [...canvas.getContext("2d").getImageData(left, top, 9, 9).data]};
    }),
}));
"""
"""What flot says that it has drawn, and the pixels of 9 x 9 that are around each point."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The published page, served on this machine."""
    pytest.importorskip("asv", reason="asv is not installed")
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, which asv takes the commits' order from")
    if shutil.which("npm") is None:
        pytest.skip("npm, which fetches the page's libraries, is not installed")
    folder = tmp_path_factory.mktemp("page") / "html"
    assert dashboard.main(["--no-serve", "--output", str(folder)]) == 0
    with dashboard.server_of(folder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield dashboard.address(server)
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium without a window, which finds no name and no address but this machine's."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("Chromium is not installed: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        "window-size=1300,1000",
        f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        yield found
    finally:
        found.quit()


def kept() -> dict[str, list[float]]:
    """The times of each row of the grid in the kept files, in order of size.

    Those of asv's page: of commits that HEAD has come through, and not of branches merged on the
    way.
    """
    way = git(ROOT, "rev-list", "--first-parent", "HEAD").split()
    times: dict[str, list[float]] = {}
    for path in (ROOT / dashboard.KEPT).glob("*/*-*.json"):
        report = json.loads(path.read_text())
        if BENCHMARK in report["results"] and report["commit_hash"] in way:
            values, (rows,), *_ = report["results"][BENCHMARK]
            for value, row in zip(values, rows, strict=True):
                times.setdefault(f"row-{ast.literal_eval(row)}", []).append(value)
    return {row: sorted(values) for row, values in times.items()}


def drawn(browser: Any, found: Callable[[], Any]) -> Any:
    """What `found` finds, once it does; an error after `WAIT` seconds without."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, WAIT).until(lambda _: found())


def test_a_benchmark_that_is_clicked_shows_its_curve(browser: Any, address: str) -> None:
    browser.get(address)
    links = f'a[href="#{BENCHMARK}"]'
    link = drawn(browser, lambda: browser.find_elements("css selector", links))[0]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", link)
    link.click()
    curves = drawn(browser, lambda: browser.execute_script(DRAWN))
    assert browser.current_url == f"{address}#{BENCHMARK}"

    times = kept()
    assert {curve["label"] for curve in curves} == set(times)
    for curve in curves:
        points = curve["points"]
        assert len(points) >= COMMITS
        assert sorted(point["y"] for point in points) == pytest.approx(times[curve["label"]])
        colour = [int(part) for part in re.findall(r"\d+", curve["color"])]
        for point in points:
            pixels = [point["pixels"][at : at + 3] for at in range(0, 4 * 81, 4)]
            near = [max(abs(a - b) for a, b in zip(colour, p, strict=True)) for p in pixels]
            assert min(near) < 16, f"{curve['label']}: nothing is drawn at {point['y']}"

    loaded = browser.execute_script(
        "return performance.getEntriesByType('resource').map(entry => entry.name)"
    )
    assert len(loaded) > len(dashboard.LIBRARIES)
    assert all(name.startswith(address) for name in loaded)

    browser.find_element("link text", "Beside the peers").click()
    drawn(browser, lambda: browser.find_elements("css selector", "h1"))
    assert browser.current_url == f"{address}{dashboard.PEERS}"
    assert "fastnn beside its peers" in browser.page_source
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_every_kept_benchmark_is_on_the_first_page(browser: Any, address: str) -> None:
    names = json.loads((ROOT / dashboard.KEPT / "benchmarks.json").read_text())
    browser.get(address)
    browser.refresh()
    wanted = {f"{address}#{name}" for name in names if name != "version"}
    hrefs = "return [...document.querySelectorAll('a.btn')].map(link => link.href)"
    assert drawn(browser, lambda: wanted <= set(browser.execute_script(hrefs)))
