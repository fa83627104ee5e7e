"""Examples of the ops that hold weights and outputs small, and of the sum of two arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels import reference
from fastnn.kernels import state as s

NORMS = {"least": 0.5, "most": 1.5, "rate": 0.7, "epsilon": 1e-7}


def add(draw: Any) -> Any:
    return draw.example(
        {"x": draw.normal("NF"), "other": draw.normal("NF")},
        lambda o: {"y": o["x"].astype(np.float64) + o["other"]},
    )


def _amounts(draw: Any) -> dict[str, float]:
    return {"l1": float(draw.rng.uniform(0.0, 1.0)), "l2": float(draw.rng.choice([0.0, 0.3]))}


def penalty(draw: Any) -> Any:
    amounts, scale = _amounts(draw), 0.3
    return draw.example(
        {"w": draw.normal("P")},
        lambda o: {"total": 2.0 + draw.N * scale * reference.penalty(o["w"], **amounts)},
        scalars=amounts | {"guard": 1},
        units={"total": draw.N * draw.P},
        floats={s.PENALTY_SUM: 2.0, s.PENALTY_SCALE: scale},
        written_floats={"total": s.PENALTY_SUM},
    )


def penalty_gradient(draw: Any) -> Any:
    amounts, scale, w = _amounts(draw), 0.3, draw.normal("P")
    w[::3] = 0.0
    return draw.example(
        {"g": draw.normal("P"), "w": w},
        lambda o: {"g": o["g"] + scale * reference.penalty_gradient(o["w"], **amounts)},
        scalars=amounts,
        floats={s.PENALTY_SCALE: scale},
    )


def activity_penalty(draw: Any) -> Any:
    amounts = _amounts(draw)
    return draw.example(
        {"y": draw.normal("NF")},
        lambda o: {"values": [reference.penalty(row, **amounts) for row in o["y"]]},
        scalars=amounts,
        units={"values": draw.F},
    )


def activity_penalty_gradient(draw: Any) -> Any:
    amounts, y = _amounts(draw), draw.normal("NF")
    y[:, ::3] = 0.0
    return draw.example(
        {"dy": draw.normal("NF"), "y": y},
        lambda o: {"dx": o["dy"] + reference.penalty_gradient(o["y"], **amounts) / draw.N},
        scalars=amounts,
    )


def constrain_sign(draw: Any) -> Any:
    return draw.example({"w": draw.normal("P")}, lambda o: {"w": reference.constrain_sign(o["w"])})


def constrain_norm(draw: Any) -> Any:
    draw.lengths |= {"A": draw.N, "B": draw.I, "C": draw.O}
    w = draw.normal("ABC", draw.I**-0.5)
    return draw.example(
        {"w": w},
        lambda o: {"w": reference.constrain_norm(o["w"], 1, **NORMS)},
        scalars=NORMS,
    )


COMPUTING = {
    "add": add,
    "penalty": penalty,
    "penalty_gradient": penalty_gradient,
    "activity_penalty": activity_penalty,
    "activity_penalty_gradient": activity_penalty_gradient,
}
UPDATING = {"constrain_sign": constrain_sign, "constrain_norm": constrain_norm}
