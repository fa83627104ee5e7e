"""Object code ahead of time: `fastnn warmup` compiles all that models can ask for, and packs are
used where they fit this machine and these kernels, and nowhere else.
"""

from __future__ import annotations

import itertools
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

import fastnn
from fastnn import activations, checks, cli
from fastnn.engine import cache, catalogue, compiler, packs
from fastnn.engine.compiler import Key
from fastnn.kernels.signatures import FINISH_SUFFIX, FINISHES, FUNCTIONS, NAMES, SUPPLY
from fastnn.losses import LOSSES
from fastnn.metrics import METRICS
from fastnn.optimizers import OPTIMIZERS
from fastnn.schedules import InvScaling
from fastnn.training import loop

PACKAGE = Path(fastnn.__file__).parent

RELU: list[Key] = [("relu_forward", "float32")]

LEVEL = next(
    (
        name
        for name, level in packs.LEVELS.items()
        if level.machine == packs.platform.machine()
        and all(llvm.get_host_cpu_features().get(feature) for feature in level.features)
    ),
    "none",
)
"""This machine's level."""

levelled = pytest.mark.skipif(LEVEL == "none", reason="this machine is of no level that has packs")

USE = """
import fastnn, sys, numpy as np
from fastnn.engine import packs
print(fastnn.Activation("relu").forward(np.array([[-2.0, 3.0]], np.float32)).tolist())
print(getattr(packs.chosen(), "level", None), "numba" in sys.modules)
"""


def run(
    code: str, *arguments: str, place: Path = PACKAGE.parent, **changes: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=place,
        env={**os.environ, **changes},
        capture_output=True,
        text=True,
        timeout=300,
    )


# What there is to compile.


class Asked(Exception):
    """What a model would compile is known."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., set[Key]]:
    """What a call asks the compiler for, in vain."""
    keys: set[Key] = set()

    def prepare(needed: Any, report: Any = None) -> None:
        keys.update(needed)
        raise Asked

    monkeypatch.setattr(loop.compiler, "prepare", prepare)

    def of(call: Callable[..., Any], *arguments: Any, **named: Any) -> set[Key]:
        keys.clear()
        with pytest.raises(Asked):
            call(*arguments, **named)
        return set(keys)

    return of


def tasks(dtype: str) -> Iterator[tuple[str, Any, list[Any], Any]]:
    """A last activation, a loss, metrics and targets, for every loss in every form."""
    labels = np.arange(8) % 3
    soft = np.eye(3)[labels]
    yes = (labels > 0)[:, None].astype(dtype)
    for last in ("softmax", "sigmoid", "linear"):
        yield last, "categorical_crossentropy", ["accuracy"], labels
        yield last, "categorical_crossentropy", ["accuracy"], soft
        yield last, "binary_crossentropy", ["accuracy"], yes
        yield last, "mean_squared_error", [], soft
    every_metric = {kind: name for name, kind in METRICS.items()}
    for kind in set(LOSSES.values()):
        yield "linear", kind(), list(every_metric.values()), soft
    smoothed = fastnn.CategoricalCrossentropy(label_smoothing=0.1)
    yield "softmax", smoothed, ["accuracy"], 0.5 * soft + 0.5 / 3


@pytest.mark.parametrize("dtype", catalogue.REALS)
def test_the_catalogue_has_all_that_models_ask_for(
    dtype: str, asked: Callable[..., set[Key]]
) -> None:
    optimizers = itertools.cycle(
        [
            *(kind() for kind in OPTIMIZERS.values() if kind is not fastnn.LBFGS),
            fastnn.SGD(InvScaling(0.1), momentum=0.9, nesterov=True, clipnorm=1.0, use_ema=True),
            fastnn.RMSprop(momentum=0.5, clipvalue=1.0),
            fastnn.Adam(amsgrad=True),
        ]
    )
    kinds = itertools.cycle(checks.SOURCE_TYPES)
    hidden = itertools.cycle(filter(activations.has_derivative, activations.NAMES))
    needed: set[Key] = set()
    # Every task with several of the others, which all come with some: an op asks for itself alone.
    for last, loss, metrics, y in [*tasks(dtype)] * 4:
        units = y.shape[1] if y.ndim > 1 else 3
        layers = [fastnn.Dense(5, next(hidden)), fastnn.Dropout(0.5), fastnn.Dense(units, last)]
        made = fastnn.Sequential([fastnn.Flatten(), *layers], (2, 2), dtype=dtype, seed=0)
        made.compile(next(optimizers), loss, metrics=metrics)
        x = np.ones((8, 2, 2), next(kinds))
        needed |= asked(made.fit, x, y, batch_size=4, verbose=0, sample_weight=np.ones(8))
        needed |= asked(made.fit, x, y, batch_size=8, verbose=0, shuffle=False)
        needed |= asked(made.train_on_batch, x, y)
        needed |= asked(made.evaluate, x, y)
        needed |= asked(made.predict, x)
    made = fastnn.Sequential(every_other_layer(), (3, 3, 2), dtype=dtype, seed=0)
    made.compile("adam", "mse")
    x = np.ones((8, 3, 3, 2), "float64")
    needed |= asked(made.fit, x, np.ones((8, 3)), batch_size=4, verbose=0)
    needed |= asked(made.predict, x)
    known = set(catalogue.every_key([dtype]))
    assert needed <= known, sorted(needed - known)
    # Nearly all is asked for by a model or other, so this test sees what it is to see.
    assert len({key[0].removesuffix(FINISH_SUFFIX) for key in needed}) > 0.7 * len(NAMES)
    sources = {key[2] for key in needed if key[0] == "gather" and key[1] == dtype}
    assert sources == {str(kind) for kind in checks.SOURCE_TYPES}


def every_other_layer() -> list[fastnn.Layer]:
    """Layers with ops of their own, and what holds weights small."""
    return [
        fastnn.Rescaling(0.5),
        fastnn.SpatialDropout2D(0.1),
        fastnn.DropBlock2D(0.1, block_size=2),
        fastnn.PReLU(shared_axes=[1, 2]),
        fastnn.Flatten(),
        fastnn.BatchNormalization(),
        fastnn.Residual([fastnn.GaussianNoise(0.1), fastnn.AlphaDropout(0.1), fastnn.PReLU()]),
        fastnn.Dense(
            3,
            kernel_regularizer="l2",
            activity_regularizer="l1",
            kernel_constraint="max_norm",
            bias_constraint="non_neg",
        ),
        fastnn.LayerNormalization(),
    ]


def test_the_catalogue_is_made_of_the_signatures() -> None:
    keys = catalogue.every_key()
    assert len(keys) == len(set(keys))
    assert {key[0] for key in keys} == {"run_steps", SUPPLY, *NAMES, *FUNCTIONS, *FINISHES}
    assert set(keys) == {k for real in catalogue.REALS for k in catalogue.every_key([real])}


# The command.


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and a catalogue of two."""
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(catalogue, "every_key", lambda reals: [("relu_forward", r) for r in reals])
    return tmp_path


def test_warmup_fills_the_cache(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, compiled in (
        (["--dtype", "float32"], "1 kernels are in {}; 1 were"),
        ([], "2 kernels are in {}; 1 were"),
        ([], "2 kernels are in {}; 0 were"),
    ):
        assert cli.main(["warmup", *arguments]) == 0
        assert compiled.format(cache.folder()) in capsys.readouterr().out
    assert {path.name for path in two.rglob("*.bin")} == {
        "relu_forward.float32.bin",
        "relu_forward.float64.bin",
    }


def test_warmup_that_cannot_keep_anything_fails(
    two: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (two / "file").write_text("")
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(two / "file"))
    assert cli.main(["warmup", "--dtype", "float32"]) == 1
    assert "relu_forward.float32 cannot be kept in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x"], "--out: only with --target"),
        (["--target", "z80"], "'z80' is no level of CPUs"),
    ],
)
def test_warmup_refuses(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["warmup", *arguments]) == 1
    assert message in capsys.readouterr().err


# Packs.

MAKE = f"""
import sys
from pathlib import Path
from fastnn.engine import ahead
print(ahead.make_pack(sys.argv[1], Path(sys.argv[2]), {RELU}))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pack of this machine's level."""
    folder = tmp_path_factory.mktemp("packs")
    done = run(MAKE, LEVEL, str(folder), FASTNN_CACHE_DIR=str(folder / "cache"))
    assert done.stdout == f"{folder / LEVEL}.pack\n", done.stderr
    assert not (folder / "cache").exists()
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same of the test's own, where packs are looked for, and none chosen yet."""
    monkeypatch.setattr(packs, "FOLDER", Path(shutil.copytree(made, tmp_path / "objects")))
    for name in cache.NUMBA_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    packs.chosen.cache_clear()
    yield packs.FOLDER
    packs.chosen.cache_clear()


@levelled
def test_a_package_with_a_pack_compiles_nothing(made: Path, tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__", "data", "objects")
    package = Path(shutil.copytree(PACKAGE, tmp_path / "copy" / "fastnn", ignore=ignored))
    shutil.copytree(made, package / "objects")
    folder = tmp_path / "cache"

    def use() -> str:
        done = run(USE, place=package.parent, FASTNN_CACHE_DIR=str(folder))
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert use() == f"[[0.0, 3.0]]\n{LEVEL} False\n"
    assert not folder.exists()
    with open(package / "kernels" / "scalar.py", "a") as source:
        source.write("# An edit.\n")
    assert use() == "[[0.0, 3.0]]\nNone True\n"
    assert use() == "[[0.0, 3.0]]\nNone False\n"


@levelled
def test_a_pack_comes_before_the_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_pack = packs.read("relu_forward.float32")
    assert in_pack is not None
    assert compiler._kept(RELU[0]) == in_pack
    monkeypatch.setattr(cache, "read", lambda key: (b"kept", key))
    assert compiler._kept(RELU[0]) == in_pack
    assert compiler._kept(("other", "float32")) == (b"kept", "other.float32")


def overwrite(change: Callable[[bytes], bytes]) -> Callable[[pytest.MonkeyPatch, Path], None]:
    def spoil(monkeypatch: pytest.MonkeyPatch, pack: Path) -> None:
        pack.write_bytes(change(pack.read_bytes()))

    return spoil


def lack(feature: str) -> Callable[[pytest.MonkeyPatch, Path], None]:
    def change(monkeypatch: pytest.MonkeyPatch, pack: Path) -> None:
        host = dict(llvm.get_host_cpu_features())
        monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: {**host, feature: False})

    return change


def another_level(monkeypatch: pytest.MonkeyPatch, pack: Path) -> None:
    """The pack of another level under this level's name."""
    monkeypatch.setattr(packs, "origin", lambda level: {**origin(level), "level": "another"})
    packs.write(pack, packs.origin(LEVEL), {RELU[0]: (b"object", "symbol")})
    monkeypatch.setattr(packs, "origin", origin)


origin = packs.origin

REFUSED: dict[str, Callable[[pytest.MonkeyPatch, Path], None]] = {
    "missing": lambda m, pack: pack.unlink(),
    "empty": overwrite(lambda content: b""),
    "cut": overwrite(lambda content: content[:-1]),
    "longer": overwrite(lambda content: content + b"\0"),
    "a bit flipped": overwrite(lambda content: content[:-1] + bytes([content[-1] ^ 1])),
    "garbage": overwrite(lambda content: content[::-1]),
    "another level": another_level,
    "another source": lambda m, pack: m.setattr(cache, "hash_of_sources", lambda: b"another"),
    "another system": lambda m, pack: m.setattr(
        packs, "sys", SimpleNamespace(platform="plan9", modules=sys.modules)
    ),
    "another machine": lambda m, pack: m.setattr(packs.platform, "machine", lambda: "z80"),
    "no AVX2": lack("avx2"),
    "no AVX-512, and of a pack for lower levels": lack("avx512f" if LEVEL[-1] == "4" else "fma"),
    "settings of Numba's": lambda m, pack: m.setenv("NUMBA_OPT", "1"),
}


@levelled
@pytest.mark.parametrize("what", REFUSED)
def test_a_pack_that_does_not_fit_is_not_used(
    what: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert packs.chosen() is not None
    packs.chosen.cache_clear()
    REFUSED[what](monkeypatch, packs.path_of(LEVEL))
    assert packs.chosen() is None
    assert packs.read("relu_forward.float32") is None


@levelled
def test_a_lower_level_is_not_used_in_a_higher_ones_place(folder: Path) -> None:
    lower = [name for name in packs.LEVELS if name != LEVEL]
    ops = {RELU[0]: (b"object", "symbol")}
    packs.path_of(LEVEL).unlink()
    for level in lower:
        packs.write(packs.path_of(level), packs.origin(level), ops)
    assert packs.chosen() is None


@levelled
@pytest.mark.parametrize("level", packs.LEVELS)
def test_a_pack_has_its_levels_instructions_whatever_the_machine(
    level: str, tmp_path: Path
) -> None:
    if packs.LEVELS[level].machine != packs.platform.machine():
        pytest.skip(f"{level} is compiled on {packs.LEVELS[level].machine}")
    code = MAKE + "from fastnn.kernels.cpu.settings import VECTOR_BYTES\nprint(VECTOR_BYTES)"
    done = run(code, level, str(tmp_path), FASTNN_CACHE_DIR=str(tmp_path / "cache"))
    assert done.stdout.splitlines()[1:] == [{"x86-64-v3": "32", "x86-64-v4": "64"}[level]], (
        done.stderr
    )


@levelled
@pytest.mark.parametrize(
    ("prelude", "message"),
    [
        ("import numba", "Numba is imported already"),
        ("import os; os.environ['NUMBA_OPT'] = '1'", "unset NUMBA_OPT"),
        ("import platform; platform.machine = lambda: 'z80'", "is compiled on x86_64, not z80"),
    ],
)
def test_a_pack_is_not_made_for_another_cpu_than_it_says(
    prelude: str, message: str, tmp_path: Path
) -> None:
    done = run(f"{prelude}\n{MAKE}", LEVEL, str(tmp_path / "packs"))
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "packs").exists()


@levelled
def test_the_format_is_what_it_says(folder: Path) -> None:
    content = packs.path_of(LEVEL).read_bytes()
    assert content.startswith(b"fastnn pack 1\n")
    (length,) = struct.unpack_from("<I", content, 14 + 32)
    manifest = packs.json.loads(content[50 : 50 + length])
    symbol, offset, size = manifest["ops"]["relu_forward.float32"]
    assert (content[50 + length :][offset:][:size], symbol) == packs.read("relu_forward.float32")
    assert manifest["origin"]["sources"] == cache.hash_of_sources().hex()
