"""Activations as layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn import activations
from fastnn.engine.tape import Tape
from fastnn.layers.base import Layer, Options, Shape

if TYPE_CHECKING:
    from typing_extensions import Unpack

OPTIONS = ("trainable", "learning_rate_multiplier")
"""Those of `Layer` that have no place of their own among an activation's arguments."""


class Activation(Layer):
    """An activation on its own.

    Parameters
    ----------
    activation : str or activation
        Its name; see ``fastnn.activations.NAMES``. Or one of your own: see `fastnn.activation`.
    name : str, optional
    **parameters
        The activation's own: ``negative_slope`` of leaky_relu (0.2), ``alpha`` of elu and celu
        (1.0), ``approximate`` of gelu (False), ``r`` of eru and oru (2.0).

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> fastnn.Activation("elu", alpha=2.0).forward(np.array([[-np.inf, 2.0]])).tolist()
    [[-2.0, 2.0]]
    """

    def __init__(
        self, activation: activations.Name | None, name: str | None = None, **parameters: Any
    ) -> None:
        options = {key: parameters.pop(key) for key in OPTIONS if key in parameters}
        super().__init__(name, **options)
        owner = type(self).__name__
        self.activation = activations.check(activation, owner)
        self.arguments = activations.check_parameters(self.activation, parameters, owner)

    @property
    def untrainable(self) -> str | None:
        """Why no gradient comes back through it, if none does."""
        if activations.has_derivative(self.activation):
            return None
        return f"the derivative of {self.activation} is 0 everywhere"

    def build(self, input_shape: Shape) -> None:
        """Softmax and its kin take vectors only."""
        if not activations.is_elementwise(self.activation) and len(input_shape) != 1:
            raise ValueError(
                f"{self.label}: {self.activation} takes rows that are vectors, "
                f"got shape {input_shape}"
            )

    def forward_ops(self, tape: Tape, x: Any) -> Any:
        """``y = f(x)``."""
        y, kept = activations.forward(tape, self.activation, x, **self.arguments)
        tape.save(self, kept)
        return y

    def backward_ops(self, tape: Tape, dy: Any, wants_dx: bool) -> Any:
        """``dx = f'·dy``, from the output or the input."""
        (kept,) = tape.saved(self)
        if not wants_dx:
            return None
        if self.untrainable is not None:
            raise ValueError(f"{self.label}: no gradient comes back: {self.untrainable}")
        return activations.backward(tape, self.activation, dy, kept, **self.arguments)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a layer again."""
        return {"activation": self.activation, **self.arguments, **super().get_config()}


class _Named(Activation):
    """An activation that is a class of its own."""

    activation_name: str

    def __init__(self, name: str | None = None, **parameters: Any) -> None:
        super().__init__(self.activation_name, name, **parameters)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a layer again."""
        config = super().get_config()
        del config["activation"]
        return config


class ReLU(_Named):
    """``max(x, 0)``; its derivative at 0 is 0."""

    activation_name = "relu"


class LeakyReLU(_Named):
    """``x`` where it is positive, else ``negative_slope·x``.

    Parameters
    ----------
    negative_slope : float in [0, inf)
        0.2 by default, as in ``keras.activations``; Keras's layer of this name has 0.3.
    **options
        Those of `Layer`.
    """

    activation_name = "leaky_relu"

    def __init__(self, negative_slope: float = 0.2, **options: Unpack[Options]) -> None:
        super().__init__(negative_slope=negative_slope, **options)


class ELU(_Named):
    """``x`` where it is positive, else ``alpha·(e^x − 1)``.

    Parameters
    ----------
    alpha : float in [0, inf)
    **options
        Those of `Layer`.
    """

    activation_name = "elu"

    def __init__(self, alpha: float = 1.0, **options: Unpack[Options]) -> None:
        super().__init__(alpha=alpha, **options)


class Sigmoid(_Named):
    """``1 / (1 + e^−x)``."""

    activation_name = "sigmoid"


class Tanh(_Named):
    """``tanh x``."""

    activation_name = "tanh"


class Softmax(_Named):
    """``e^x / Σ e^x`` over a row, with the row's maximum taken off first."""

    activation_name = "softmax"
