"""Skip connections: x + f(x), in eager and compiled steps, nested, frozen, saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnn
from fastnn.engine.program import Program
from fastnn.training import planner

Array = NDArray[Any]


class Doubled(fastnn.Layer):
    """2x, in Python alone."""

    def forward(self, x: Array, training: bool = False) -> Array:
        return 2 * x

    def backward(self, dy: Array) -> Array:
        return 2 * dy


def data() -> tuple[Array, Array]:
    rng = np.random.default_rng(4)
    return rng.normal(size=(11, 5)), rng.normal(size=(11, 5))


def network(*more: fastnn.Layer, dtype: str = "float32", seed: int = 3) -> fastnn.Sequential:
    """Residuals first, last, side by side and in each other."""
    inner = fastnn.Residual([fastnn.Dense(8, "relu"), fastnn.Dropout(0.2), fastnn.Dense(5)])
    layers: list[fastnn.Layer] = [
        fastnn.Residual([fastnn.Dense(5, "tanh")]),
        fastnn.Residual([inner, fastnn.Dense(5, use_bias=False), *more]),
        fastnn.Tanh(),
        fastnn.Residual([fastnn.Dense(5)]),
    ]
    model = fastnn.Sequential(layers, (5,), dtype=dtype, seed=seed)
    model.compile(fastnn.Adam(0.01), "mse")
    return model


def test_training_follows_torch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, y = data()
    model = fastnn.Sequential(
        [fastnn.Residual([fastnn.Dense(8, "tanh"), fastnn.Dense(5)]), fastnn.Dense(5)],
        (5,), dtype="float64", seed=3,
    )  # fmt: skip
    model.compile(fastnn.SGD(0.1), "mse")
    w = [torch.tensor(a, requires_grad=True) for a in model.get_weights()]
    optimizer, tx = torch.optim.SGD(w, lr=0.1), torch.tensor(x)
    for _ in range(20):
        model.train_on_batch(x, y)
        optimizer.zero_grad()
        hidden = tx + torch.tanh(tx @ w[0] + w[1]) @ w[2] + w[3]
        ((hidden @ w[4] + w[5] - torch.tensor(y)) ** 2).mean().backward()
        optimizer.step()
    for own, theirs in zip(model.get_weights(), w, strict=True):
        np.testing.assert_allclose(own, theirs.detach().numpy(), rtol=0, atol=1e-9)


def test_gradients_pass_the_check() -> None:
    x, y = data()
    errors = fastnn.gradcheck(network(), x, y)
    assert len(errors) == 2 + 2 + 2 + 1 + 2
    assert "dense_1_0_0.kernel" in errors


def test_eager_and_compiled_training_are_the_same_bits() -> None:
    x, y = data()
    compiled, eager = network(), network()
    eager.layers[3].__class__ = type("Watched", (fastnn.Residual,), {"in_python": True})
    for model in (compiled, eager):
        model.fit(x, y, batch_size=4, epochs=2, verbose=0)
    assert eager.parameters.tobytes() == compiled.parameters.tobytes()
    np.testing.assert_array_equal(eager.predict(x), compiled.predict(x))


def test_a_layer_inside_may_exist_only_in_python() -> None:
    x, y = data()
    model = network(Doubled(), dtype="float64")
    assert model.layers[1].in_python
    fastnn.gradcheck(model, x, y)
    before = model.evaluate(x, y)["loss"]
    model.fit(x, y, batch_size=4, epochs=5, verbose=0)
    assert model.evaluate(x, y)["loss"] < before


def test_sums_are_done_in_the_products() -> None:
    model = network()
    program = Program(4, "float32", training=True)
    handles = [program.external(name, (0, 5), "float32") for name in ("x", "y")]
    assert model.loss is not None
    assert model.optimizer is not None
    planner.training_step(
        program, model.layers, model.loss, [], model.optimizer, model.flat(),
        planner.Sources(*handles), "float32",
    )  # fmt: skip
    program.fuse()
    alone = [call.signature.name for call in program.calls].count("add")
    taken = sum(f.signature.name == "add" for call in program.calls for f in call.finish)
    # Four forward, of which the first follows a tanh that is kept for the way back; back, three,
    # for nothing is before the first.
    assert (alone, taken) == (1, 6)


def test_layers_inside_draw_weights_of_their_own() -> None:
    alone = fastnn.Residual([fastnn.Dense(5), fastnn.Dense(5)])
    alone.forward(np.ones((2, 5)))
    one, other = (layer.kernel for layer in alone.layers)
    assert (one != other).any()
    model = network()
    kernels = [w for w in model.get_weights() if w.shape == (5, 5)]
    assert len({kernel.tobytes() for kernel in kernels}) == len(kernels) == 3


def test_files_and_weights_hold_the_layers_inside(tmp_path: Path) -> None:
    x, y = data()
    model = network()
    model.fit(x, y, batch_size=4, epochs=2, verbose=0)
    model.save(tmp_path / "net.safetensors")
    again = fastnn.load(tmp_path / "net.safetensors")
    for each in (model, again):
        each.fit(x, y, batch_size=4, epochs=2, verbose=0)
    assert again.parameters.tobytes() == model.parameters.tobytes()
    assert len(model.get_weights()) == 9
    assert model.count_params() == sum(w.size for w in model.get_weights())


def test_a_frozen_residual_freezes_what_is_in_it() -> None:
    x, y = data()
    model = network()
    model.layers[1].trainable = False
    assert not model.layers[1].layers[0].layers[0].trainable
    before = model.get_weights()
    model.fit(x, y, batch_size=4, verbose=0)
    changed = [bool((a != b).any()) for a, b in zip(before, model.get_weights(), strict=True)]
    assert changed == [True, True, False, False, False, False, False, True, True]
    model.layers[1].trainable = True
    model.layers[1].layers[0].trainable = False
    assert model.layers[1].layers[1].trainable


def test_multipliers_multiply() -> None:
    block = fastnn.Residual(
        [fastnn.Dense(5, learning_rate_multiplier=0.5)], learning_rate_multiplier=0.1
    )
    assert block.layers[0].rate_multiplier == 0.05


def test_a_model_that_cannot_be_built_can_be_mended() -> None:
    block = fastnn.Residual([fastnn.Dense(4)])
    model = fastnn.Sequential([block])
    with pytest.raises(ValueError, match=r"input's shape \(5,\), got \(4,\)"):
        model.build((5,))
    assert not block.layers[0].built
    model.build((4,))
    assert model.predict(np.ones((2, 4))).shape == (2, 4)


def test_wrong_layers_are_refused() -> None:
    dense = fastnn.Dense(5)
    for layers, message in (
        ([], "empty"),
        ([dense, dense], "already"),
        ([3], "got 3"),
        (dense, ""),
    ):
        with pytest.raises((TypeError, ValueError), match=f"Residual: .*{message}"):
            fastnn.Residual(layers)
    fastnn.Residual([dense])
    with pytest.raises(ValueError, match="already belongs to a model"):
        fastnn.Sequential([dense])
    with pytest.raises(ValueError, match="already belongs to a model"):
        fastnn.Residual([dense])


def test_layers_at_any_depth_are_unbuilt_by_an_error_and_share_the_models_state() -> None:
    deep = fastnn.Residual([fastnn.Residual([fastnn.Dense(4, use_bias=False)])])
    model = fastnn.Sequential([deep, fastnn.Dense(1)], seed=0)
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="y"):
        model.fit(np.zeros((6, 4)), np.zeros((6, 3)), verbose=0)
    assert not deep.layers[0].built
    model.build((4,))
    assert deep.layers[0]._state is model.state
