"""benchmarks.page: the page and the pictures show what the reports hold, and need nothing else."""

from __future__ import annotations

import json
import math
import re
import sys
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # last: `fastnn` stays the one that is under test

from benchmarks import RESULTS, reports, summary  # noqa: E402
from benchmarks.page import markup, sections  # noqa: E402
from benchmarks.page.__main__ import KEPT_PICTURES, PAGE, main  # noqa: E402
from benchmarks.page.charts import Bar, Group, Scale, scale_of  # noqa: E402

AGAIN = "run python -m benchmarks.page"
UNITS = {"µs": 1.0, "ms": 1e3, "s": 1e6, "ns": 1.0, "MB": 1.0, "": 1.0}


class Line(NamedTuple):
    """A bar as it stands on the page."""

    kind: str
    figure: str
    note: str
    width: float


class Reader(HTMLParser):
    """Reads a page strictly: what is opened is closed, in order; what it shows, and points to."""

    VOID = ("meta", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.style = ""
        self.lines: dict[tuple[str, str, str], Line] = {}  # by chart, group and bar
        self.chart = self.group = self.prose = ""
        self.cells: dict[str, str] = {}
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        assert len(found) == len(attributes)
        assert not {"src", "srcset", "action", "data"} & set(found)
        self.ids += [value for name, value in attributes if name == "id" and value]
        self.links += [value for name, value in attributes if name == "href" and value]
        self.style += found.get("style") or ""
        if tag == "h3":
            self.chart = found["id"] or ""
        if tag in ("h4", "summary"):
            self.group = ""
        if tag == "tr":
            self.cells = {"kind": found["class"] or ""}
        if found.get("class") == "bar":
            self.cells["width"] = (found["style"] or "").removeprefix("width:").rstrip("%")
        if tag not in self.VOID:
            self.open.append((tag, found))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag
        if tag == "tr" and "figure" in self.cells:
            group = self.group.partition(" · ")[0]
            key = (self.chart, group, self.cells["name"])
            assert key not in self.lines
            self.lines[key] = Line(
                self.cells["kind"],
                self.cells["figure"],
                self.cells.get("note", ""),
                float(self.cells["width"]) / 100,
            )

    def handle_data(self, data: str) -> None:
        for tag, attributes in self.open:
            if tag in ("h4", "summary"):
                self.group += data
            elif tag == "p":
                self.prose += data
            elif tag == "style":
                self.style += data
            elif tag in ("th", "td") and (name := attributes.get("class", "name")) != "track":
                self.cells[str(name)] = self.cells.get(str(name), "") + data


@pytest.fixture(scope="module")
def page() -> str:
    """The page of the kept files."""
    return markup.page(sections.sections(RESULTS))


def newest(kind: str) -> Any:
    return reports.read(reports.newest(kind))


def assert_shows(figure: str, values: Any, scale: float = 1.0) -> None:
    """The median in a text and, where it has any, the quartiles are `values` but for rounding."""
    unit = re.findall(r"[^\d\[\]. ]+", figure)
    size = UNITS[unit[0] if unit else ""]
    shown = re.findall(r"[\d.]+", figure)
    low, middle, high = values
    expected = [middle] if len(shown) == 1 else [middle, low, high]
    assert len(shown) == len(expected), figure
    for text, value in zip(shown, expected, strict=True):
        last_digit = 10.0 ** -len(text.partition(".")[2])
        assert abs(float(text) - scale * value / size) <= 0.5001 * last_digit, (figure, values)


def expected_figures() -> dict[tuple[str, str, str], Any]:
    """Quartiles that the kept files hold, by the chart, group and bar that are to show them."""
    names = {"torch": "PyTorch", "jax": "JAX", "sklearn": "scikit-learn", "numpy": "NumPy"}
    found: dict[tuple[str, str, str], Any] = {}
    for kind in ("cpu", "threads"):
        parts = newest(kind)["parts"]
        for part in ("grid", "grid-all-cores"):
            for row in parts.get(part, {"rows": []})["rows"]:
                group = f"{row['row']} {row['layers']} x {row['batch']}"
                for peer, figures in row["peers"].items():
                    key = (f"{kind}-{part}", group, names.get(peer, peer))
                    found[key] = figures["microseconds"]
    for name, figures in newest("cpu")["parts"]["start"]["processes"].items():
        found["cpu-start", "Wall time", name] = np.multiply(figures["seconds"], 1e6)
    for name, megabytes in newest("cpu")["parts"]["memory"]["megabytes"].items():
        found["cpu-memory", "Peak", names.get(name, name)] = [megabytes] * 3
    for size, passes in newest("passes")["sizes"].items():
        for name, figures in passes.items():
            found["passes-share", f"{size} float32", name] = figures["share"]
    for row in newest("transcendentals")["rows"]:
        for who, key in (("fastnn", "ns"), ("NumPy", "numpy_ns")):
            name = f"{row['function']}, {who}"
            found["transcendentals-time", row["dtype"], name] = [row[key]] * 3
    accuracy = newest("accuracy")["5 epochs, torch"]["accuracies"]
    found["accuracy-test", "Test accuracy", "5 epochs, PyTorch"] = [
        min(accuracy),
        np.mean(accuracy),
        max(accuracy),
    ]
    return found


@pytest.mark.smoke
def test_the_kept_page_is_of_the_newest_files(page: str) -> None:
    assert (RESULTS / PAGE).read_text(encoding="utf-8") == page, AGAIN


@pytest.mark.parametrize("name", KEPT_PICTURES)
def test_kept_pictures_are_of_the_newest_file_and_small(name: str) -> None:
    picture = (RESULTS / f"{name}.png").read_bytes()
    assert len(picture) < 150_000
    report = newest("cpu")
    source = f"{report['cpu']}, {report['date']} ({reports.newest('cpu').name})"
    assert b"tEXtSource\0" + source.encode("latin-1") in picture, AGAIN
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for file in (PAGE, f"{name}.png"):
        assert f"(benchmarks/results/{file})" in readme


def test_the_page_needs_nothing_beside_it(page: str) -> None:
    reader = Reader(page)
    assert len(set(reader.ids)) == len(reader.ids)
    for link in reader.links:
        assert link == "data:," or link.removeprefix("#") in reader.ids, link
    assert not re.search(r"url\(|@import|//|expression", reader.style)
    assert "<script" not in page
    assert not re.search(r"https?:", page)


def test_the_figures_are_those_of_the_files(page: str) -> None:
    lines, expected = Reader(page).lines, expected_figures()
    charts = {chart for chart, _, _ in expected} - {"accuracy-test"}
    assert {key for key in lines if key[0] in charts} == {
        key for key in expected if key[0] in charts
    }
    for key, values in expected.items():
        assert_shows(lines[key].figure, values)


def test_every_goal_stands_on_the_page_and_whether_it_is_reached(page: str) -> None:
    lines = Reader(page).lines
    figures = newest("cpu")["summary"]
    shown = {name: line for (chart, _, name), line in lines.items() if chart == "cpu-goals"}
    assert list(shown) == [figure["what"] for figure in figures]
    for figure in figures:
        line = shown[figure["what"]]
        assert line.figure.endswith(figure["goal"])
        verdict = ("own", "reached") if figure["reached"] else ("miss", "MISSED")
        assert (line.kind, line.note) == verdict
        passed = summary.share_of_goal(figure) >= 1
        assert passed == figure["reached"]
    reached = sum(figure["reached"] for figure in figures)
    assert f"{reached} of {len(figures)} goals are reached" in Reader(page).prose


def contestant(time: float, ratio: float) -> dict[str, Any]:
    return {
        "microseconds": [time, time, 2 * time],
        "ratio": [ratio] * 3,
        "turns": 7,
        "of_floor": 5 / time,
    }


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with a comparison of one row, in which a peer is ahead, and an older one."""
    row = {
        "row": "T9",
        "layers": "3-<b>-1",
        "batch": 16,
        "floor_microseconds": 5.0,
        "peers": {
            "fastnn": contestant(10, 1),
            "torch": contestant(100, 10),
            "jax": contestant(8, 0.8),
        },
    }
    report = {
        "command": "python -m benchmarks.compare --rows T9",
        "date": "2026-01-02",
        "quick": True,
        "cpu": "A&B <CPU>",
        "versions": {"python": "3.10", "fastnn": "0"},
        "parts": {"grid": {"threads": 1, "gemm_gflops": 100.0, "rows": [row]}},
        "summary": [{"what": "a limit", "value": 4.0, "goal": "≤ 2", "reached": False}],
    }
    (tmp_path / "cpu-2026-01-02.json").write_text(json.dumps(report))
    (tmp_path / "cpu-2025-12-31.json").write_text("older, and not looked at")
    (tmp_path / "cpu-2026-01-02-quick.json").write_text("of no whole run")
    return tmp_path


def test_a_small_report_is_shown_as_it_is(small: Path) -> None:
    text = markup.page(sections.sections(small))
    reader = Reader(text)
    grid = {name: line for (chart, _, name), line in reader.lines.items() if chart == "cpu-grid"}
    assert {name: line.kind for name, line in grid.items()} == {
        "fastnn": "own",
        "PyTorch": "peer",
        "JAX": "miss",
    }
    # From 1, the power of ten below half of the least, to 1.05 times the greatest quartile.
    for name, time in (("fastnn", 10), ("PyTorch", 100), ("JAX", 8)):
        assert grid[name].width == pytest.approx(math.log(time) / math.log(210), abs=1e-4)
    assert grid["PyTorch"].figure == "100 [100 200] µs"
    assert grid["PyTorch"].note == "10.0x [10.0 10.0]; 7 turns; 5.0% of the roofline"
    goal = reader.lines["cpu-goals", "Share of the goal", "a limit"]
    assert goal[:3] == ("miss", "4.00, goal ≤ 2", "MISSED")
    assert goal.width == pytest.approx(math.log(0.5 / 0.1) / math.log(1.05 / 0.1), abs=1e-4)
    assert "0 of 1 goals are reached" in reader.prose
    assert "the best peer is faster than fastnn: JAX in T9 3-<b>-1 x 16 on one core (0.80x)" in (
        reader.prose
    )
    assert "A&B <CPU>, 2026-01-02, a quick run (cpu-2026-01-02.json): python 3.10." in reader.prose
    assert "python -m benchmarks.compare --rows T9" in reader.prose
    assert {chart for chart, _, _ in reader.lines} == {"cpu-goals", "cpu-grid", "cpu-roofline"}


def test_estimators_are_shown_beside_their_goals(tmp_path: Path) -> None:
    def fit(ratio: float) -> dict[str, Any]:
        return {"fastnn": contestant(10, 1), "scikit-learn": contestant(10 * ratio, ratio)}

    report = {
        "date": "2026-01-02",
        "cpu": "a CPU",
        "versions": {"python": "3.10"},
        "fit": {"digits, 64-100-10": {"float64": fit(4.5), "float32": fit(6.0)}},
        "predict": {"predict": fit(3.0)},
        "search": fit(2.0),
    }
    (tmp_path / "estimators-2026-01-02.json").write_text(json.dumps(report))
    lines = Reader(markup.page(sections.sections(tmp_path))).lines
    reached = lines["estimators-fit", "digits, 64-100-10, float64", "scikit-learn"]
    missed = lines["estimators-fit", "digits, 64-100-10, float32", "scikit-learn"]
    assert (reached.kind, reached.note) == ("peer", "4.50x [4.50 4.50]; 7 turns; goal ≥ 4: reached")
    assert (missed.kind, missed.note) == ("miss", "6.00x [6.00 6.00]; 7 turns; goal ≥ 6.5: MISSED")
    assert ("estimators-search", "Wall time", "scikit-learn") in lines


def test_a_gpu_is_shown_beside_its_peers_and_the_copy(tmp_path: Path) -> None:
    found = {
        "kernels": {"ops": {"add float32": "right", "relu float32": ["off"], "sgd": "not yet run"}},
        "rates": {"copy_bytes_per_second": 4e12},
        "ops": {"ops": {"adam: P 10": {"microseconds": 70.0, "bytes_per_second": 3e12}}},
        "grid": {"rows": {"T4": {"fastnn": contestant(10, 1), "torch": contestant(40, 4)}}},
    }
    report = {
        "date": "2026-01-02",
        "cpu": "a card",
        "versions": {"python": "3.12"},
        "simulated": False,
        "stages": {name: {"ended": "well", "found": each} for name, each in found.items()},
    }
    for date in ("2026-01-01", "2026-01-02"):
        (tmp_path / f"gpu-a-card-{date}.json").write_text(json.dumps(report | {"date": date}))
    reader = Reader(markup.page(sections.sections(tmp_path)))
    assert reader.lines["gpu-grid", "T4", "PyTorch"].note == "4.00x [4.00 4.00]; 7 turns"
    op = reader.lines["gpu-ops", "over operands that no cache holds", "adam: P 10"]
    assert (op.figure, op.note) == ("0.75 [0.75 0.75]", "70.0 µs")
    assert "1 right, 1 wrong, 1 not yet run" in reader.prose
    assert "gpu-a-card-2026-01-02.json" in reader.prose


@pytest.mark.parametrize(
    ("high", "ticks"),
    [(1.0, [0, 0.2, 0.4, 0.6, 0.8, 1]), (1.6, [0, 0.5, 1, 1.5]), (414, [0, 100, 200, 300, 400])],
)
def test_scales_from_zero_have_round_ticks(high: float, ticks: list[float]) -> None:
    np.testing.assert_allclose(Scale(0.0, high, False).ticks(), ticks)


def test_a_logarithmic_scale_shows_the_least_and_the_mark() -> None:
    bars = [Bar("", (30.0, 40.0, 50.0), ""), Bar("", (100.0, 200.0, 900.0), "")]
    scale = scale_of([Group("", bars, {"roofline": 20.0})], True)
    assert scale == Scale(10.0, 945.0, True)
    np.testing.assert_allclose(scale.ticks(), [10, 100])
    assert scale.place(10.0) == 0.0
    assert scale.place(945.0) == 1.0
    assert scale_of([Group("", bars, {"roofline": 9.0})], True).low == 1.0


def test_pictures_have_every_chart_in_its_colours(small: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matplotlib imports may warn
        image = pytest.importorskip("matplotlib.image")
        pytest.importorskip("matplotlib.figure")
    assert main(["--results", str(small), "--pictures", str(tmp_path / "pictures")]) == 0
    assert (small / PAGE).read_text(encoding="utf-8") == markup.page(sections.sections(small))
    drawn = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert drawn == {"cpu-goals.png", "cpu-grid.png", "cpu-roofline.png"}
    pixels = np.rint(255 * image.imread(small / "cpu-grid.png")[..., :3])
    count = {
        colour: (pixels == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=2).sum()
        for colour in ("#1f6feb", "#9aa4af", "#d4570f")
    }
    # Bars of one height: their areas are as their lengths, but for what whiskers cover.
    lengths = [math.log(10), math.log(100), math.log(8)]
    for area, length in zip(count.values(), lengths, strict=True):
        assert area / count["#9aa4af"] == pytest.approx(length / lengths[1], rel=0.25)


def test_without_matplotlib_nothing_is_written(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "fastnn\[plot\]"'):
        main(["--results", str(small)])
    assert not list(small.glob("*.html"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no report of cpu, estimators"),
        ("{", "nnfs-2026-01-02.json: must hold JSON"),
        ("[]", "nnfs-2026-01-02.json: must hold a report, got list"),
        ('{"date": "2026-01-02"}', "must be a report of python -m benchmarks.nnfs: KeyError"),
    ],
)
def test_what_is_no_report_is_refused(
    text: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (tmp_path / "nnfs-2026-01-02.json").write_text(text)
    with pytest.raises(SystemExit, match="2"):
        main(["--results", str(tmp_path)])
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.html"))
