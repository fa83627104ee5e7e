"""L-BFGS: an optimizer of the whole data's loss, by way of SciPy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fastnn import checks
from fastnn.engine.tape import Tape
from fastnn.layers.base import Layer
from fastnn.optimizers.base import Group, Optimizer


class LBFGS(Optimizer):
    """L-BFGS (Liu & Nocedal 1989), for fits to little data: SciPy's ``"L-BFGS-B"``.

    `fit` minimises the loss of all rows at once, whatever its `batch_size` and `shuffle`; its
    epochs are iterations, each of one or a few passes over the data, and it ends earlier where one
    of the limits below is met. An epoch's loss and metrics are those of the weights that it ends
    with. Steps are computed in float64, losses and gradients in the model's type; dropout keeps
    one mask throughout a fit, and every pass counts for moving statistics. Another fit learns
    curvature anew. Constraints and learning rate multipliers are refused.

    Needs SciPy: ``pip install "fastnn[lbfgs]"``.

    Parameters
    ----------
    max_fun : int, at least 1
        Passes over the data in a fit; the iteration in which they are reached is finished.
    tol : float, at least 0
        No element of the gradient is larger than this: converged. So is a loss that an iteration
        lowers by less than 2.2e-9 of it. As in scikit-learn's ``solver="lbfgs"``.
    history : int, at least 1
        Steps that curvature is estimated from.

    Attributes
    ----------
    message : str or None
        Why the last fit ended, in SciPy's words.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> model = fastnn.Sequential([fastnn.Dense(1)], input_shape=(1,), seed=1)
    >>> model.compile(fastnn.LBFGS(), "mse")
    >>> x = np.arange(4.0)[:, None]
    >>> len(model.fit(x, 2 * x + 1, epochs=100, verbose=0).epoch) < 20
    True
    """

    name = "lbfgs"

    def __init__(self, max_fun: int = 15000, tol: float = 1e-4, history: int = 10) -> None:
        super().__init__(1.0)  # the step that is tried first
        self.max_fun = checks.integer("LBFGS", "max_fun", max_fun, 1)
        self.tol = self._number("tol", tol, "[0, inf)")
        self.history = checks.integer("LBFGS", "history", history, 1)
        self.message: str | None = None

    def update_ops(
        self, tape: Tape, groups: Sequence[Group], constrained: Sequence[Layer] = ()
    ) -> None:
        """No update of its own: a step of such a model computes loss and gradient."""
        tape.update()

    def update(self, layers: Layer | Iterable[Layer]) -> None:
        """Refused: one gradient is not enough for a step."""
        raise TypeError("LBFGS: update: a step takes several gradients of all data: use fit")

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such an optimizer again."""
        return {"max_fun": self.max_fun, "tol": self.tol, "history": self.history}
