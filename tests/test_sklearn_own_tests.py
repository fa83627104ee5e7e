"""scikit-learn's own tests, with fastnn's estimators in the place of theirs."""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from sklearn.utils.estimator_checks import check_estimator

from fastnn.sklearn import MLPClassifier, MLPRegressor
from processes import PLACE

MODULE = "sklearn.neural_network.tests.test_mlp"

# Written beside the tests, since only a plugin can ask which classes they met.
WITNESS = f"""
import sys
import fastnn.sklearn

def pytest_sessionfinish():
    module = sys.modules["{MODULE}"]
    assert module.MLPClassifier is fastnn.sklearn.MLPClassifier
    assert module.MLPRegressor is fastnn.sklearn.MLPRegressor
    print("the classes were fastnn's")
"""


def test_pass_as_they_are(tmp_path: Path) -> None:
    pytest.importorskip("pandas", reason="pandas, which two of the tests need, is not installed")
    (tmp_path / "witness.py").write_text(WITNESS)
    paths = (PLACE, Path(__file__).parent, tmp_path)
    command = [
        sys.executable, "-m", "pytest", "-c", os.devnull, f"--rootdir={tmp_path}",
        "-p", "no:cacheprovider", "-p", "sklearn_substitute", "-p", "witness",
        "--pyargs", MODULE,
    ]  # fmt: skip
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    assert "the classes were fastnn's" in done.stdout
    collected = re.search(r"collected (\d+) items", done.stdout)
    assert collected is not None
    assert int(collected[1]) >= 50  # 59 in scikit-learn 1.9
    # All of them, and of nothing else: no skip, no expected failure, no warning.
    summary = done.stdout.splitlines()[-1]
    assert re.fullmatch(rf"=+ {collected[1]} passed in .*", summary), summary


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_checks_of_estimators(kind: Any) -> None:
    pytest.importorskip("pandas", reason="pandas, which some checks need, is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # scikit-learn's own checks raise their estimators' warnings
        results = check_estimator(kind(max_iter=100), legacy=True, on_fail=None, on_skip=None)
    by_status: dict[str, list[str]] = {}
    for result in results:
        by_status.setdefault(result["status"], []).append(result["check_name"])
    assert len(by_status.pop("passed")) > 50
    # Of array API inputs, which scikit-learn's MLPs do not take; of a decision_function they lack.
    skipped = {
        "check_array_api_input",
        "check_classifiers_multilabel_output_format_decision_function",
    }
    assert set(by_status.pop("skipped")) <= skipped
    assert not by_status
