"""Examples of the ops that normalise: what each is given, and the oracle's word on it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.kernels import reference

Array = NDArray[Any]
Operands = dict[str, Any]

EPSILON = 0.01
"""Of normalisations: no factor is more than 10 times as large for it."""


def several_rows_in_one(draw: Any) -> int:
    """Let x (N, F) be rows of C columns, one or two in each of the batch's; how many."""
    parts = 1 + draw.C % 2
    draw.lengths["F"] = parts * draw.C
    return parts


def some(draw: Any, name: str, array: Array) -> Array | None:
    return None if draw.without == name else array


def split(mean: Array, dtype: str) -> dict[str, Array]:
    """A mean in two parts, as the ops have it."""
    rounded = mean.astype(dtype)
    return {"mean": rounded, "low": (mean - rounded).astype(dtype)}


def batch_statistics(draw: Any) -> Any:
    several_rows_in_one(draw)

    def oracle(o: Operands) -> dict[str, Any]:
        mean, variance = reference.batch_statistics(o["x"], draw.C)
        return {**split(mean, draw.dtype), "variance": variance}

    return draw.example({"x": draw.normal("NF")}, oracle)


def of_mean(o: Operands) -> Array:
    """A mean out of its two parts, either of which may be left out."""
    return np.float64(0.0 if o["mean"] is None else o["mean"]) + np.float64(
        0.0 if o["low"] is None else o["low"]
    )


def normalize_columns(draw: Any) -> Any:
    several_rows_in_one(draw)
    least = float(draw.rng.choice([0.0, 1.0]))
    return draw.example(
        {
            "x": draw.normal("NF"),
            "mean": some(draw, "mean", draw.normal("C")),
            "low": some(draw, "low", draw.normal("C", 0.1)),
            "variance": draw.uniform("C", 0.0, 2.0),
            "gamma": some(draw, "gamma", draw.normal("C")),
            "beta": some(draw, "beta", draw.normal("C")),
        },
        lambda o: {
            "y": reference.normalize_columns(
                o["x"],
                of_mean(o),
                o["variance"],
                1.0 if o["gamma"] is None else o["gamma"],
                0.0 if o["beta"] is None else o["beta"],
                EPSILON,
                least,
            )
        },
        scalars={"epsilon": EPSILON, "least": least},
        units={"y": EPSILON**-0.5},
    )


def batch_normalized(draw: Any) -> Operands:
    """What the way back through a batch's normalisation starts from."""
    several_rows_in_one(draw)
    dy, x = draw.normal("NF"), draw.normal("NF")
    mean, variance = reference.batch_statistics(x, draw.C)
    return {"dy": dy, "x": x, **split(mean, draw.dtype), "variance": variance.astype(draw.dtype)}


def batch_normalization_parameters(draw: Any) -> Any:
    def oracle(o: Operands) -> dict[str, Any]:
        gradients = reference.batch_normalization_parameters(
            o["dy"], o["x"], of_mean(o), o["variance"], EPSILON
        )
        return dict(zip(("dgamma", "dbeta"), gradients, strict=True))

    inputs = batch_normalized(draw)
    # Sums of as many terms.
    terms = (draw.N * draw.F / draw.C) ** 0.5
    return draw.example(inputs, oracle, scalars={"epsilon": EPSILON}, scale=terms)


def batch_normalization_backward(draw: Any) -> Any:
    inputs = batch_normalized(draw)
    gradients = reference.batch_normalization_parameters(
        inputs["dy"], inputs["x"], of_mean(inputs), inputs["variance"], EPSILON
    )
    inputs["gamma"] = some(draw, "gamma", draw.normal("C"))
    inputs |= {
        name: gradient.astype(draw.dtype)
        for name, gradient in zip(("dgamma", "dbeta"), gradients, strict=True)
    }

    def oracle(o: Operands) -> dict[str, Any]:
        gamma = 1.0 if o["gamma"] is None else o["gamma"]
        return {
            "dx": reference.batch_normalization_backward(
                o["dy"], o["x"], of_mean(o), o["variance"], gamma, o["dgamma"], o["dbeta"], EPSILON
            )
        }

    return draw.example(inputs, oracle, scalars={"epsilon": EPSILON}, units={"dx": EPSILON**-0.5})


def layer_normalization_forward(draw: Any) -> Any:
    several_rows_in_one(draw)

    def oracle(o: Operands) -> dict[str, Any]:
        normalized, mean, factor = reference.layer_normalization_forward(o["x"], draw.C, EPSILON)
        gamma = 1.0 if o["gamma"] is None else o["gamma"]
        y = (normalized * gamma + (0.0 if o["beta"] is None else o["beta"])).reshape(o["x"].shape)
        return {"y": y} if draw.without == "kept" else {"y": y, "kept": kept_of(mean, factor, draw)}

    inputs = {
        "x": draw.normal("NF"),
        "gamma": some(draw, "gamma", draw.normal("C")),
        "beta": some(draw, "beta", draw.normal("C")),
    }
    if draw.without == "kept":
        inputs["kept"] = None
    return draw.example(
        inputs,
        oracle,
        scalars={"epsilon": EPSILON, "columns": draw.C},
        units={"y": EPSILON**-0.5, "kept": EPSILON**-0.5},
    )


def kept_of(mean: Array, factor: Array, draw: Any) -> Array:
    """What is kept of each row: its mean as it is rounded, the factor, and what makes up for it."""
    rounded = mean.astype(draw.dtype)
    return np.hstack([rounded, factor, (rounded - mean) * factor]).reshape(draw.N, -1)


def slices(rows: int) -> list[slice]:
    """The parts of a batch that are added up apart: up to 16, of 64 rows or more."""
    count = min(16, -(-rows // 64))
    edges = [rows * k // count for k in range(count + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def layer_normalization_backward(draw: Any) -> Any:
    parts = several_rows_in_one(draw)
    dy, x, gamma = draw.normal("NF"), draw.normal("NF"), draw.normal("C")
    _, mean, factor = reference.layer_normalization_forward(x, draw.C, EPSILON)

    def oracle(o: Operands) -> dict[str, Any]:
        mean, factor, sum_ = np.hsplit(o["kept"].astype(np.float64).reshape(-1, 3), 3)
        slopes, normalized = (
            rows.reshape(-1, draw.C)
            for rows in (o["dy"], factor * (o["x"].reshape(-1, draw.C) - mean) + sum_)
        )
        gamma = 1.0 if o["gamma"] is None else o["gamma"]
        back = reference.layer_normalization_backward
        expected = {"dx": back(slopes, normalized, factor, gamma)[0].reshape(o["dx"].shape)}
        if o["sums"] is not None:
            expected["sums"] = o["sums"].copy()
            for k, part in enumerate(slices(len(slopes))):
                of_slice = back(slopes[part], normalized[part], factor[part])
                expected["sums"][2 * k : 2 * k + 2] = of_slice[1:]
        return expected

    return draw.example(
        {
            "dx": np.full_like(x, np.nan),
            "sums": some(draw, "sums", np.full((32, draw.C), np.nan)),
            "dy": dy,
            "x": x,
            "kept": kept_of(mean, factor, draw).astype(draw.dtype),
            "gamma": some(draw, "gamma", gamma),
        },
        oracle,
        scalars={"columns": draw.C},
        units={"dx": EPSILON**-0.5},
        scale=(draw.N * parts) ** 0.5,  # of the longest sums, down the columns
    )


def layer_normalization_parameters(draw: Any) -> Any:
    names = [name for name in ("dgamma", "dbeta") if name != draw.without]
    parts = several_rows_in_one(draw)
    count = len(slices(draw.N * parts))

    def oracle(o: Operands) -> dict[str, Any]:
        both = {"dgamma": o["sums"][0 : 2 * count : 2], "dbeta": o["sums"][1 : 2 * count : 2]}
        return {name: both[name].sum(axis=0) for name in names}

    inputs: Operands = {"sums": draw.rng.normal(size=(32, draw.C))}
    if draw.without:
        inputs[draw.without] = None
    return draw.example(inputs, oracle, scalars={"parts": parts}, scale=4.0)  # 16 terms


def moving_average(draw: Any) -> Any:
    return draw.example(
        {"average": draw.normal("P"), "value": draw.normal("P")},
        lambda o: {"average": reference.moving_average(o["average"], o["value"], 0.9)},
        scalars={"momentum": 0.9},
    )


CASES: dict[str, Callable[[Any], Any]] = {
    "batch_statistics": batch_statistics,
    "normalize_columns": normalize_columns,
    "batch_normalization_parameters": batch_normalization_parameters,
    "batch_normalization_backward": batch_normalization_backward,
    "layer_normalization_forward": layer_normalization_forward,
    "layer_normalization_backward": layer_normalization_backward,
    "layer_normalization_parameters": layer_normalization_parameters,
    "moving_average": moving_average,
}
