"""A layer's weights: what they are, how they begin, whether and how training changes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypedDict

import numpy as np

from fastnn import checks, constraints, initializers, regularizers
from fastnn.layers.arrays import Array, Arrays, Parameters

Shape = tuple[int, ...]


class Options(TypedDict, total=False):
    """What every layer takes by name."""

    name: str | None
    trainable: bool
    learning_rate_multiplier: float


class Held(NamedTuple):
    """What a weight begins with and is held to, as `Weighted.add_weight` takes it."""

    initializer: str | initializers.Initializer
    regularizer: regularizers.L1L2 | None
    constraint: constraints.Constraint | None


def held(
    owner: str, name: str, initializer: object, regularizer: object, constraint: object
) -> Held:
    """The three checked: arguments of the layer `owner`, called by the weight's name."""
    return Held(
        initializers.check(initializer, owner, f"{name}_initializer"),
        regularizers.check(regularizer, owner, f"{name}_regularizer"),
        constraints.check(constraint, owner, f"{name}_constraint"),
    )


class Weighted:
    """What owns parameters and their gradients, under a name."""

    name: str | None = None
    dtype: str = "float32"
    _params: Parameters | None = None
    _buffers: Parameters | None = None
    _grads: Arrays | None = None
    _seed: int | None = None
    _stream: int = 0
    _trainable: bool = True
    _learning_rate_multiplier: float = 1.0
    _regularizers: Mapping[str, regularizers.L1L2] = MappingProxyType({})
    _constraints: Mapping[str, constraints.Constraint] = MappingProxyType({})
    _owner: object = None
    _parent: Weighted | None = None
    _awaits: Callable[[str, Shape, str], None] | None = None

    def __init__(
        self,
        name: str | None = None,
        *,
        trainable: bool = True,
        learning_rate_multiplier: float = 1.0,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise TypeError(
                f"{type(self).__name__}: no argument is called {next(iter(unknown))!r}; every "
                "layer takes name, trainable and learning_rate_multiplier"
            )
        if name is not None and not isinstance(name, str):
            raise TypeError(f"{type(self).__name__}: name must be a string, got {name!r}")
        self.name = name
        self.trainable = trainable
        self.learning_rate_multiplier = learning_rate_multiplier

    @property
    def trainable(self) -> bool:
        """Whether training changes the parameters: never inside a layer of which it does not."""
        return self._trainable and (self._parent is None or self._parent.trainable)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{self.label}: trainable must be True or False, got {value!r}")
        self._refuse_in_training("trainable")
        self._trainable = bool(value)

    @property
    def learning_rate_multiplier(self) -> float:
        """By what the learning rate is multiplied for the layer's parameters."""
        return self._learning_rate_multiplier

    @learning_rate_multiplier.setter
    def learning_rate_multiplier(self, value: float) -> None:
        given = checks.number(self.label, "learning_rate_multiplier", value, "[0, inf)")
        self._refuse_in_training("learning_rate_multiplier")
        self._learning_rate_multiplier = given

    def _refuse_in_training(self, what: str) -> None:
        """Steps that are under way were made with what then held."""
        if getattr(self._owner, "is_trained_now", False):
            raise RuntimeError(f"{self.label}: {what} cannot be set while the model is trained")

    @property
    def rate_multiplier(self) -> float:
        """The learning rate's multiplier, that of the layer around it included."""
        around = 1.0 if self._parent is None else self._parent.rate_multiplier
        return around * self.learning_rate_multiplier

    @property
    def trained(self) -> bool:
        """Whether it has parameters that training changes."""
        return self.trainable and bool(self.params)

    @property
    def params(self) -> Parameters:
        """Parameters by name: live arrays."""
        if self._params is None:
            self._params = Parameters()
        return self._params

    @property
    def buffers(self) -> Parameters:
        """Arrays by name that are saved with the parameters, but not trained by gradients."""
        if self._buffers is None:
            self._buffers = Parameters()
        return self._buffers

    @property
    def weights(self) -> dict[str, Array]:
        """Parameters and then buffers by name."""
        return {**self.params, **self.buffers}

    @property
    def grads(self) -> Arrays:
        """Gradients of the parameters by name, from the last `backward`: live arrays.

        After ``model.fit`` they hold nothing of use: a large kernel's gradient is used up as it is
        computed, and never stands in memory as a whole.
        """
        if self._grads is None:
            self._grads = Arrays()
        return self._grads

    @property
    def label(self) -> str:
        """What messages call the layer."""
        return self.name or type(self).__name__

    def add_weight(
        self,
        name: str,
        shape: Shape,
        initializer: Any = "glorot_uniform",
        *,
        regularizer: Any = None,
        constraint: Any = None,
        trainable: bool = True,
    ) -> Array:
        """A new parameter, and its gradient under the same name; called in `build`.

        Parameters
        ----------
        name : str
        shape : tuple of int
        initializer : str or callable
        regularizer : str or L1L2, optional
        constraint : str or Constraint, optional
        trainable : bool
            If False, it is no parameter but one of `buffers`, and has no gradient.

        Returns
        -------
        ndarray
        """
        if self._seed is None:
            self._seed = new_seed()
        source, penalty, limit = held(self.label, name, initializer, regularizer, constraint)
        if limit is not None:
            limit.check(shape, f"{self.label}: {name}_constraint")
        if self._awaits is not None:  # the weights of a file, which may refuse this one
            self._awaits(name, tuple(shape), self.dtype)
            drawn = np.zeros(shape, self.dtype)
        else:
            stream = (self._stream << 16) + len(self.weights)
            generator = initializers.generator(self._seed, stream)
            drawn = initializers.draw(source, shape, generator, self.dtype).astype(self.dtype)
        if not trainable:
            if penalty is not None or limit is not None:
                raise ValueError(f"{self.label}: {name} is not trained, nothing can hold it small")
            self.buffers[name] = drawn
            return self.buffers[name]
        self.params[name] = drawn
        self.grads[name] = np.zeros(shape, self.dtype)
        if penalty is not None:
            self._regularizers = {**self._regularizers, name: penalty}
        if limit is not None:
            self._constraints = {**self._constraints, name: limit}
        return self.params[name]


def new_seed() -> int:
    """A fresh 63-bit seed from the system's entropy."""
    import secrets

    return secrets.randbits(63)
