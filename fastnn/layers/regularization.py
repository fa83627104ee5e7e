"""What a layer's output adds to the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn import regularizers
from fastnn.engine.tape import Tape
from fastnn.kernels import state as s
from fastnn.layers.base import Layer, Options

if TYPE_CHECKING:
    from typing_extensions import Unpack


class ActivityRegularization(Layer):
    """The input itself, of which ``l1·Σ|x| + l2·Σx²`` is added to the loss: the mean over rows.

    Parameters
    ----------
    l1, l2 : float, at least 0
    **options
        Those of `Layer`.
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **options: Unpack[Options]) -> None:
        super().__init__(**options)
        self._regularizer = regularizers.L1L2(l1, l2)

    def forward_ops(self, tape: Tape, x: Any) -> Any:
        """x itself."""
        tape.save(self, x)
        return x

    def penalty_ops(self, tape: Tape) -> None:
        """Put on `tape` what adds the rows' penalties to the loss."""
        (x,) = tape.saved(self)
        values = tape.new(())
        tape.op("activity_penalty", values=values, y=x, **self._regularizer.scalars())
        tape.op("accumulate", values=values, slot=s.PENALTY_SUM, guard=int(tape.training))

    def backward_ops(self, tape: Tape, dy: Any, wants_dx: bool) -> Any:
        """dy and the penalty's gradient."""
        if not wants_dx:
            return None
        (x,) = tape.saved(self)
        dx = tape.new(tuple(dy.shape[1:]))
        tape.op("activity_penalty_gradient", dx=dx, dy=dy, y=x, **self._regularizer.scalars())
        return dx

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a layer again."""
        return {**self._regularizer.scalars(), **super().get_config()}
