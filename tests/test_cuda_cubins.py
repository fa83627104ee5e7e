"""The CUDA kernels as they are compiled for GPUs: what they take, what their machine code does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
pytest.importorskip("greenlet", reason="greenlet is not installed")

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # last: `fastnn` stays the one that is under test

from benchmarks import cubins, sass  # noqa: E402
from fastnn.engine.cuda.cubin import RESIDENT_THREADS  # noqa: E402
from fastnn.kernels.cuda import cooperative  # noqa: E402
from fastnn.kernels.cuda.launch import PRECISIONS  # noqa: E402
from fastnn.kernels.cuda.memory import lanes_of  # noqa: E402
from fastnn.kernels.cuda.narrow import GRADIENTS, STEP  # noqa: E402
from fastnn.kernels.signatures import NAMES, signature  # noqa: E402

Line = dict[str, Any]


def shown(lines: list[Line]) -> str:
    return "\n" + cubins.table(lines)


def test_every_kernel_is_compiled_for_both_architectures(cubin_lines: list[Line]) -> None:
    for architecture in ("sm_90a", "sm_80"):
        compiled = {line["op"] for line in cubin_lines if line["architecture"] == architecture}
        assert compiled == {key[0] for key in cubins.kernel_keys()} | {STEP, GRADIENTS}


def test_a_narrow_networks_step_multiplies_on_tensor_cores(cubin_lines: list[Line]) -> None:
    (line,) = (line for line in cubin_lines if line["op"] == STEP and "mma" in line)
    assert line["mma"] > 0, shown([line])
    assert line["ldsm"] > 0, shown([line])
    assert line["ldg_128"] > 0, shown([line])
    assert line["resident_warps"] >= 16, shown([line])


def test_nothing_lies_in_local_memory(cubin_lines: list[Line]) -> None:
    bad = [line for line in cubin_lines if line["stack"] or line["spilled"] or line.get("local")]
    assert not bad, shown(bad)


def test_registers_suffice_for_the_threads_promised(cubin_lines: list[Line]) -> None:
    # A grid whose blocks run at once has a processor for each of them.
    threads = {cooperative.NAME: cooperative.TILES[0].threads}
    bad = [
        line
        for line in cubin_lines
        if line["registers"] * threads.get(line["op"], RESIDENT_THREADS)
        > cubins.PROCESSORS[cubins.HOPPER].registers
        and line["threads"] > 1
    ]
    assert not bad, shown(bad)


def test_every_kernel_fits_on_a_processor(cubin_lines: list[Line]) -> None:
    bad = [line for line in cubin_lines if line["resident_warps"] < 1]
    assert not bad, shown(bad)


def test_blocks_that_meet_order_memory_and_see_what_others_write(cubin_lines: list[Line]) -> None:
    lines = [line for line in cubin_lines if line["op"] == cooperative.NAME and "strong" in line]
    assert lines
    for line in lines:
        # One before the first step, and one at the end of each of its parts.
        meetings = 2 + cubins.STEPS[cooperative.NAME].count(cooperative.MEETING)
        assert line["strong"] == meetings, shown([line])
        assert line["constant"] == 0, shown([line])
        assert line["shared"] <= 48 << 10, shown([line])


def is_flat(line: Line) -> bool:
    """Whether a kernel is one loop over elements: it reads each array once, and so writes it."""
    return line["op"] in NAMES and signature(line["op"]).parts in ("elements", "P")


LOOPS = {"sgd": 12 + 20 + 20}
"""Bytes of all loops of a kernel that has several: without momentum, with it, with Nesterov's."""


def test_loops_over_elements_move_what_they_must_in_wide_pieces(cubin_lines: list[Line]) -> None:
    flat = [line for line in cubin_lines if is_flat(line) and line["shape"] == "large"]
    assert flat
    for line in flat:
        moved = 16 * (line["ldg_128"] + line["stg_128"]) / lanes_of(line["types"][0])
        assert moved == LOOPS.get(line["op"], line["element_bytes"]), shown([line])


def is_product(line: Line) -> bool:
    return line["op"].startswith("dense_") and "ffma" in line


def test_products_are_wide_and_multiply_where_they_should(cubin_lines: list[Line]) -> None:
    products = [line for line in cubin_lines if is_product(line)]
    # (tile, wide), a precision, and what follows: in full float32 the precision is 0, or left out.
    assert {len(line["constants"]) for line in products} == {2, 3, 4}
    for line in products:
        _, wide, *more = line["constants"]
        rounded = [precision for precision in more[:1] if precision]
        # Sums of columns, which the gradient of a kernel has beside it, are never rounded.
        assert (line["mma"] > 0) is bool(rounded), shown([line])
        assert rounded or line["ffma"] >= 64, shown([line])
        assert not wide or (line["ldg_128"] or line["ldgsts_128"]), shown([line])
        if rounded:
            precision = PRECISIONS[rounded[0]]
            assert not wide or (line["ldgsts_128"] > 0) is (precision == "tf32"), shown([line])
            # Matrices that lie transposed are loaded so if their elements are halves of words.
            both_transposed = line["op"] == "dense_backward_kernel"
            assert (line["ldsm"] == 0) is (precision == "tf32" and both_transposed), shown([line])


NARROW = {
    "gather", "scatter",  # rows, of any type, wherever they lie
    "batch_statistics", "batch_normalization_parameters", "prelu_sums", "sum_members",
    "layer_normalization_parameters",  # sums over rows, a thread to a column
    "spatial_dropout", "drop_block",  # a channel's elements lie apart
    "categorical_crossentropy", "one_hot",  # of a row they read a label, or what it points to
    "sum_squares", "count_positives", "count_confusion", "count_buckets", "count_close",  # metrics
}  # fmt: skip
"""Ops of matrices that do not load 16 bytes at a time."""


def test_kernels_of_rows_load_wide(cubin_lines: list[Line]) -> None:
    rows = [
        line
        for line in cubin_lines
        if line["shape"] == "large"
        and "ldg_128" in line
        and line["element_bytes"]
        and any(len(operand.dimensions) == 2 for operand in signature(line["op"]).arrays)
        and not is_product(line)
    ]
    narrow = {line["op"] for line in rows if not line["ldg_128"]}
    assert narrow == NARROW


def test_disassembly_is_counted() -> None:
    opcodes = sass.opcodes_of(
        "        /*0000*/                   LDC R1, c[0x0][0x28] ;\n"
        "        /*0010*/              @!P0 LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;\n"
        "        /*0020*/               @P1 STG.E.64 desc[UR4][R8.64], R4 ;\n"
        "        /*10030*/             @!PT LDL.LU R3, [R1] ;\n"
        "        /*0040*/             @!UP0 HMMA.16816.F32 R4, R4, R8, RZ ;\n"
        "        /* 0x000ea2000c1e9b00 */\n"
    )
    assert opcodes == [
        "LDC", "LDG.E.128.CONSTANT", "STG.E.64", "LDL.LU", "HMMA.16816.F32"
    ]  # fmt: skip
    found = sass.counts(opcodes)
    assert (found["ldg_128"], found["stg_128"], found["local"], found["mma"]) == (1, 0, 1, 1)
    assert found["instructions"] == 5


@pytest.mark.parametrize(
    ("threads", "registers", "shared", "warps"),
    [
        (256, 32, 0, 64),  # as many as there may be
        (256, 33, 0, 48),  # 40 registers a thread: 12 warps a quarter
        (256, 128, 0, 16),
        (512, 128, 0, 16),
        (1024, 128, 0, 0),  # such a block can not be launched
        (1, 16, 0, 32),  # 32 blocks, a warp each
        (128, 32, 100 << 10, 8),  # two blocks' shared memory, 101 KiB each, in 228 KiB
    ],
)
def test_resident_warps(threads: int, registers: int, shared: int, warps: int) -> None:
    processor = cubins.PROCESSORS[cubins.HOPPER]
    assert cubins.resident_warps(threads, registers, shared, processor) == warps


def test_the_command_shows_a_kernel(tmp_path: Path) -> None:
    path = tmp_path / "cubins.json"
    command = [sys.executable, "-m", "benchmarks.cubins", "--ops", "add", "--processes", "1"]
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"}
    done = subprocess.run(
        [*command, "--output", str(path)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "3 kernels compiled" in done.stdout
    report = json.loads(path.read_text(encoding="utf-8"))
    assert [line["element_bytes"] for line in report["kernels"]] == [12, 12, 24]
    assert report["run"] is False


def test_the_simulator_is_refused() -> None:
    command = [sys.executable, "-m", "benchmarks.cubins", "--ops", "add"]
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "unset NUMBA_ENABLE_CUDASIM" in done.stderr
