"""Dropout: of elements, of channels, of blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn import checks
from fastnn.engine.tape import Tape
from fastnn.kernels.activations import SELU_ALPHA, SELU_SCALE
from fastnn.layers.base import Layer, Options, Shape

if TYPE_CHECKING:
    from typing_extensions import Unpack

SELU_LIMIT = -SELU_SCALE * SELU_ALPHA
"""What SELU tends to for x → −∞: −λα."""


class Drawing(Layer):
    """What layers have in common that draw random numbers in training, and else do nothing.

    The numbers are a function of (seed, layer, step, element) by Philox 4x32-10, so they are the
    same for any number of threads, and made again on the way back instead of kept.
    """

    def __init__(self, seed: int | None = None, **options: Unpack[Options]) -> None:
        super().__init__(**options)
        self.seed = seed if seed is None else checks.seed(type(self).__name__, seed)
        self._seed = self.seed

    @property
    def draws(self) -> bool:
        """Whether anything is done in training."""
        raise NotImplementedError

    def change(self, tape: Tape, x: Any, back: bool) -> Any:
        """What comes of x on the way forward, or of a gradient on the way back."""
        raise NotImplementedError

    def forward_ops(self, tape: Tape, x: Any) -> Any:
        """Change x, in training."""
        return self.change(tape, x, False) if tape.training and self.draws else x

    def backward_ops(self, tape: Tape, dy: Any, wants_dx: bool) -> Any:
        """Change the gradient by the same numbers."""
        if not wants_dx:
            return None
        return self.change(tape, dy, True) if tape.training and self.draws else dy

    def drawn(self, tape: Tape, op: str, x: Any, **scalars: Any) -> Any:
        """The output of an op that draws this layer's numbers of the step."""
        y = tape.new(tuple(x.shape[1:]))
        tape.op(op, y=y, x=x, stream=self._stream, **scalars)
        return y


class Dropping(Drawing):
    """Such layers with a rate."""

    def __init__(self, rate: float, seed: int | None = None, **options: Unpack[Options]) -> None:
        super().__init__(seed, **options)
        self.rate = checks.number(type(self).__name__, "rate", rate, "[0, 1)")

    @property
    def draws(self) -> bool:
        """Whether anything is dropped."""
        return self.rate > 0

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a layer again."""
        return {"rate": self.rate, "seed": self.seed, **super().get_config()}


class Dropout(Dropping):
    """Set elements to 0 at random in training, and scale the rest by 1/(1 − rate).

    The mask is a function of (seed, layer, step, element) by Philox 4x32-10, so it is the same
    for any number of threads, and made again on the way back instead of kept. Hinton et al. 2012
    (arXiv 1207.0580), in the inverted form: nothing is done when predicting.

    Parameters
    ----------
    rate : float in [0, 1)
        Probability that an element is dropped.
    seed : int, optional
        Of the masks, where the layer stands alone; in a model they follow the model's seed.
    **options
        Those of `Layer`.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> float(fastnn.Dropout(0.5, seed=1).forward(np.ones((1, 1000)), training=True).max())
    2.0
    """

    def change(self, tape: Tape, x: Any, back: bool) -> Any:
        """The mask times x."""
        return self.drawn(tape, "dropout", x, rate=self.rate)


class AlphaDropout(Dropping):
    """Dropout that keeps a mean of 0 and a variance of 1: for networks of SELU.

    In training, an element becomes −λα at random, SELU's limit for x → −∞, and all are scaled and
    shifted so that mean and variance stay: a·x + b with λ = 1.0507, α = 1.6733, q = 1 − rate,
    a = (q + λ²α²·q·rate)^−½ and b = a·λα·rate. Klambauer et al. 2017 (arXiv 1706.02515), section 3.

    Parameters
    ----------
    rate : float in [0, 1)
        Probability that an element is dropped.
    seed : int, optional
        Of the masks, where the layer stands alone; in a model they follow the model's seed.
    **options
        Those of `Layer`.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> y = fastnn.AlphaDropout(0.5, seed=1).forward(np.zeros((1, 1000)), training=True)
    >>> sorted(round(float(value), 4) for value in set(y.ravel()))
    [-0.7792, 0.7792]
    """

    def change(self, tape: Tape, x: Any, back: bool) -> Any:
        """a·x + b of what is kept, a·(−λα) + b of what is dropped; back without what is added."""
        q = 1.0 - self.rate
        scale = (q * (1.0 + SELU_LIMIT**2 * self.rate)) ** -0.5
        shift = -scale * SELU_LIMIT * self.rate
        added = {} if back else {"shift": shift, "fill": scale * SELU_LIMIT + shift}
        return self.drawn(tape, "alpha_dropout", x, rate=self.rate, scale=scale, **added)


class _SpatialDropout(Dropping):
    """Dropout of whole channels."""

    shape_of_rows: tuple[str, ...]

    def build(self, input_shape: Shape) -> None:
        """Refuse rows of another rank."""
        require_rank(self, input_shape, self.shape_of_rows)

    def change(self, tape: Tape, x: Any, back: bool) -> Any:
        """The channels' mask times x."""
        return self.drawn(tape, "spatial_dropout", x, rate=self.rate, channels=x.shape[-1])


class SpatialDropout1D(_SpatialDropout):
    """Set whole channels of sequences to 0 at random in training, and scale the rest.

    Neighbours in time that resemble each other would tell what was dropped between them. Tompson
    et al. 2015 (arXiv 1411.4280), section 3.2; the rest is scaled by 1/(1 − rate).

    Parameters
    ----------
    rate : float in [0, 1)
        Probability that a row's channel is dropped, of rows (T, C).
    seed : int, optional
        Of the masks, where the layer stands alone; in a model they follow the model's seed.
    **options
        Those of `Layer`.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> y = fastnn.SpatialDropout1D(0.5, seed=3).forward(np.ones((1, 9, 4)), training=True)
    >>> bool((y == y[:, :1]).all())
    True
    """

    shape_of_rows = ("T", "C")


class SpatialDropout2D(_SpatialDropout):
    """Set whole channels of pictures to 0 at random in training, and scale the rest.

    As `SpatialDropout1D`, of rows (H, W, C).

    Parameters
    ----------
    rate : float in [0, 1)
        Probability that a row's channel is dropped.
    seed : int, optional
        Of the masks, where the layer stands alone; in a model they follow the model's seed.
    **options
        Those of `Layer`.
    """

    shape_of_rows = ("H", "W", "C")


class DropBlock2D(Dropping):
    """Set blocks of pictures to 0 at random in training, and scale the rest.

    In each channel, for itself, b x b blocks begin at random at any place where they end within the
    picture, with probability (rate/b²)·HW/((H−b+1)(W−b+1)), so that about the share `rate` of all
    elements is dropped, a little less where blocks overlap. A row's output then is x · mask · n/Σ
    mask, for its n = H·W·C elements; where nothing is left, 0. Ghiasi, Lin & Le 2018 (arXiv
    1810.12890), algorithm 1: masks by channel are the ones that their experiments prefer. They
    take the share over the batch; here it is each row's, so that no row depends on another. A
    block is counted from its corner, so `block_size` may be even.

    Parameters
    ----------
    rate : float in [0, 1)
        Share of elements to drop, of rows (H, W, C).
    block_size : int
        Height and width of a block; no more than those of the picture.
    seed : int, optional
        Of the masks, where the layer stands alone; in a model they follow the model's seed.
    **options
        Those of `Layer`.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> layer = fastnn.DropBlock2D(0.1, block_size=3, seed=1)
    >>> y = layer.forward(np.ones((2, 8, 8, 1)), training=True)
    >>> y.sum(axis=(1, 2, 3)).round(3).tolist()
    [64.0, 64.0]
    """

    def __init__(
        self, rate: float, block_size: int, seed: int | None = None, **options: Unpack[Options]
    ) -> None:
        super().__init__(rate, seed, **options)
        self.block_size = checks.integer("DropBlock2D", "block_size", block_size, 1)

    def build(self, input_shape: Shape) -> None:
        """Refuse rows that are no pictures, or smaller than a block."""
        require_rank(self, input_shape, ("H", "W", "C"))
        if self.block_size > min(input_shape[:2]):
            raise ValueError(
                f"{self.label}: block_size must be at most {min(input_shape[:2])} for rows of "
                f"shape {input_shape}, got {self.block_size}"
            )

    def change(self, tape: Tape, x: Any, back: bool) -> Any:
        """The scaled mask times x."""
        height, width, channels = x.shape[1:]
        places = (height - self.block_size + 1) * (width - self.block_size + 1)
        return self.drawn(
            tape,
            "drop_block",
            x,
            rate=self.rate / self.block_size**2 * height * width / places,
            across=width,
            channels=channels,
            block_size=self.block_size,
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a layer again."""
        return {**super().get_config(), "block_size": self.block_size}


def require_rank(layer: Layer, shape: Shape, expected: tuple[str, ...]) -> None:
    """Refuse rows that have not the dimensions that `expected` names."""
    if len(shape) != len(expected):
        raise ValueError(f"{layer.label}: rows must be ({', '.join(expected)}), got shape {shape}")
