"""The fully connected layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from fastnn import activations, checks, constraints, initializers, regularizers
from fastnn.engine.tape import Tape
from fastnn.layers.activation import Activation
from fastnn.layers.arrays import Array
from fastnn.layers.base import Layer, Options, Shape
from fastnn.layers.regularization import ActivityRegularization
from fastnn.layers.weights import held

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SparseRows(NamedTuple):
    """A batch's rows in compressed form (CSR), for a network whose first layer is dense.

    Row r holds ``values[k]`` in columns ``columns[k]`` (int32) for k from ``starts[r]`` (int64) up
    to ``starts[r + 1]``; `order` (int64), if given, says which rows the batch takes.
    """

    values: Any
    columns: Any
    starts: Any
    order: Any = None


class Dense(Layer):
    """``activation(x·kernel + bias)``.

    Parameters
    ----------
    units : int
        Width of the output.
    activation : str or activation, optional
        Name of an activation, or one of your own (`fastnn.activation`); None is linear.
    use_bias : bool
        Whether a bias is added.
    kernel_initializer, bias_initializer : str or callable
        A name out of ``fastnn.initializers.INITIALIZERS``, such an initializer with arguments of
        your own, ``Constant(0.1)``, or ``f(shape, generator)``.
    kernel_regularizer, bias_regularizer : str or L1L2, optional
        What the loss grows by for the size of the weights.
    activity_regularizer : str or L1L2, optional
        The same for the output: the mean over the batch's rows.
    kernel_constraint, bias_constraint : str or Constraint, optional
        What the weights are brought back to after every update.
    **options
        Those of `Layer`.

    Attributes
    ----------
    kernel : ndarray, (in, units)
    bias : ndarray, (units,)
        Live views of the model's memory: what is written there is used, and the other way round.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> fastnn.Dense(3, activation="relu").forward(np.ones((2, 4))).shape
    (2, 3)
    """

    def __init__(
        self,
        units: int,
        activation: activations.Name | None = None,
        use_bias: bool = True,
        kernel_initializer: str | initializers.Initializer = "glorot_uniform",
        bias_initializer: str | initializers.Initializer = "zeros",
        kernel_regularizer: str | regularizers.L1L2 | None = None,
        bias_regularizer: str | regularizers.L1L2 | None = None,
        activity_regularizer: str | regularizers.L1L2 | None = None,
        kernel_constraint: str | constraints.Constraint | None = None,
        bias_constraint: str | constraints.Constraint | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        self.units = checks.integer("Dense", "units", units, 1)
        self.activation = activations.check(activation, "Dense")
        self.use_bias = bool(use_bias)
        self.kernel_initializer, self.kernel_regularizer, self.kernel_constraint = held(
            "Dense", "kernel", kernel_initializer, kernel_regularizer, kernel_constraint
        )
        self.bias_initializer, self.bias_regularizer, self.bias_constraint = held(
            "Dense", "bias", bias_initializer, bias_regularizer, bias_constraint
        )
        self.activity_regularizer = regularizers.check(
            activity_regularizer, "Dense", "activity_regularizer"
        )
        stages: list[Layer] = [self]
        if self.activation != "linear":
            stages.append(Activation(self.activation))
        if (penalty := self.activity_regularizer) is not None:
            stages.append(ActivityRegularization(penalty.l1, penalty.l2))
        self._stages = tuple(stages)

    @property
    def kernel(self) -> Array:
        """The weights (in, units), a live view; assigning writes into it."""
        return self._parameter("kernel")

    @kernel.setter
    def kernel(self, value: Any) -> None:
        self._parameter("kernel")
        self.params["kernel"] = value

    @property
    def bias(self) -> Array:
        """The bias (units,), a live view; assigning writes into it."""
        return self._parameter("bias")

    @bias.setter
    def bias(self, value: Any) -> None:
        self._parameter("bias")
        self.params["bias"] = value

    def _parameter(self, name: str) -> Array:
        if name not in self.params:
            reason = "has no bias" if self.built else "is not built yet: its input is unknown"
            raise AttributeError(f"{self.label} {reason}")
        return self.params[name]

    def build(self, input_shape: Shape) -> None:
        """Make the kernel, and the bias."""
        if len(input_shape) != 1:
            raise ValueError(
                f"{self.label}: rows must be vectors, got shape {input_shape}; put Flatten() before"
            )
        self.add_weight(
            "kernel",
            (input_shape[0], self.units),
            self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        if self.use_bias:
            self.add_weight(
                "bias",
                (self.units,),
                self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """``(units,)``."""
        return (self.units,)

    def stages(self) -> tuple[Layer, ...]:
        """The affine map, and the activation if there is one."""
        return self._stages

    def forward_ops(self, tape: Tape, x: Any) -> Any:
        """``y = x·w + b``."""
        y, weights = tape.new((self.units,)), {"w": self.kernel, "b": self.params.get("bias")}
        if isinstance(x, SparseRows):
            tape.op("sparse_forward", y=y, **x._asdict(), **weights)
        else:
            tape.op("dense_forward", y=y, x=x, **weights)
        tape.save(self, x)
        return y

    def backward_ops(self, tape: Tape, dy: Any, wants_dx: bool) -> Any:
        """``dw = xᵀ·dy``, ``db = Σ dy`` and ``dx = dy·wᵀ``."""
        (x,) = tape.saved(self)
        gradients = {"dw": self.grads["kernel"], "db": self.grads.get("bias")}
        if isinstance(x, SparseRows):
            tape.op("sparse_backward_kernel", **gradients, **x._asdict(), dy=dy)
            return None  # it is the first layer
        if self.trainable:
            tape.op("dense_backward_kernel", **gradients, x=x, dy=dy)
        if not wants_dx:
            return None
        dx = tape.new(tuple(x.shape[1:]))
        tape.op("dense_backward_input", dx=dx, dy=dy, w=self.kernel)
        return dx

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a layer again."""
        return {
            "units": self.units,
            "activation": None if self.activation == "linear" else self.activation,
            "use_bias": self.use_bias,
            "kernel_initializer": self.kernel_initializer,
            "bias_initializer": self.bias_initializer,
            "kernel_regularizer": self.kernel_regularizer,
            "bias_regularizer": self.bias_regularizer,
            "activity_regularizer": self.activity_regularizer,
            "kernel_constraint": self.kernel_constraint,
            "bias_constraint": self.bias_constraint,
            **super().get_config(),
        }
