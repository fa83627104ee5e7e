"""What every optimizer is: clipping, decay, update and average, as ops on flat vectors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt

from fastnn import checks
from fastnn.configured import Configured, parameters_of
from fastnn.engine import cpu
from fastnn.engine.tape import Eager, Tape
from fastnn.kernels import state as s
from fastnn.kernels.signatures import signature
from fastnn.kernels.updates import NORM_BLOCK
from fastnn.layers.base import Layer, leaves
from fastnn.schedules import Schedule

Array = npt.NDArray[Any]

AVERAGE = "average"
"""The vector of averaged weights, among those that an optimizer keeps."""


class Group(NamedTuple):
    """Parameters w (P,) that are updated alike, their gradients, and the optimizer's vectors."""

    w: Any
    g: Any
    slots: dict[str, Any]
    multiplier: float = 1.0


class Options(TypedDict, total=False):
    """What every optimizer takes by name."""

    weight_decay: float | None
    clipnorm: float | None
    clipvalue: float | None
    global_clipnorm: float | None
    use_ema: bool
    ema_momentum: float


class Optimizer(Configured):
    """One pass over a vector of parameters, its gradient and the optimizer's own vectors.

    An optimizer of one's own names its op, the vectors it keeps and what numbers they go with.

    Parameters
    ----------
    learning_rate : float, at least 0, or Schedule
    weight_decay : float, at least 0, optional
        λ: before each update ``w −= ηλw``, of all parameters (Loshchilov & Hutter 2019, arXiv
        1711.05101). PyTorch does so in `AdamW` alone; elsewhere it adds λw to the gradient.
    clipnorm : float, greater than 0, optional
        The gradient of each kernel and bias is scaled down to a norm of at most this.
    clipvalue : float, greater than 0, optional
        Every element of a gradient is cut to this, or minus this.
    global_clipnorm : float, greater than 0, optional
        All gradients are scaled down together, to one norm of at most this. PyTorch's
        `clip_grad_norm_` divides by the norm plus 1e-6.
    use_ema : bool
        Whether an average of the weights over the steps is kept. Every `fit` that comes to its end
        puts it into their place, so that two fits are not one of as many epochs; after
        `train_on_batch`, ``model.take_average()`` does. Validation meanwhile, and what an
        interruption leaves, are the weights themselves, and of these are the moving statistics of
        normalising layers.
    ema_momentum : float in [0, 1]
        μ: after each step ``average = μ·average + (1−μ)w``; it begins with the first step's w.

    Attributes
    ----------
    learning_rate : float or Schedule
        May be changed at any time, and counts from the next epoch on; but within a fit no schedule
        can take the place of a number.
    op : str
        The op that updates.
    rates_op : str or None
        An op before it, for numbers that are the same for all elements in one step.
    slots : tuple of str
        Names of the vectors that the optimizer keeps, each as long as the parameters.
    """

    name: str
    op: str
    rates_op: str | None = None
    slots: tuple[str, ...] = ()

    def __init__(
        self,
        learning_rate: float | Schedule = 0.01,
        *,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
    ) -> None:
        self.learning_rate = learning_rate
        self.weight_decay = self._optional("weight_decay", weight_decay, "[0, inf)")
        self.clipnorm = self._optional("clipnorm", clipnorm, "(0, inf)")
        self.clipvalue = self._optional("clipvalue", clipvalue, "(0, inf)")
        self.global_clipnorm = self._optional("global_clipnorm", global_clipnorm, "(0, inf)")
        if sum(limit is not None for limit in (clipnorm, clipvalue, global_clipnorm)) > 1:
            raise ValueError(
                f"{type(self).__name__}: of clipnorm, clipvalue and global_clipnorm only one "
                f"may be given, got {clipnorm}, {clipvalue} and {global_clipnorm}"
            )
        self._use_ema = bool(use_ema)
        self.ema_momentum = self._number("ema_momentum", ema_momentum, "[0, 1]")
        self._by_hand: dict[int, tuple[Layer, dict[str, dict[str, Array]]]] = {}
        self._steps = 0

    def _number(self, argument: str, value: object, interval: str) -> float:
        return checks.number(type(self).__name__, argument, value, interval)

    def _optional(self, argument: str, value: object, interval: str) -> float | None:
        return None if value is None else self._number(argument, value, interval)

    @property
    def learning_rate(self) -> float | Schedule:
        """Step size η, or what gives it for each step."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float | Schedule) -> None:
        given = isinstance(value, Schedule)
        self._learning_rate = value if given else self._number("learning_rate", value, "[0, inf)")

    @property
    def use_ema(self) -> bool:
        """Whether weights are averaged; fixed, for with it comes a vector of averages."""
        return self._use_ema

    @property
    def vectors(self) -> tuple[str, ...]:
        """Names of all vectors that are kept."""
        return (*self.slots, AVERAGE) if self.use_ema else self.slots

    def initial_value(self, slot: str) -> float:
        """What all elements of a vector are before the first step."""
        return 0.0

    def scalars(self) -> dict[str, float]:
        """The numbers that the ops take, by name; more than they take do no harm."""
        return {}

    def rates(self, first: int, last: int) -> Array:
        """The learning rates of steps `first` up to, not with, `last`: float64."""
        if isinstance(self.learning_rate, Schedule):
            return self.learning_rate.between(first, last)
        return np.full(last - first, self.learning_rate)

    def clip_ops(self, tape: Tape, gradients: Sequence[Any]) -> None:
        """Put on `tape` the clipping of every kernel's and bias's gradient, each a vector."""
        limit = self.clipnorm if self.global_clipnorm is None else self.global_clipnorm
        if self.clipvalue is not None:
            for g in gradients:
                tape.check("clip_value", g=g, limit=self.clipvalue)
        elif limit is not None and gradients:
            ends = np.cumsum([-(-g.size // NORM_BLOCK) for g in gradients])
            sums = np.empty(ends[-1])
            parts = np.split(sums, ends[:-1])
            for g, part in zip(gradients, parts, strict=True):
                tape.check("sum_of_squares", sums=part, g=g)
            for g, part in zip(gradients, parts, strict=True):
                of_all = self.clipnorm is None
                tape.check("clip_norm", g=g, sums=sums if of_all else part, limit=limit)

    def update_ops(
        self, tape: Tape, groups: Sequence[Group], constrained: Sequence[Layer] = ()
    ) -> None:
        """Put on `tape` the update of all groups, and what holds layers to their constraints."""
        scalars = self.scalars()

        def taken(op: str) -> dict[str, float]:
            return {scalar.name: scalars[scalar.name] for scalar in signature(op).scalars}

        if self.rates_op is not None:
            tape.op(self.rates_op, **taken(self.rates_op))
        for w, g, slots, multiplier in groups:
            scalars["multiplier"] = multiplier
            if self.weight_decay:
                scalars["decay"] = self.weight_decay
                tape.commit("weight_decay", w=w, **taken("weight_decay"))
            own = {slot: slots[slot] for slot in self.slots}
            tape.commit(self.op, w=w, g=g, **own, **taken(self.op))
        for layer in constrained:
            layer.constraint_ops(tape)
        for w, _, slots, _ in groups if self.use_ema else ():
            average = slots[AVERAGE]
            tape.commit("weight_average", average=average, w=w, momentum=self.ema_momentum)
        tape.update()

    def _own(self, layer: Layer) -> dict[str, dict[str, Array]]:
        """The vectors kept for a layer that is trained by hand, by parameter."""
        _, kept = self._by_hand.setdefault(id(layer), (layer, {}))
        for name, w in layer.params.items():
            if name not in kept:
                kept[name] = {v: np.full_like(w, self.initial_value(v)) for v in self.vectors}
                if self.use_ema and self._steps > 0:  # the first step alone begins the average
                    kept[name][AVERAGE][...] = w
        return kept

    def update(self, layers: Layer | Iterable[Layer]) -> None:
        """Change layers' parameters by their gradients, once: for loops written by hand.

        A call is a step: all layers of a network belong into one. The optimizer keeps its own
        vectors for every layer that it has seen. Gradients are clipped in place, `global_clipnorm`
        taking those of all `layers` together.

        Raises
        ------
        DivergenceError
            If a gradient is not finite: before anything changes. Or if a new parameter would not
            be; it keeps its old value.
        """
        step, finite = self._steps, True
        listed = _trained(layers)
        state = cpu.new_state()
        state[s.STEP] = step
        cpu.floats(state)[s.LEARNING_RATE] = self.rates(step, step + 1)[0]
        tape = Eager(0, "float32", state.copy())
        gradients = [layer.grads[n].reshape(-1) for layer in listed for n in layer.params]
        for g in gradients:
            tape.check("guard", g=g)
        if not tape.stopped:
            self.clip_ops(tape, gradients)  # of a norm that is not finite, too
        if tape.stopped:
            raise cpu.diverged(step, "a gradient")
        for layer in listed:
            groups = []
            for name, slots in self._own(layer).items():
                w, g = layer.params[name].reshape(-1), layer.grads[name].reshape(-1)
                flat = {slot: v.reshape(-1) for slot, v in slots.items()}
                groups.append(Group(w, g, flat, layer.rate_multiplier))
            tape = Eager(0, layer.dtype, state.copy())
            self.update_ops(tape, groups, [layer])
            finite &= not tape.stopped
        self._steps = step + 1
        if not finite:
            raise cpu.diverged(step, "a gradient")

    def finalize(self, layers: Layer | Iterable[Layer]) -> None:
        """Put averaged weights into the place of layers' parameters: after a loop by hand.

        Raises
        ------
        RuntimeError
            If the optimizer keeps no averages, or none of one of the layers.
        """
        if not self.use_ema:
            raise RuntimeError(f"{type(self).__name__}: finalize needs use_ema=True")
        listed = _trained(layers)
        for layer in listed:
            if id(layer) not in self._by_hand:
                raise RuntimeError(
                    f"{type(self).__name__}: finalize: {layer.label} was never given to update; "
                    "of a model, model.take_average() puts the averages in place"
                )
        for layer in listed:
            for name, slots in self._own(layer).items():
                layer.params[name] = slots[AVERAGE]

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such an optimizer again; of the options, those that are given."""
        options, own = parameters_of(Optimizer), parameters_of(type(self)).values()
        names = [p.name for p in own if p.kind is not p.VAR_KEYWORD]
        config = {name: getattr(self, name) for name in names}
        for name, option in options.items():
            if getattr(self, name) != option.default:
                config.setdefault(name, getattr(self, name))
        return config


def _trained(layers: Layer | Iterable[Layer]) -> list[Layer]:
    """All that are trained among `layers` and inside them, each once."""
    every = leaves([layers] if isinstance(layers, Layer) else layers)
    return list({id(layer): layer for layer in every if layer.trained}.values())
