"""The benchmarks: every peer does the same work, figures are what they say, README is theirs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn.engine.cuda import opening
from fastnn.engine.cuda.device import CudaError

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # last: `fastnn` stays the one that is under test

from benchmarks import machine, nnfs, readme, reports, rounds, summary, tables  # noqa: E402
from benchmarks.gpu import __main__ as gpu  # noqa: E402
from benchmarks.gpu import grid as grid_on_gpu  # noqa: E402
from benchmarks.gpu import kernels, stage  # noqa: E402
from benchmarks.gradients import CONTESTANTS  # noqa: E402
from benchmarks.grid import GRID, Row, make_data  # noqa: E402
from benchmarks.parts import PARTS, inference  # noqa: E402
from benchmarks.parts.training import add_floors, best_peer  # noqa: E402
from benchmarks.peers import PEERS, Peer  # noqa: E402
from benchmarks.peers.base import limit_blas  # noqa: E402
from benchmarks.servers import SERVERS  # noqa: E402

STEPS = 20
# One batch is an epoch, so that the order of rows does not matter.
LABELS = Row("labels", (20, 64, 32, 4), 32, "categorical_crossentropy", 1, STEPS)
TARGETS = Row("targets", (8, 16, 1), 32, "mse", 1, STEPS)
PLAIN = Row("plain", (20, 64, 4), 32, "categorical_crossentropy", 1, STEPS, optimizer="sgd")
DROPPING = Row("dropping", (20, 64, 4), 32, "categorical_crossentropy", 1, STEPS, dropout=0.2)


@pytest.fixture(autouse=True)
def settings_put_back() -> Iterator[None]:
    """Peers set threads and types for their whole process, and these tests share it with others."""
    threads = {
        "torch": lambda torch: torch.set_num_threads(before["torch"]),
        "jax": lambda jax: jax.config.update("jax_enable_x64", before["jax"]),
    }
    before: dict[str, Any] = {}
    if "torch" in sys.modules:
        before["torch"] = sys.modules["torch"].get_num_threads()
    if "jax" in sys.modules:
        before["jax"] = sys.modules["jax"].config.jax_enable_x64
    yield
    fastnn.set_num_threads(None)
    for name in before:
        threads[name](sys.modules[name])
    limit_blas(len(machine.available_cores()))


def test_importing_any_benchmark_imports_no_framework() -> None:
    """asv imports them all, with whatever fastnn a commit has."""
    code = """
import importlib, pkgutil, sys
frameworks = ("fastnn", "numba", "torch", "jax", "sklearn", "onnxruntime")
sys.modules["fastnn"] = None
import benchmarks
for module in pkgutil.walk_packages(benchmarks.__path__, "benchmarks."):
    importlib.import_module(module.name)
print([name for name in frameworks if sys.modules.get(name)])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_gpu_benchmark_runs_in_the_simulator(tmp_path: Path) -> None:
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    pytest.importorskip("greenlet", reason="greenlet is not installed")
    path = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--simulate", "--output", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    report = json.loads(path.read_text(encoding="utf-8"))
    assert done.returncode == 0, [stage.get("said") for stage in report["stages"].values()]
    assert "simulated: no figure of speed" in done.stdout
    assert set(report["stages"]["kernels"]["found"]["ops"].values()) == {"right"}
    assert report["stages"]["training"]["found"]["same_bits_twice"]
    assert report["stages"]["narrow"]["found"]["bf16"]["gradient_error"] <= 2e-2
    row = report["stages"]["grid"]["found"]["rows"]["T4"]["fastnn"]
    assert row["host_microseconds"] > 0
    assert not list((ROOT / "benchmarks" / "results").glob("gpu-simulator*"))


def test_a_stage_that_loses_the_gpu_is_gone_on_with_by_another_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = """
import sys
from pathlib import Path
from benchmarks.gpu.stage import LOST, Findings
found = Findings(Path(sys.argv[1]))
found["processes"] = found.get("processes", 0) + 1
found.keep()
sys.exit(LOST if found["processes"] < 3 else 0)
"""
    begin = subprocess.Popen
    monkeypatch.setattr(
        gpu.subprocess, "Popen", lambda c, **how: begin([c[0], "-c", code, c[-1]], cwd=ROOT, **how)
    )
    outcome = gpu.run("kernels", 60, simulate=False)
    assert (outcome["ended"], outcome["found"]) == ("well", {"processes": 3})


def test_a_kernel_that_loses_the_gpu_costs_no_other_its_word(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cases, cuda_cases = map(pytest.importorskip, ("kernel_cases", "cuda_cases"))
    names = ["relu_forward", "tanh_forward", "gelu_forward"]
    monkeypatch.setattr(cases, "CASES", {name: cases.CASES[name] for name in names})
    path, lost = tmp_path / "found.json", []

    def check(device: Any, example: Any, precision: str) -> None:
        if (example.name, example.dtype) == ("tanh_forward", "float32"):
            device.lost = True
            raise CudaError("an illegal address")
        if example.name == "gelu_forward":
            raise AssertionError("another value")

    monkeypatch.setattr(cuda_cases, "check", check)
    while len(lost) < 9:
        device = SimpleNamespace(lost=False)
        monkeypatch.setattr(opening, "open_device", lambda device=device: device)
        try:
            kernels.measure(stage.Findings(path), simulated=True)
        except SystemExit as ended:
            lost.append(ended.code)
        else:
            break
    assert lost == [stage.LOST]
    outcomes = json.loads(path.read_text())["ops"]
    assert outcomes.pop("tanh_forward float32 fp32") == ["3 rows: CudaError: an illegal address"]
    for name, outcome in outcomes.items():
        expected = ["3 rows: AssertionError: another value"] if "gelu" in name else kernels.RIGHT
        assert outcome == expected


def test_rows_that_fastnn_fails_on_are_named_once_the_others_are_timed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tried: list[str] = []

    class Failing:
        def prepare(self, x: Any, y: Any, row: Row, threads: int) -> None:
            tried.append(row.name)
            raise ValueError("a reason")

        @classmethod
        def installed(cls) -> bool:
            return True

    monkeypatch.setattr(grid_on_gpu, "ON_GPU", {"fastnn": Failing})
    monkeypatch.setattr(grid_on_gpu, "make_data", lambda row: (None, None))
    found = stage.Findings(tmp_path / "found.json")
    with pytest.raises(SystemExit, match="fastnn failed on T4, T2"):
        grid_on_gpu.measure(found, simulated=False)
    assert tuple(tried) == grid_on_gpu.ORDER
    assert found["rows"]["T1"] == {"fastnn": {"failed": "ValueError('a reason')"}}


def test_a_stage_that_hangs_tells_what_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys, time; print('half-way', file=sys.stderr, flush=True); time.sleep(60)"
    begin = subprocess.Popen
    monkeypatch.setattr(gpu.subprocess, "Popen", lambda c, **how: begin([c[0], "-c", code], **how))
    outcome = gpu.run("kernels", 1, simulate=False)
    assert (outcome["ended"], outcome["said"]) == ("not done after 1 s", ["half-way"])


def test_gpu_benchmark_without_a_gpu_says_so_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    from fastnn.engine.cuda import opening

    if opening.problem() is None:
        pytest.skip("this machine has a GPU")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert re.fullmatch(r"benchmarks.gpu: .*driver.*\n", done.stderr)


def make_peer(name: str, row: Row, dtype: str) -> Peer:
    """The peer called `name`, ready."""
    kind = PEERS[name]
    pytest.importorskip(kind.module)
    if name == "torch.compile":
        # The same graph without the C++ compiler, which would take ten seconds a network.
        kind = type("Traced", (kind,), {"backend": "aot_eager"})
    peer = kind()
    peer.prepare(*make_data(row, dtype), row, 1)
    return peer


@pytest.mark.filterwarnings("ignore")  # other frameworks' own
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("row", [LABELS, TARGETS], ids=lambda row: row.name)
@pytest.mark.parametrize("name", list(PEERS))
def test_peers_arrive_at_one_loss_and_start_again_equally(name: str, row: Row, dtype: str) -> None:
    oracle = make_peer("numpy", row, "float64")
    oracle.turn(STEPS)
    peer = make_peer(name, row, dtype)
    peer.warm_up()
    # scikit-learn's epsilon is added before the correction of the bias, and a float32 root of
    # 1 - 0.999**t has six digits.
    rtol = 3e-4 if name == "sklearn" else {"float32": 1e-5, "float64": 1e-11}[dtype]
    for _ in range(2):
        peer.turn(STEPS)
        assert peer.loss() == pytest.approx(oracle.loss(), rel=rtol)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["torch", "jax"])
def test_variants_are_the_same_work(name: str) -> None:
    for row in (PLAIN, DROPPING):
        own, peer = make_peer("fastnn", row, "float64"), make_peer(name, row, "float64")
        begin = peer.loss()
        for each in (own, peer):
            each.turn(STEPS)
        # Masks are random, so with them losses only fall alike.
        rtol = 0.05 if row.dropout else 1e-11
        assert peer.loss() == pytest.approx(own.loss(), rel=rtol)
        assert peer.loss() < 0.97 * begin


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in SERVERS if name != "torch.compile"])
def test_servers_compute_the_probabilities(name: str) -> None:
    server = SERVERS[name]
    for module in server.modules:
        pytest.importorskip(module)
    row = GRID["T3"]
    for batch in (1, 3):
        x = np.random.default_rng(batch).standard_normal((batch, 64), dtype=np.float32)
        serve = server.make(row, x)
        if serve is None:
            assert name == "fastnn compiled"
            continue
        found = np.asarray(serve(2))
        assert found.shape == (batch, 10)
        np.testing.assert_allclose(found, inference.probabilities(row, x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dot", [nnfs.rounded_dot, np.dot])
def test_the_books_loops_are_the_same_work(dot: Any) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((50, 2), dtype=np.float32), rng.integers(0, 3, 50)
    by_numpy, by_hand = nnfs.NumPyNetwork(2, 64, 3, dot=dot), nnfs.LoopByHand()
    model = nnfs.model_of(2, 64, 3, learning_rate=1e-3, decay=0.0)
    by_hand.optimizer = type(by_hand.optimizer)()
    trained = [layer for layer in model.layers if hasattr(layer, "weights")]
    for own, book, layer in zip(by_hand.dense, trained, by_numpy.layers, strict=True):
        own.weights = layer.kernel.copy()
        book.weights = layer.kernel.copy()
    for _ in range(STEPS):
        by_numpy.step(x, y)
        by_hand.step(x, y)
    model.train(x, y, epochs=STEPS)
    for own, book, layer in zip(by_hand.dense, trained, by_numpy.layers, strict=True):
        np.testing.assert_allclose(own.weights, layer.kernel, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(book.weights, layer.kernel, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", list(CONTESTANTS))
def test_ways_to_the_gradient_agree(name: str) -> None:
    z = np.random.default_rng(0).standard_normal((5, 7), dtype=np.float32)
    labels = np.array([0, 6, 3, 3, 1], np.int32)
    powers = np.exp(z.astype(np.float64))
    expected = powers / powers.sum(axis=1, keepdims=True)
    expected[np.arange(5), labels] -= 1
    gradient = CONTESTANTS[name].make(z, labels)
    found = np.array(gradient(), np.float64)
    np.testing.assert_allclose(found, expected / 5, rtol=1e-4, atol=1e-6)


def test_a_slow_contestant_sits_out_evenly() -> None:
    clock = [0.0]

    def turn(seconds: float) -> Any:
        def run() -> float:
            clock[0] += seconds
            return seconds

        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds.time, "perf_counter", lambda: clock[0])
        pace = rounds.Pace(seconds=10, least=5, slow=3, most=12)
        times = rounds.alternate({"quick": turn(1), "slow": turn(4), "alike": turn(1.5)}, pace)
    assert times["quick"] == [1] * 10
    assert [time is not None for time in times["slow"]].count(True) == 3
    assert [i for i, time in enumerate(times["slow"]) if time] == [0, 4, 7]
    found = rounds.figures(times)
    assert found["slow"]["turns"] == 3
    assert found["slow"]["ratio"] == (4, 4, 4)
    assert found["alike"]["microseconds"][1] == 1.5e6


def test_floor_is_products_at_the_peak_and_the_optimizer_as_a_copy() -> None:
    row = GRID["T6"]
    figures = {
        "flops": row.flops,
        "optimizer_bytes": row.optimizer_bytes(4),
        "copy_gbytes": 10.0,
        "peers": {
            "fastnn": {"microseconds": (1e4, 1e4, 1e4)},
            "torch": {"microseconds": (3e4, 3e4, 3e4)},
            "jax": {"microseconds": (2e4, 2e4, 2e4)},
        },
    }
    add_floors([figures], 100e9)
    forward = 784 * 512 + 512 * 512 + 512 * 10
    products = 2 * 128 * (2 * forward + forward - 784 * 512)  # no gradient of the input
    update = 7 * 4 * (forward + 512 + 512 + 10)
    assert figures["floor_microseconds"] == pytest.approx((products / 1e11 + update / 1e10) * 1e6)
    assert best_peer(figures) == "jax"


def test_bound_is_the_best_peers_time_over_the_floor_but_for_the_smallest_row() -> None:
    def row(name: str, of_floor: float) -> dict[str, Any]:
        peers = {
            "fastnn": {"microseconds": [1.0, 10.0, 20.0], "ratio": [1.0] * 3, "of_floor": 0.5},
            "torch": {"microseconds": [1.0, 40.0, 50.0], "ratio": [4.0] * 3, "of_floor": 0.1},
            "jax": {"microseconds": [1.0, 30.0, 90.0], "ratio": [3.0] * 3, "of_floor": of_floor},
        }
        return {"row": name, "peers": peers}

    grid = {"rows": [row("T1", 0.01), row("T2", 0.4)]}
    assert summary.best_ratios(grid) == {"T1": 3.0, "T2": 3.0}
    assert summary.bounds(grid) == {"T1": 3.0, "T2": 2.5}


def test_tables_round_to_three_digits() -> None:
    values = (0.5, 1.284, 99.96, 999.6, 33_310, 2_700_000)
    assert [tables.duration(value) for value in values] == [
        "0.50 µs",
        "1.28 µs",
        "100 µs",
        "1.00 ms",
        "33.3 ms",
        "2.70 s",
    ]


def test_the_command_runs_a_part_and_writes_its_figures(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    command = [sys.executable, "-m", "benchmarks.compare", "--quick", "--output", str(path)]
    command += ["--parts", "grid,memory", "--rows", "T1", "--peers", "fastnn,numpy"]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(path.read_text(encoding="utf-8"))
    assert set(report["parts"]) == {"grid", "memory"}
    (row,) = report["parts"]["grid"]["rows"]
    assert set(row["peers"]) == {"fastnn", "numpy"}
    assert report["parts"]["memory"]["megabytes"]["fastnn"] > 71  # the data are 40 MB
    assert report["summary"] == summary.summarise(report["parts"])
    absent = {name for name, peer in PEERS.items() if not peer.installed()}
    assert absent <= set(report["missing"])
    assert "T1 8-16-1 x 16" in done.stdout


def test_a_part_that_fails_ends_the_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.compare", "--quick", "--parts", "grid,memory"]
    command += ["--output", str(tmp_path / "found.json"), "--peers", "fastnn"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    (tmp_path / "numpy.py").write_text("raise ImportError('broken on purpose')")
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "broken on purpose" in done.stderr
    assert not (tmp_path / "found.json").exists()


def test_every_part_can_be_loaded() -> None:
    for part in PARTS.values():
        module = part.load()
        assert callable(module.measure)
        assert callable(module.show)


def test_readme_is_rewritten_between_its_markers() -> None:
    text = f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n"
    assert readme.current(readme.replaced(text, "new")) == "new"
    assert readme.replaced(text, "old") == text
    with pytest.raises(ValueError, match="missing"):
        readme.replaced(f"before {readme.BEGIN} after", "new")


@pytest.mark.smoke
def test_readme_shows_the_newest_figures() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.current(text) == readme.block(reports.newest("cpu")), (
        "run python -m benchmarks.readme"
    )


def test_anatomy_shows_every_op_of_a_step() -> None:
    command = [sys.executable, "-m", "benchmarks.anatomy", "T1", "--turns", "1"]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first_words = [line.split()[0] for line in done.stdout.splitlines() if line.split()]
    assert first_words[0] == "T1"
    assert first_words.count("dense_forward") == first_words.count("dense_backward_kernel") == 2
    assert first_words[-3:] == ["adam", "sum", "step"]
