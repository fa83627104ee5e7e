"""Softmax overflow: in float32, e^89 is infinite, and softmax as the books write it is NaN.

Subtracting the largest logit changes nothing in exact arithmetic, e^(z−m) / Σ e^(z−m), and keeps
every exponent at 0 or below. The loss needs the same care: a probability may become 0, whose
logarithm is infinite; clipped at 1e-7 the loss stops at 16.1 and its gradient vanishes. Computed
from the logits, log Σ e^(z−m) − (z_y − m), it is right everywhere (NumPy in float64 is the judge).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import fastnn
from fastnn.examples import _page
from fastnn.examples._page import Array

CLIP = np.float32(1e-7)
"""Where Keras clips probabilities."""


class Findings(NamedTuple):
    """For two classes with logits (gap, 0), where the second is right; float32 but for `exact`."""

    gaps: Array  # (G,)
    naive: Array  # (G,), the largest probability by e^z / Σ e^z
    stable: Array  # (G,), by fastnn
    naive_loss: Array  # (G,), −log of the right class's probability, from the stable softmax
    clipped_loss: Array  # (G,)
    joint_loss: Array  # (G,), from logits, by fastnn
    exact_loss: Array  # (G,), float64


def measure(options: _page.Options) -> Findings:
    """Probabilities and losses for logits further and further apart."""
    gaps = np.linspace(0, 200, 21 if options.quick else 201, dtype=np.float32)
    z = np.stack([gaps, np.zeros_like(gaps)], axis=1)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        powers = np.exp(z)
        naive = powers / powers.sum(axis=1, keepdims=True)
        p = fastnn.activations.softmax(z)
        naive_loss = -np.log(p[:, 1])
    loss = fastnn.CategoricalCrossentropy(from_logits=True)
    return Findings(
        gaps,
        naive[:, 0],
        p[:, 0],
        naive_loss,
        -np.log(np.maximum(p[:, 1], CLIP)),
        np.array([loss.forward(row[None], [1]) for row in z]),
        np.logaddexp(gaps.astype(np.float64), 0.0),
    )


def _end(found: Findings, right: Array) -> float:
    """The last gap up to which a computation is right."""
    return float(found.gaps[right][-1])


def _ends(found: Findings) -> dict[str, float]:
    """How far each computation goes."""
    exact = found.exact_loss
    return {
        "softmax, as written": _end(found, np.isfinite(found.naive)),
        "softmax, largest logit subtracted": _end(found, np.isfinite(found.stable)),
        "loss, log(p)": _end(found, np.isclose(found.naive_loss, exact, rtol=1e-3)),
        "loss, log(clip(p))": _end(found, np.isclose(found.clipped_loss, exact, rtol=1e-3)),
        "loss, from the logits": _end(found, np.isclose(found.joint_loss, exact, rtol=1e-6)),
    }


def report(found: Findings) -> _page.Report:
    """Up to which gap each is right."""
    ends, last = _ends(found), float(found.gaps[-1])
    written, subtracted, logarithm, clipped, joint = ends.values()
    overflow = float(np.log(np.finfo(np.float32).max))
    return _page.Report(
        claims=[
            (f"Softmax as written is NaN from logits of {overflow:.2f} on", written < overflow),
            ("With the largest logit subtracted it never is", subtracted == last),
            (
                "log(clip(p)) is wrong long before log(p) is infinite",
                clipped < 20 < logarithm < 110,
            ),
            ("From the logits the loss is right to rounding throughout", joint == last),
        ],
        header=("computed in float32", f"right up to a gap of (most: {last:g})"),
        rows=list(ends.items()),
    )


def draw(figure: Any, found: Findings) -> None:
    """Each way's loss against the gap."""
    axes = figure.subplots()
    axes.plot(found.gaps, found.joint_loss, linewidth=5, alpha=0.4, label="from the logits")
    axes.plot(found.gaps, found.exact_loss, "k:", label="float64")
    finite = np.isfinite(found.naive_loss)
    last = found.gaps[finite][-1], found.naive_loss[finite][-1]
    axes.plot(found.gaps[finite], found.naive_loss[finite], color="C1", label="log(p)")
    axes.plot(
        *last, color="C1", marker="x", markersize=10, linestyle="", label="infinite from here"
    )
    axes.plot(found.gaps, found.clipped_loss, "C2", label="log(clip(p)): flat, so no gradient")
    nan = found.gaps[~np.isfinite(found.naive)]
    axes.axvspan(nan[0], nan[-1], color="C3", alpha=0.12, label="softmax as written is NaN")
    axes.set_xlabel("how far the wrong logit is above the right one")
    axes.set_ylabel("cross-entropy")
    axes.set_title("In float32 only the loss from the logits is right at every distance")
    axes.legend()
    axes.grid(alpha=0.3)


def main(arguments: Sequence[str] | None = None) -> Findings:
    """Run the example."""
    return _page.show(__file__, __doc__ or "", arguments, measure, report, draw)


if __name__ == "__main__":
    main()
