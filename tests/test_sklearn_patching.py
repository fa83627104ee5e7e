"""Code that is not to be touched: `patch`, and ``python -m fastnn.sklearn``."""

import doctest
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sklearn.neural_network
from sklearn.neural_network import _multilayer_perceptron

import fastnn.sklearn
from fastnn.sklearn import estimators, patching
from fastnn.sklearn.__main__ import main
from processes import PLACE
from sklearn_cases import TheirClassifier, TheirRegressor, digits, ours, quietly

SCRIPT = """
import sys
import beside
from sklearn.neural_network import MLPClassifier, MLPRegressor
print(MLPClassifier.__module__, MLPRegressor.__module__)
print(__name__, sys.argv)
if "fail" in sys.argv:
    sys.exit(7)
if "raise" in sys.argv:
    raise KeyError("nothing there")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A script with a module beside it."""
    place = tmp_path_factory.mktemp("scripts")
    (place / "script.py").write_text(SCRIPT)
    (place / "beside.py").write_text("")
    return place


def run(*arguments: object, cwd: Path) -> tuple[int, list[str], str]:
    """Exit code, lines and complaints of ``python -m fastnn.sklearn``."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "fastnn.sklearn", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(PLACE)},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


OURS = "fastnn.sklearn.estimators fastnn.sklearn.estimators"


def test_a_script_meets_fastnns_classes(folder: Path, tmp_path: Path) -> None:
    script = folder / "script.py"
    arguments = ["one", "--two=2", "-m", "--help", "--", "-"]
    code, lines, complaints = run(script, *arguments, "fail", cwd=tmp_path)
    assert (code, complaints) == (7, "")
    assert lines == [OURS, f"__main__ {[str(script), *arguments, 'fail']}"]


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that is in the scripts' folder, and afterwards as it was."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield
    fastnn.sklearn.unpatch()
    sys.modules.pop("beside", None)


def test_a_module_meets_them_too(
    here: None, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["-m", "script", "one", "-m"])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [OURS, f"__main__ {[str(folder / 'script.py'), 'one', '-m']}"]


def test_an_error_in_a_script_is_its_own(here: None) -> None:
    with pytest.raises(KeyError, match="nothing there"):
        main(["script.py", "raise"])
    with pytest.raises(ImportError, match="No module named nowhere"):
        main(["-m", "nowhere"])


def test_a_script_that_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["nowhere.py"])
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "python -m fastnn.sklearn: error: there is no file nowhere.py"
    assert places() == [TheirClassifier, TheirRegressor] * 2


@pytest.mark.parametrize("module", [estimators, patching])
def test_the_examples_of_docstrings_run(module: Any) -> None:
    result = doctest.testmod(module)
    assert (result.failed, result.attempted > 3) == (0, True)


def places() -> list[Any]:
    return [
        getattr(module, name)
        for module in (sklearn.neural_network, _multilayer_perceptron)
        for name in ("MLPClassifier", "MLPRegressor")
    ]


def test_patch_and_unpatch() -> None:
    own = [fastnn.sklearn.MLPClassifier, fastnn.sklearn.MLPRegressor] * 2
    theirs = [TheirClassifier, TheirRegressor] * 2
    x, y = digits(50)
    fitted = quietly(lambda: ours("classifier", max_iter=1).fit(x, y))
    assert places() == theirs
    try:
        for _ in range(2):
            fastnn.sklearn.patch()
            assert places() == own
        assert isinstance(fitted, sklearn.neural_network.MLPClassifier)
        assert type(pickle.loads(pickle.dumps(fitted))) is own[0]
        back = fitted.to_sklearn()
        assert type(back) is TheirClassifier
        assert (back.predict(x) == fitted.predict(x)).all()
        with pytest.raises(pickle.PicklingError):
            pickle.dumps(back)
        assert type(fastnn.sklearn.from_sklearn(back)) is own[0]
    finally:
        for _ in range(2):
            fastnn.sklearn.unpatch()
            assert places() == theirs
