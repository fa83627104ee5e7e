"""fastnn.examples: each, run small, shows what it claims, and draws a picture."""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import pkgutil
import runpy
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from fastnn import examples
from fastnn.examples import _page, csv_to_submission, dropout_expectation
from helpers import assert_close
from processes import python

NAMES = [
    module.name
    for module in pkgutil.iter_modules(examples.__path__)
    if not module.name.startswith("_")
]
ROOT = Path(__file__).parents[1]
SIZE = (576, 1080)
"""Pixels of a picture: rows, columns."""


class Run(NamedTuple):
    """What a run of an example left."""

    name: str
    findings: Any
    printed: str
    out: Path


def run(name: str, out: Path) -> Run:
    main = importlib.import_module(f"fastnn.examples.{name}").main
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        findings = main(["--quick", "--out", str(out)])
    return Run(name, findings, printed.getvalue(), out)


@pytest.fixture(scope="module")
def draws() -> bool:
    """Whether matplotlib is there; first imported here, where what it imports may warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            importlib.import_module("matplotlib.figure")
        except ImportError:
            return False
    return True


@pytest.fixture(scope="module", params=NAMES)
def quick(request: pytest.FixtureRequest, tmp_path_factory: Any, draws: bool) -> Run:
    """A quick run of each example, with the seed that it takes by itself."""
    return run(request.param, tmp_path_factory.mktemp(request.param) / "picture.png")


# What each must find, said apart from what the examples themselves look at.


def check_biases(found: Any) -> None:
    assert found.accuracy[False] < 0.6 < 0.95 < found.accuracy[True]
    answers = [found.models[False].predict(scale * found.x).argmax(axis=1) for scale in (0.3, 3)]
    np.testing.assert_array_equal(*answers)
    answers = [found.models[True].predict(scale * found.x).argmax(axis=1) for scale in (0.3, 3)]
    assert (answers[0] != answers[1]).any()


def check_csv_to_submission(found: Any) -> None:
    lines = found.submission.read_text().splitlines()
    assert lines[0] == "ImageId,Label"
    assert [int(line.split(",")[0]) for line in lines[1:]] == list(range(1, 361))
    labels = np.array([int(line.split(",")[1]) for line in lines[1:]])
    _, (_, y_test) = csv_to_submission.fastnn.datasets.load("digits")
    assert (labels == y_test).mean() > 0.9
    train = (found.submission.parent / "train.csv").read_text().splitlines()
    assert train[0].startswith("label,pixel0,pixel1,")
    assert len(train) == 1438


def check_dropout_expectation(found: Any) -> None:
    for rate, sums in found.sums.items():
        assert np.ptp(sums) > 0
        error = sums.std() / math.sqrt(len(sums))
        assert abs(sums.mean() - found.v.sum()) < 4 * error < 0.2 * rate * found.v.sum()


def check_joint_gradient(found: Any) -> None:
    assert len(found.error) == 4
    assert max(found.error.values()) < 2e-6
    assert all(len(seconds) == 3 for seconds in found.seconds.values())


def check_learning_rate_decay(found: Any) -> None:
    ends = {name: loss[-1] for name, loss in found.losses.items()}
    constant = [ends.pop("constant, large"), ends.pop("constant, small")]
    assert len(ends) == 5
    assert max(ends.values()) < min(constant)
    for name, rates in found.rates.items():
        assert np.all(np.diff(rates) <= 0)
        assert (rates[0] == rates[-1]) == name.startswith("constant")


def check_optimizers_on_a_surface(found: Any) -> None:
    for path in found.paths.values():
        assert tuple(path[0]) == (-1.5, 1.8)
        assert np.abs(path[-1] - 1).max() < 0.2
    at = {name: np.abs(path - 1).max(axis=1) for name, path in found.paths.items()}
    assert at["SGD, momentum"][100] < 0.01 < 0.2 < at["SGD"][100]
    assert_close(found.steeper["Adam"], found.paths["Adam"], "float32", scale=10)  # 500 steps
    assert found.plain_diverges


def check_random_labels(found: Any) -> None:
    end = {case: accuracy[-1] for case, accuracy in found.training.items()}
    assert end["random", 0.0] > 0.95
    assert found.test["random", 0.0] < 0.2
    assert end["random", 0.5] < 0.85
    assert end["true", 0.5] > 0.98


def check_scaling(found: Any) -> None:
    signed, unit = found.losses["[-1, 1]"], found.losses["[0, 1]"]
    np.testing.assert_allclose(signed[:8], unit[1:9], rtol=0.1)
    assert (signed[4:8] < 0.9 * unit[4:8]).all()  # where the same rate would not do
    assert found.losses["[0, 1] less the mean image"].min() < 0.7 * min(signed.min(), unit.min())


def check_softmax_overflow(found: Any) -> None:
    np.testing.assert_array_equal(np.isnan(found.naive), found.gaps > math.log(3.4028235e38))
    assert np.isfinite(found.stable).all()
    assert np.isinf(found.naive_loss[-1])
    assert found.clipped_loss.max() < 16.2
    assert_close(found.joint_loss, found.exact_loss, "float32")


def check_symmetry(found: Any) -> None:
    for start in ("zeros", "constant 0.05"):
        assert np.ptp(found.kernels[start], axis=1).max() == 0
    assert np.ptp(found.kernels["constant 0.05"]) > 0  # it has been trained
    assert np.ptp(found.kernels["He normal"], axis=1).min() > 0
    assert found.accuracy["He normal"] > 0.9


def check_validation(found: Any) -> None:
    praise = [(found.chosen_on[count] - truth).mean() for count, truth in found.truth.items()]
    assert praise[0] < 0.01 < praise[1] < praise[2]
    for count, truth in found.truth.items():
        assert abs((found.test[count] - truth).mean()) < 0.01


def check_vanishing_gradients(found: Any) -> None:
    sigmoid, relu = np.array(found.norms["sigmoid"]), np.array(found.norms["relu"])
    assert (np.diff(sigmoid) > 0).all()
    assert sigmoid[0] < 1e-3 * sigmoid[-1]
    assert 0.1 < relu[0] / relu[-1] < 10
    assert found.accuracy["sigmoid"] < 0.3 < 0.8 < found.accuracy["relu"]


CHECKS: dict[str, Callable[[Any], None]] = {
    check.__name__.removeprefix("check_"): check
    for check in (
        check_biases,
        check_csv_to_submission,
        check_dropout_expectation,
        check_joint_gradient,
        check_learning_rate_decay,
        check_optimizers_on_a_surface,
        check_random_labels,
        check_scaling,
        check_softmax_overflow,
        check_symmetry,
        check_validation,
        check_vanishing_gradients,
    )
}


def test_it_shows_what_it_claims(quick: Run) -> None:
    assert _page.HOLDS in quick.printed
    assert _page.FAILS not in quick.printed
    CHECKS[quick.name](quick.findings)


def test_its_picture_is_a_png(quick: Run, draws: bool) -> None:
    if not draws:
        pytest.skip("matplotlib is not installed")
    from matplotlib.image import imread

    assert f"picture: {quick.out}" in quick.printed
    image = imread(quick.out)
    assert image.shape[:2] == SIZE
    colours = np.unique(np.rint(255 * image[..., :3]) @ (1, 1 << 8, 1 << 16))
    assert len(colours) > 20  # more than an empty sheet


def test_every_example_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(NAMES) == set(CHECKS)
    runpy.run_module("fastnn.examples", run_name="__main__")
    listed = capsys.readouterr().out
    page = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"\n{name} " in listed
        assert f"`{name}`" in page


def test_a_failed_claim_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "picture.png"
    _page.show(
        "page.py",
        "A page.",
        ["--out", str(out)],
        lambda options: 1 / 3,
        lambda third: _page.Report([("Two is three", 2 == 3)], ("what", "much"), [("a", third)]),
        lambda figure, third: figure.subplots().plot([0, third]),
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[:-1] == [
        "A page.",
        "[fails] Two is three.",
        "",
        "what    much",
        "----  ------",
        "a     0.3333",
        "",
    ]


def test_without_matplotlib_it_says_how_to_get_the_picture(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = run("dropout_expectation", tmp_path / "picture.png")
    assert 'pip install "fastnn[plot]"' in done.printed
    assert not done.out.exists()


def test_it_runs_as_a_program(tmp_path: Path) -> None:
    name, out = "fastnn.examples.dropout_expectation", tmp_path / "picture.png"
    printed = python(
        "import runpy, sys; sys.modules['matplotlib'] = None;"
        f"runpy.run_module({name!r}, run_name='__main__', alter_sys=True)",
        "--quick",
        "--out",
        out,
    )
    assert printed.startswith((dropout_expectation.__doc__ or "").splitlines()[0])


def test_seeds_make_different_runs() -> None:
    same, again, other = (
        dropout_expectation.measure(_page.Options(seed, quick=True)).sums[0.5] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(same, again)
    assert (same != other).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "picture.jpg"], "--out must be the name of a .png file, got picture.jpg"),
        (["--out", "nowhere/a.png"], "--out must be in a folder that exists, got nowhere/a.png"),
        (["--seed", "-1"], "dropout_expectation: seed must be at least 0, got -1"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        dropout_expectation.main(arguments)
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""


def test_files_of_a_competition_are_used_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "picture"
    csv_to_submission.write_digits(folder)
    (folder / "solution.csv").unlink()
    rows = (folder / "test.csv").read_text().splitlines()[:51]
    (folder / "test.csv").write_text("\n".join(rows) + "\n")
    options = _page.Options(quick=True, out=tmp_path / "picture.png")
    findings = csv_to_submission.measure(options)
    assert findings.solution is None
    assert len(findings.answers) == 50
    assert not (folder / "solution.csv").exists()
    assert [row[0] for row in csv_to_submission.report(findings).rows] == ["validation"]
