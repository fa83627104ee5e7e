"""Speed and error of exp, log, ...: ``python -m benchmarks.transcendentals [--exhaustive]``.

Times are of one core, in nanoseconds an element of an array of 8192 that stays in cache, medians
of rounds in which fastnn and NumPy take turns. Errors are in units in the last place (ulp) of the
exact result. float32: against NumPy in float64, at every 1009th of all float32 numbers or, with
--exhaustive, at every one (ten minutes). float64: at millions of arguments NumPy in long double
finds the worst, which mpmath judges. "wrong" counts the arguments where a NaN or an infinity came
instead of a number, or the other way round.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from benchmarks import RESULTS, machine

NAMES = ("exp", "log", "log1p", "expm1", "tanh", "sigmoid")
ELEMENTS = 8192
ROUNDS = 301
STRIDE = 1009  # a prime, so that all exponents and all places of the significand are met
CHUNK = 1 << 20
CHUNKS = (2, 20)  # of float64: as a rule, with --exhaustive
JUDGED = 1500  # the worst of a chunk, by mpmath


class Error(NamedTuple):
    """The largest error over `points` arguments, where it was, and how many were plainly wrong."""

    ulp: float
    at: float
    points: int
    wrong: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write it to ``benchmarks/results``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transcendentals")
    parser.add_argument("--exhaustive", action="store_true", help="errors of every float32")
    options = parser.parse_args(arguments)
    cores = machine.pin(1)
    report: dict[str, Any] = {
        "command": "python -m benchmarks.transcendentals" + " --exhaustive" * options.exhaustive,
        "date": datetime.date.today().isoformat(),
        "cpu": machine.cpu_name(),
        "cores": cores,
        "versions": machine.versions("numpy", "numba", "llvmlite", "mpmath"),
        "elements": ELEMENTS,
        "rows": [],
    }
    print(f"{report['cpu']}; {report['versions']}\n")
    print(f"{'':18}{'ns':>7}{'NumPy ns':>10}{'ulp':>8}{'points':>12}{'wrong':>7}  worst at")
    for name in NAMES:
        for dtype in ("float32", "float64"):
            loop = compiled_loop(name)
            own, numpy_s = speed(loop, name, dtype)
            if dtype == "float32":
                error = float32_error(loop, name, 1 if options.exhaustive else STRIDE)
            else:
                error = float64_error(loop, name, CHUNKS[options.exhaustive])
            row = {"function": name, "dtype": dtype, "ns": own, "numpy_ns": numpy_s}
            report["rows"].append(row | error._asdict())
            print(
                f"{name:9}{dtype:9}{own:>7.3f}{numpy_s:>10.3f}{error.ulp:>8.4f}{error.points:>12}"
                f"{error.wrong:>7}  {error.at!r}",
                flush=True,
            )
    path = RESULTS / f"transcendentals-{report['date']}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten to benchmarks/results/{path.name}")
    return 0


def compiled_loop(name: str) -> Any:
    """The function over an array, `loop(out, x)`."""
    from numba import njit

    from fastnn.kernels import compiled as compiled  # compiled code calls formulas
    from fastnn.kernels import transcendental

    function = getattr(transcendental, name)

    @njit
    def loop(out: Any, x: Any) -> None:
        for i in range(x.size):
            out[i] = function(x[i])

    return loop


def numpy_function(name: str) -> Callable[..., Any]:
    """NumPy's, into `out`; it has no sigmoid, which is what people write instead."""
    import numpy as np

    def sigmoid(x: Any, out: Any) -> None:
        np.negative(x, out=out)
        np.exp(out, out=out)
        out += 1
        np.reciprocal(out, out=out)

    return sigmoid if name == "sigmoid" else getattr(np, name)


def speed(loop: Any, name: str, dtype: str) -> tuple[float, float]:
    """Median nanoseconds an element of fastnn's and of NumPy's."""
    import numpy as np

    low = {"log": 0.0, "log1p": -0.9}.get(name, -10.0)
    x = np.random.default_rng(0).uniform(low, 10, ELEMENTS).astype(dtype)
    out = np.empty_like(x)
    other = numpy_function(name)
    loop(out, x)
    own_times, other_times = [], []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        loop(out, x)
        middle = time.perf_counter()
        other(x, out=out)
        own_times.append(middle - start)
        other_times.append(time.perf_counter() - middle)
    scale = 1e9 / ELEMENTS
    return float(np.median(own_times)) * scale, float(np.median(other_times)) * scale


def in_wider_type(name: str, x: Any, dtype: type) -> Any:
    """The function as NumPy computes it in `dtype`."""
    import numpy as np

    with np.errstate(all="ignore"):
        x = x.astype(dtype)
        if name != "sigmoid":
            return getattr(np, name)(x)
        e = np.exp(-np.abs(x))
        return np.where(x < 0, e, 1) / (1 + e)


def float32_error(loop: Any, name: str, stride: int) -> Error:
    """The error over every `stride`-th of all 2^32 bit patterns."""
    import numpy as np
    from numba import njit

    overflow = float(np.finfo(np.float32).max) * (1 + 2.0**-25)  # rounds to infinity from here

    @njit
    def largest(result: Any, reference: Any) -> tuple[float, int, int]:
        worst, at, wrong = 0.0, 0, 0
        for i in range(result.size):
            value, right = float(result[i]), reference[i]
            if abs(right) >= overflow:
                right = math.copysign(math.inf, right)
            if not (math.isfinite(value) and math.isfinite(right)):
                both_nan = math.isnan(value) and math.isnan(right)
                wrong += not (both_nan or value == right)
                continue
            exponent = max(math.frexp(right)[1] - 1, -126)
            error = abs(value - right) * 2.0 ** (23 - exponent)
            if error > worst:
                worst, at = error, i
        return worst, at, wrong

    found = Error(0.0, 0.0, 0, 0)
    for start in range(0, 2**32, CHUNK * stride):
        patterns = np.arange(start, min(start + CHUNK * stride, 2**32), stride, dtype=np.uint64)
        x = patterns.astype(np.uint32).view(np.float32)
        out = np.empty_like(x)
        loop(out, x)
        ulp, at, wrong = largest(out, in_wider_type(name, x, np.float64))
        if ulp > found.ulp:
            found = found._replace(ulp=ulp, at=float(x[at]))
        found = found._replace(points=found.points + x.size, wrong=found.wrong + wrong)
    return found


def float64_error(loop: Any, name: str, chunks: int) -> Error:
    """The error over `chunks` times CHUNK arguments, dense where the function is difficult."""
    import numpy as np
    from mpmath import mp, mpf

    mp.prec = 140
    exact = (lambda x: 1 / (1 + mp.exp(-x))) if name == "sigmoid" else getattr(mp, name)
    domain = {"log": 0.0, "log1p": -1.0}.get(name, -math.inf)
    worst, at, points, wrong = 0.0, 0.0, 0, 0
    for seed in range(chunks):
        x = float64_points(np.random.default_rng(seed))
        x = np.where(x < domain, -x, x)
        out = np.empty_like(x)
        loop(out, x)
        points += x.size
        found, wrongly = suspects(out, in_wider_type(name, x, np.longdouble))
        wrong += wrongly
        for i in found:
            argument = float(x[i])
            right = exact(mpf(argument))
            exponent = max(mp.frexp(right)[1] - 1, -1022)
            error = float(mp.ldexp(abs(float(out[i]) - right), 52 - exponent))
            if error > worst:
                worst, at = error, argument
    return Error(worst, at, points, wrong)


def suspects(result: Any, reference: Any) -> tuple[Any, int]:
    """Indices of the JUDGED largest errors, and how many are wrongly finite, infinite or NaN."""
    import numpy as np

    if np.finfo(reference.dtype).nmant < 60:
        raise SystemExit("transcendentals: long double has no more digits than float64 here")
    with np.errstate(all="ignore"):
        rounded = reference.astype(result.dtype)
        finite = np.isfinite(rounded) & np.isfinite(result)
        wrong = ~finite & (rounded != result) & ~(np.isnan(rounded) & np.isnan(result))
        place = np.maximum(np.frexp(reference)[1] - 1, -1022) - 52
        error = np.where(finite, np.abs(np.ldexp(result - reference, -place)), 0)
    return np.argpartition(error, -JUDGED)[-JUDGED:], int(wrong.sum())


def float64_points(rng: Any) -> Any:
    """CHUNK finite arguments: of all magnitudes, in each function's range, beside what is hard.

    Hard are 0, 1, the multiples of ln(2)/2 and of sqrt(2), between which the reductions choose,
    the ends of the range of exp, and 0.5494, where tanh changes its formula.
    """
    import numpy as np

    part = CHUNK // 6
    hard = np.concatenate(
        [
            np.arange(-2150, 2050) * (math.log(2) / 2),
            2.0 ** np.arange(-20.5, 20),
            2.0 ** np.arange(-20.5, 20) - 1,
            np.tile([1.0, 0.5493, 0.5494, 709.78, -708.4, -745.1], 50),
        ]
    )
    sign = rng.choice([-1.0, 1.0], part)
    return np.concatenate(
        [
            sign * np.exp2(rng.uniform(-1074, 1023.9, part)),
            sign * np.exp2(rng.uniform(-60, 7, part)),
            1 + sign * np.exp2(rng.uniform(-53, 0, part)),
            rng.uniform(-3, 3, part),
            rng.uniform(-760, 715, part),
            rng.choice(hard, part) * (1 + sign * np.exp2(rng.uniform(-53, -10, part))),
        ]
    )


if __name__ == "__main__":
    raise SystemExit(main())
