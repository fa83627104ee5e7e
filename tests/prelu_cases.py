"""Examples of the parametric rectifier's ops: alphas that elements of a row share, or do not."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels import reference


def _shared(draw: Any) -> tuple[Any, Any]:
    """Which alpha is each element's, or None, and each alpha's elements: S of each of A."""
    draw.lengths["S"] = next((n for n in (7, 5, 3, 2) if draw.F % n == 0), 1)
    draw.lengths["A"] = draw.F // draw.S
    order = draw.rng.permutation(draw.F).reshape(draw.A, draw.S)
    place = np.empty(draw.F, np.int64)
    place[order] = np.arange(draw.A)[:, None]
    return place, np.sort(order)


def _alphas(draw: Any) -> tuple[Any, Any]:
    """Alphas, and which is whose."""
    if draw.without == "place":
        draw.lengths["A"] = draw.F
        return draw.normal("A"), None
    place, _ = _shared(draw)
    return draw.normal("A"), place


def _of_elements(o: dict[str, Any]) -> Any:
    return o["alpha"] if o["place"] is None else o["alpha"][o["place"]]


def _input(draw: Any) -> Any:
    x = draw.normal("NF")
    x[:, ::5] = 0.0
    return x


def prelu_forward(draw: Any) -> Any:
    alpha, place = _alphas(draw)
    return draw.example(
        {"x": _input(draw), "alpha": alpha, "place": place},
        lambda o: {"y": reference.prelu_forward(o["x"], _of_elements(o))},
    )


def prelu_backward(draw: Any) -> Any:
    alpha, place = _alphas(draw)
    return draw.example(
        {"dy": draw.normal("NF"), "x": _input(draw), "alpha": alpha, "place": place},
        lambda o: {"dx": reference.prelu_backward(o["dy"], o["x"], _of_elements(o))[0]},
    )


def prelu_sums(draw: Any) -> Any:
    return draw.example(
        {"sums": np.full(draw.F, np.nan), "dy": draw.normal("NF"), "x": _input(draw)},
        lambda o: {"sums": reference.prelu_backward(o["dy"], o["x"], 1.0)[1]},
    )


def sum_members(draw: Any) -> Any:
    _, members = _shared(draw)
    if draw.without == "members":
        draw.lengths["A"], members = draw.F, None
    return draw.example(
        {"sums": draw.rng.normal(size=draw.F), "members": members},
        lambda o: {"total": o["sums"] if members is None else o["sums"][members].sum(axis=1)},
    )


CASES = {
    "prelu_forward": prelu_forward,
    "prelu_backward": prelu_backward,
    "prelu_sums": prelu_sums,
    "sum_members": sum_members,
}
