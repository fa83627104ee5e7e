"""Models for ONNX and from it: ONNX Runtime and PyTorch are the oracles."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import fastnn
from fastnn import layers
from fastnn.io import from_onnx, from_torch, to_onnx
from fastnn.io.onnx_graph import Node
from helpers import assert_close

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

Array = NDArray[Any]
Make = Any

NEWEST = onnx.defs.onnx_opset_version()
OPSETS = (13, 16, 17, 18, 20, NEWEST)
"""The oldest, the newest, and those between which something is written differently."""

WITHOUT_OPERATORS = ("eru", "oru", "sparsemax", "step")
ACTIVATIONS = [name for name in fastnn.activations.NAMES if name not in WITHOUT_OPERATORS]

LAYERS: dict[str, tuple[Make, tuple[int, ...]]] = {
    **{name: (lambda name=name: [layers.Activation(name)], (7,)) for name in ACTIVATIONS},
    "leaky_relu with a slope": (lambda: [layers.LeakyReLU(0.3)], (7,)),
    "elu with alpha": (lambda: [layers.ELU(0.7)], (7,)),
    "celu with alpha": (lambda: [layers.Activation("celu", alpha=0.7)], (7,)),
    "approximate gelu": (lambda: [layers.Activation("gelu", approximate=True)], (7,)),
    "Dense": (lambda: [layers.Dense(5, "relu")], (7,)),
    "Dense without bias": (lambda: [layers.Dense(1, use_bias=False)], (3,)),
    "Dense of one name": (lambda: [layers.Dense(4, name="a"), layers.Dense(3, name="a")], (4,)),
    "BatchNormalization": (lambda: [layers.BatchNormalization(epsilon=0.1)], (7,)),
    "BatchNormalization of series": (lambda: [layers.BatchNormalization(scale=False)], (3, 4)),
    "LayerNormalization": (lambda: [layers.LayerNormalization(epsilon=0.1)], (7,)),
    "LayerNormalization, bare": (
        lambda: [layers.LayerNormalization(center=False, scale=False)],
        (3, 4),
    ),
    "PReLU": (lambda: [layers.PReLU()], (7,)),
    "PReLU of channels": (lambda: [layers.PReLU(shared_axes=[1])], (3, 4)),
    "PReLU of one slope": (lambda: [layers.PReLU(shared_axes=[1, 2])], (3, 4)),
    "Rescaling": (lambda: [layers.Rescaling(0.5, 0.1)], (3, 4)),
    "Normalization": (lambda: [layers.Normalization(mean=[1, 2, 3], variance=2.0)], (4, 3)),
    "Flatten": (lambda: [layers.Flatten()], (3, 4)),
    "Reshape": (lambda: [layers.Reshape((2, 2, 3))], (3, 4)),
    "Dropout": (lambda: [layers.Dropout(0.3)], (7,)),
    "noise": (lambda: [layers.GaussianNoise(0.3), layers.AlphaDropout(0.2)], (7,)),
    "nothing": (lambda: [layers.Input((7,)), layers.ActivityRegularization(0.1)], (7,)),
    "Residual": (
        lambda: [layers.Residual([layers.Dense(5), layers.Residual([layers.Dense(5)])])],
        (5,),
    ),
    "Residual of nothing else": (lambda: [layers.Residual([layers.Tanh()])], (3, 4)),
}


def network(name: str, dtype: str = "float32") -> fastnn.Sequential:
    """A model whose weights are all away from where they begin."""
    make, shape = LAYERS[name]
    model = fastnn.Sequential(make(), shape, dtype=dtype, seed=4)
    rng = np.random.default_rng(5)
    model.set_weights([rng.uniform(0.2, 1.2, w.shape) for w in model.get_weights()])
    return model


def rows(shape: Any, dtype: str = "float32", count: int = 6) -> Array:
    return np.random.default_rng(6).normal(size=(count, *shape)).astype(dtype)


def run(proto: Any, x: Array) -> Array:
    """What ONNX Runtime computes."""
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    y: Array = session.run(None, {session.get_inputs()[0].name: x})[0]
    return y


@pytest.mark.parametrize("name", LAYERS)
def test_onnx_runtime_computes_the_same_at_every_opset(name: str) -> None:
    model = network(name)
    x = rows(model.input_shape)
    expected = model(x)
    for opset in OPSETS:
        assert_close(run(to_onnx(model, opset=opset), x), expected, scale=2)  # both are rounded


@pytest.mark.parametrize("name", LAYERS)
def test_a_model_comes_back(name: str) -> None:
    """In float64, so that no formula is taken for another that is close to it."""
    model = network(name, "float64")
    x = rows(model.input_shape, "float64")
    for opset in (13, NEWEST):
        back = from_onnx(to_onnx(model, opset=opset))
        assert back.dtype == "float64"
        assert_close(back(x), model(x))
        if name in ACTIVATIONS and name != "celu":  # written as an elu here
            (layer,) = back.layers
            assert isinstance(layer, layers.Activation)
            assert layer.activation == ("gelu" if name == "gelu_tanh" else name)


def test_what_is_trained_is_still_trained() -> None:
    model = fastnn.Sequential(
        [
            layers.Dense(8, "relu"),
            layers.Dropout(0.25),
            layers.BatchNormalization(momentum=0.8, epsilon=0.01),
            layers.LayerNormalization(),
            layers.Dense(3, use_bias=False),
        ],
        (4,),
        seed=0,
    )
    for opset in (13, NEWEST):
        back = from_onnx(to_onnx(model, opset=opset), seed=1)
        kinds = [type(layer).__name__ for layer in back.layers]
        assert kinds == [
            *("Dense", "Activation", "Dropout"),
            *("BatchNormalization", "LayerNormalization", "Dense"),
        ]
        norm = back.layers[3]
        assert isinstance(norm, layers.BatchNormalization)
        assert (back.layers[2].rate, norm.momentum, norm.epsilon) == (0.25, 0.8, 0.01)
        assert back.count_params() == model.count_params()
        back.compile(fastnn.Adam(0.02), "mse")
        losses = back.fit(rows((4,)), rows((3,)), epochs=100, verbose=0).history["loss"]
        assert losses[-1] < losses[0] / 2


def test_float64_runs_in_onnx_runtime() -> None:
    model = fastnn.Sequential(
        [
            *(layers.Dense(5, "tanh"), layers.BatchNormalization(), layers.LayerNormalization()),
            *(layers.Dense(4, "relu"), layers.Dense(3, "softmax")),
        ],
        (4,),
        dtype="float64",
        seed=0,
    )
    x = rows((4,), "float64")
    # Epsilons are float32: 1e-3 is off by 5e-11.
    assert_close(run(to_onnx(model), x), model(x), scale=1000)


def test_a_file_is_written_and_read(tmp_path: Path) -> None:
    model = network("Dense")
    proto = to_onnx(model, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    for count in (1, 6, 17):
        x = rows((7,), count=count)
        expected = model.predict(x)
        assert_close(session.run(None, {"x": x})[0], expected)
        np.testing.assert_array_equal(from_onnx(tmp_path / "net.onnx").predict(x), expected)
        np.testing.assert_array_equal(from_onnx(str(tmp_path / "net.onnx")).predict(x), expected)
    assert proto == onnx.load_model(tmp_path / "net.onnx")
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


def test_weights_of_a_real_size_come_back_to_the_bit(tmp_path: Path) -> None:
    model = fastnn.Sequential(
        [layers.Dense(129, "relu"), layers.Dropout(0.1), layers.Dense(10, "softmax")], 784, seed=0
    )
    to_onnx(model, tmp_path / "net.onnx")
    back = from_onnx(tmp_path / "net.onnx")
    for own, other in zip(model.get_weights(), back.get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)
    x = rows((784,), count=257)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    # Logits are sums of 784 terms, of size 1.
    assert_close(session.run(None, {"x": x})[0], model(x), scale=10)


@fastnn.activation
def bump(x: Any, width: float = 1.0) -> Any:
    return x / (width + x * x)


class Square(fastnn.Layer):
    def forward(self, x: Any, training: bool = False) -> Any:
        return x * x

    def backward(self, dy: Any) -> Any:
        raise NotImplementedError


class Twice(layers.Rescaling):
    """What it does is no longer what its class does."""

    def forward_ops(self, tape: Any, x: Any) -> Any:
        return super().forward_ops(tape, super().forward_ops(tape, x))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Twice(3.0), "twice_0: Twice has no operators"),
        *((lambda name=name: layers.Activation(name), name) for name in WITHOUT_OPERATORS),
        (lambda: layers.Activation(bump), "bump"),
        (lambda: Square(), "square_0: Square has no operators"),
        (lambda: layers.Residual([layers.Dense(4), Square()]), "square_0_1: Square"),
    ],
)
def test_a_layer_without_operators_is_named(make: Make, words: str) -> None:
    with pytest.raises(ValueError, match=f"to_onnx: .*{words}"):
        to_onnx(fastnn.Sequential([make()], (4,)))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"opset": 12}, ValueError, "opset must be at least 13, got 12"),
        ({"opset": NEWEST + 1}, ValueError, f"opset must be at most {NEWEST}"),
        ({"opset": "13"}, TypeError, "opset must be an integer, got '13'"),
        ({"model": 5}, TypeError, "model must be a Sequential, got 5"),
        ({"model": fastnn.Sequential([layers.Dense(3)])}, RuntimeError, "not built yet"),
        (
            {"model": fastnn.Sequential([layers.Normalization()], 3)},
            RuntimeError,
            r"call adapt\(training data\) first",
        ),
    ],
)
def test_wrong_arguments_are_named(arguments: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        to_onnx(**{"model": network("Dense"), **arguments})


# Round trips from PyTorch


def of_width(width: int) -> st.SearchStrategy[Any]:
    """A module of PyTorch's that keeps the width, by its class's name and arguments."""
    names = ("ReLU", "SELU", "GELU", "SiLU", "Mish", "Sigmoid", "Hardsigmoid", "Tanh", "Hardtanh")
    return st.one_of(
        st.sampled_from([(name, ()) for name in (*names, "Softplus", "Softsign")]),
        st.sampled_from(["LeakyReLU", "ELU", "CELU"]).map(lambda name: (name, (0.5,))),
        st.sampled_from(
            # Of few numbers, which may lie close together, a LayerNorm enlarges the rounding.
            ["BatchNorm1d", "PReLU", *(["LayerNorm"] if width >= 8 else [])]
        ).map(lambda name: (name, (width,))),
        st.sampled_from([("GELU", ("tanh",)), ("Dropout", (0.5,)), ("Softplus", (2.0,))]),
    )


@st.composite
def torch_networks(draw: Any) -> tuple[list[Any], int]:
    """Modules as names and arguments, in order, and the width of a row."""
    first = width = draw(st.integers(1, 17))
    modules: list[Any] = []
    for _ in range(draw(st.integers(1, 4))):
        units = draw(st.integers(1, 17))
        modules.append(("Linear", (width, units, draw(st.booleans()))))
        width = units
        modules += draw(st.lists(of_width(width), max_size=2))
    modules += draw(st.sampled_from([[], [("Softmax", (-1,))], [("LogSoftmax", (-1,))]]))
    return modules, first


@settings(max_examples=40)
@given(torch_networks(), st.integers(13, NEWEST), st.integers(1, 9), st.integers(0, 2**31))
def test_round_trips_agree_to_a_millionth(drawn: Any, opset: int, count: int, seed: int) -> None:
    """PyTorch → fastnn → ONNX → ONNX Runtime, and → fastnn again."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    modules, width = drawn
    torch.manual_seed(seed)
    module = torch.nn.Sequential(*(getattr(torch.nn, name)(*given) for name, given in modules))
    module.eval()
    x = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    model = from_torch(module)
    proto = to_onnx(model, opset=opset)
    with torch.no_grad():
        reference = module(torch.from_numpy(x)).numpy()
    # Relative to the largest output, where that is above 1.
    close = {"rtol": 0.0, "atol": 1e-6 * max(1.0, float(np.abs(reference).max()))}
    np.testing.assert_allclose(model(x), reference, **close)
    np.testing.assert_allclose(run(proto, x), reference, **close)
    np.testing.assert_allclose(from_onnx(proto)(x), reference, **close)


@pytest.mark.parametrize("opset", [13, 17])
def test_what_torch_exports_is_read(opset: int) -> None:
    """Gelu, SiLU, Mish and, below 17, layer normalisation are written in simpler operators."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    nn = torch.nn
    torch.manual_seed(0)
    same = nn.Linear(8, 8), nn.GELU("tanh"), nn.Linear(8, 8, bias=False)
    module = nn.Sequential(
        *(nn.Flatten(), nn.Linear(6, 8), nn.GELU(), nn.BatchNorm1d(8), *same, nn.SiLU()),
        *(nn.LayerNorm(8), nn.Mish(), nn.PReLU(), nn.Softplus(beta=2.0), nn.Hardsigmoid()),
        *(nn.CELU(0.5), nn.Hardtanh(), nn.Dropout(0.1), nn.Linear(8, 3), nn.LogSoftmax(-1)),
    ).eval()
    x, file = rows((2, 3)), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter is an older one, which needs no onnxscript
        torch.onnx.export(
            *(module, (torch.from_numpy(x),), file),
            dynamo=False,
            opset_version=opset,
            input_names=["x"],
            dynamic_axes={"x": {0: "N"}},
        )
    model = from_onnx(onnx.load_from_string(file.getvalue()))
    names = [layer.activation for layer in model.layers if isinstance(layer, layers.Activation)]
    assert names == [
        *("gelu", "gelu", "silu", "mish", "softplus", "hard_sigmoid"),
        *("celu", "hard_tanh", "log_softmax"),
    ]
    with torch.no_grad():
        assert_close(model.predict(x), module(torch.from_numpy(x)).numpy(), scale=2)


# Forms and errors, as texts


def graph(body: str, shape: str = "N, 4", outputs: str = "y", opset: int = 20) -> Any:
    """A model of nodes in ONNX's own notation, from x to y."""
    ends = ", ".join(f"float[N, M] {name}" for name in outputs.split())
    return onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]>
        g (float[{shape}] x) => ({ends}) <
            float[4] c = {{1, 2, 3, 4}}, float[1, 4] row = {{1, 2, 3, 4}}, float s = {{3}},
            float zero = {{0}}, float[3, 4] rows = {{1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4}},
            float[4, 4] w = {{1, 2, 0, 1, 0, 1, 2, 1, 0, 0, 1, 2, 1, 1, 0, 1}},
            float beyond = {{20}}, float half = {{0.5}}, int64[1] last = {{-1}},
            bool on = {{1}}, int64 first = {{0}}, int64[1] front = {{0}}, float small = {{0.01}}
        > {{ {body} }}"""
    )


FORMS: dict[str, tuple[str, str]] = {
    "scale and shift of all": ("a = Mul (x, s) y = Add (half, a)", "Rescaling"),
    "shifts twice": ("a = Mul (x, s) b = Add (a, half) y = Add (b, s)", "Rescaling Rescaling"),
    "product by column of a product": (
        "a = MatMul (x, w) y = Mul (a, c)",
        "Dense BatchNormalization",
    ),
    "sum by column with a product": ("a = MatMul (x, w) y = Add (c, a)", "Dense"),
    "quotient": ("y = Div (x, s)", "Rescaling"),
    "difference": ("y = Sub (s, x)", "Rescaling"),
    "by column": ("a = Sub (x, c) b = Div (a, row) y = Mul (b, s)", "BatchNormalization"),
    "negative by column": ("y = Sub (row, x)", "BatchNormalization"),
    "softplus with a threshold": (
        "a = Mul (x, s) b = Softplus (a) d = Div (b, s) t = Greater (a, beyond) "
        "y = Where (t, x, d)",
        "Rescaling Activation Rescaling",
    ),
    "normal": (
        "m = ReduceMean (x, last) d = Sub (x, m) q = Mul (d, d) v = ReduceMean (q, last) "
        "e = Add (v, small) r = Sqrt (e) i = Reciprocal (r) n = Mul (i, d) y = Mul (n, c)",
        "LayerNormalization",
    ),
    "constants computed": (
        "a = Neg (c) b = Unsqueeze (a, last) d = Squeeze (b, last) y = Add (x, d)",
        "BatchNormalization",
    ),
    "branch of a branch": (
        "a = Tanh (x) b = Sigmoid (a) d = Add (b, a) y = Add (x, d)",
        "Residual",
    ),
    "swish with alpha": ("y = HardSigmoid <alpha = 0.3, beta = 0.4> (x)", "Rescaling Activation"),
    "identity": ("y = Identity (x)", "Activation"),
    "casts to the same type": (
        "a = Cast <to = 1> (x) s1 = Sigmoid (a) s2 = Cast <to = 1> (s1) m = Mul (a, s2) "
        "d = Cast <to = 1> (c) e = Add (m, d) y = Cast <to = 1> (e)",
        "Activation BatchNormalization",
    ),
    "flattened by the shape": (
        "n = Shape (x) b = Gather (n, first) i = Cast <to = 7> (b) u = Unsqueeze (i, front) "
        "s0 = Concat <axis = 0> (u, last) y = Reshape (x, s0)",
        "Flatten",
    ),
    "dead end": ("a = Cos (x) y = Tanh (x)", "Activation"),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_recognised(name: str) -> None:
    body, kinds = FORMS[name]
    proto = graph(body)
    before = proto.SerializeToString(deterministic=True)
    model = from_onnx(proto)
    assert proto.SerializeToString(deterministic=True) == before
    assert " ".join(type(layer).__name__ for layer in model.layers) == kinds
    x = rows((4,)) * 4
    assert_close(model(x), run(proto, x), scale=4)  # up to 16 in between


REFUSED: dict[str, tuple[Any, str]] = {
    "operator": (
        lambda: graph("a = Tanh (x) [deep] y = Cos (a)"),
        r"node 'deep' \(Cos, number 2 of 2\): there is no such layer",
    ),
    "domain": (
        lambda: graph("y = com.microsoft.FastGelu (x)"),
        "com.microsoft.FastGelu",
    ),
    "attribute's value": (lambda: graph("y = LeakyRelu <alpha = -1.0> (x)"), "LeakyRelu.*got -1"),
    "product of branches": (
        lambda: graph("a = Tanh (x) b = Sigmoid (x) y = Mul (a, b)"),
        r"\(Mul, number 3 of 3\): it joins 'a' and 'b': .*only x \+ f\(x\)",
    ),
    "sum of two branches": (lambda: graph("a = Tanh (x) b = Cos (x) y = Add (a, b)"), "joins"),
    "sum with itself": (lambda: graph("y = Add (x, x)"), "joins 'x'"),
    "sum of other shapes": (
        lambda: graph("a = Flatten (x) y = Add (a, x)", "N, 2, 4"),
        "Add, .*no skip connection",
    ),
    "no constant": (
        lambda: graph("a = Tanh (x) y = Gemm (c, a)"),
        "Gemm.*'a' must be a constant|Gemm.*input 'c'",
    ),
    "constant of the batch": (lambda: graph("y = Add (x, rows)", "3, 4"), r"of shape \(3, 4\)"),
    "widths": (lambda: graph("y = Mul (x, c)", "N, 1"), r"beside rows of shape \(1,\)"),
    "quotient by x": (lambda: graph("y = Div (s, x)"), "a number divided by x"),
    "quotient by 0": (lambda: graph("y = Div (x, zero)"), "it divides by 0"),
    "dropout in training": (lambda: graph("y = Dropout (x, half, on)"), "training mode"),
    "vector for a matrix": (
        lambda: graph("y = Gemm (x, c)"),
        r"a matrix of shape \(4,\) cannot take",
    ),
    "swish of 0": (lambda: graph("y = Swish <alpha = 0.0> (x)", opset=24), "Swish.*zero"),
    "wrong axis of a constant": (
        lambda: graph("a = Squeeze (rows, last) y = Add (x, a)"),
        r"Squeeze, number 1 of 2\): .*squeeze",
    ),
    "root of a negative number": (
        lambda: graph("a = Neg (c) b = Sqrt (a) y = Add (x, b)"),
        "beta must be finite",
    ),
    "clip": (lambda: graph("y = Clip (x, zero, s)"), r"got \(0.0, 3.0\)"),
    "two outputs": (lambda: graph("y = Tanh (x) z = Cos (x)", outputs="y z"), "outputs y, z"),
    "output of constants": (lambda: graph("a = Tanh (x) y = Neg (c)"), "'y' does not come from"),
    "second output": (lambda: graph("a, y = Dropout (x, half)"), "'y' does not come from 'x'"),
    "row of unknown shape": (lambda: graph("y = Tanh (x)", "N, M"), r"known shape .*got \(N, M\)"),
    "row that fills the memory": (
        lambda: graph("y = Mul (x, s)", f"N, {1 << 40}"),
        "at most 16777216 numbers",
    ),
    "no rows": (lambda: graph("y = Tanh (x)", "4"), r"must be \(N, ...\)"),
    "constant not computed": (lambda: graph("a = Cos (c) y = Add (x, a)"), "Cos, .*constant"),
    "cast": (lambda: graph("a = Cast <to = 11> (x) y = Tanh (a)"), r"Cast, number 1 of 2\)"),
    "cast of a constant": (lambda: graph("a = Cast <to = 10> (c) y = Add (x, a)"), "a type"),
    "the batch among a row's lengths": (
        lambda: graph(
            "n = Shape (x) b = Gather (n, front) s0 = Concat <axis = 0> (last, b) "
            "y = Reshape (x, s0)"
        ),
        "does not keep the rows apart",
    ),
    "a row's length by the shape": (
        lambda: graph("n = Shape (x) b = Gather (n, last) y = Mul (x, b)"),
        r"Gather, number 2 of 3\)|joins",
    ),
    "reshape to wrong size": (
        lambda: graph("z = Constant <value_ints = [0, 5]> () y = Reshape (x, z)"),
        r"Reshape.*cannot be of shape \(5,\)",
    ),
    "a mean of what is not x": (
        lambda: graph("a, b = Dropout (x, half) m = ReduceMean (b, last) y = Sub (a, m)"),
        "joins",
    ),
    "a mean of the batch": (
        lambda: graph(
            "m = ReduceMean (x, front) d = Sub (x, m) q = Mul (d, d) v = ReduceMean (q, last) "
            "e = Add (v, small) r = Sqrt (e) y = Div (d, r)"
        ),
        "joins 'x' and 'm'",
    ),
    "a mean that drops the axis": (
        lambda: graph("m = ReduceMean <keepdims = 0> (x, last) y = Sub (x, m)"),
        "joins 'x' and 'm'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_counterpart_is_named(name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises(ValueError, match=f"from_onnx: (?s:.*){words}"):
        from_onnx(make())


def test_an_attribute_that_is_not_known_is_refused() -> None:
    """As one that an operator of the future may have: the checker lets none of these through."""
    proto = graph("y = Tanh (x)")
    proto.graph.node[0].attribute.append(onnx.helper.make_attribute("slope", 2.0))
    node = Node(onnx, proto.graph.node[0], "number 1 of 1", {}, None)
    with pytest.raises(ValueError, match=r"\(Tanh, number 1 of 1\): the attribute slope is not"):
        node.refuse_unknown()
    assert node.attribute("slope") == 2.0
    node.refuse_unknown()


def test_an_older_model_is_brought_to_13() -> None:
    proto = graph("y = Softmax <axis = 1> (x)", opset=11)
    x = rows((4,))
    assert_close(from_onnx(proto)(x), run(proto, x))


@pytest.mark.parametrize("wrong", [5, None, b"model", [1]])
def test_a_source_is_a_path_or_a_model(wrong: Any) -> None:
    with pytest.raises(TypeError, match="source must be a path or a ModelProto"):
        from_onnx(wrong)
    with pytest.raises(FileNotFoundError, match=r"no such file: .*nowhere"):
        from_onnx("nowhere.onnx")


# Files that nobody can trust


def test_damaged_files_are_refused_or_read(tmp_path: Path) -> None:
    """Cut at every 7th byte, and with 300 bytes changed: an error of one kind, or a model."""
    path = tmp_path / "net.onnx"
    to_onnx(network("Dense"), path)
    whole, rng = path.read_bytes(), np.random.default_rng(1)
    damaged = [whole[:end] for end in range(0, len(whole), 7)]
    for _ in range(300):
        changed = bytearray(whole)
        changed[rng.integers(len(whole))] = rng.integers(256)
        damaged.append(bytes(changed))
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            from_onnx(path)
        except ValueError as error:
            refused += 1
            assert "from_onnx" in str(error)  # noqa: PT017
    assert refused > len(whole) // 7 - 2


def external(path: Path, location: str, length: int = 16) -> None:
    """A model at `path` whose constant c lies in another file."""
    proto = graph("y = Add (x, c)")
    (tensor,) = [each for each in proto.graph.initializer if each.name == "c"]
    tensor.ClearField("float_data")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": str(length)}.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(proto.SerializeToString())


def test_weights_in_other_files_are_read_in_the_models_folder_alone(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    np.arange(4, dtype=np.float32).tofile(folder / "weights")
    np.arange(4, dtype=np.float32).tofile(tmp_path / "secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    external(folder / "net.onnx", "weights")
    x = rows((4,))
    assert_close(from_onnx(folder / "net.onnx")(x), x + np.arange(4, dtype=np.float32))
    for location in ("../secret", str(tmp_path / "secret"), "link", "missing"):
        external(folder / "net.onnx", location)
        with pytest.raises(ValueError, match=r"net\.onnx cannot be read"):
            from_onnx(folder / "net.onnx")
    external(folder / "net.onnx", "weights", 1 << 40)
    with pytest.raises(ValueError, match=r"net\.onnx cannot be read"):
        from_onnx(folder / "net.onnx")
    external(folder / "net.onnx", "weights")
    with pytest.raises(ValueError, match="give the path of the model"):
        from_onnx(onnx.load_model(folder / "net.onnx", load_external_data=False))


@pytest.mark.parametrize("kind", ["STRING", "INT4", "COMPLEX64"])
def test_a_tensor_of_another_type_is_refused(kind: str) -> None:
    proto = graph("y = Add (x, c)")
    values = [b"a"] if kind == "STRING" else [1]
    tensor = onnx.helper.make_tensor("c", getattr(onnx.TensorProto, kind), [1], values)
    proto.graph.initializer[0].CopyFrom(tensor)
    with pytest.raises(ValueError, match="from_onnx: the tensor 'c' must be numbers, got"):
        from_onnx(proto)


def test_a_tensor_larger_than_its_bytes_is_refused() -> None:
    proto = graph("y = Add (x, c)")
    proto.graph.initializer[0].dims[0] = 1 << 60
    with pytest.raises(ValueError, match=r"from_onnx: .*c"):
        from_onnx(proto)


def test_skip_connections_too_deep_in_each_other_are_refused() -> None:
    def nested(depth: int) -> Any:
        ups = " ".join(f"t{n + 1} = Tanh (t{n})" for n in range(depth))
        downs = " ".join(f"s{n} = Add (t{n}, s{n + 1})" for n in reversed(range(depth)))
        return graph(f"t0 = Tanh (x) {ups} s{depth} = Tanh (t{depth}) {downs} y = Tanh (s0)")

    x = rows((4,))
    assert_close(from_onnx(nested(10))(x), run(nested(10), x), scale=4)  # ten sums
    with pytest.raises(ValueError, match="more than 50 of them"):
        from_onnx(nested(2000))


def test_a_formula_that_doubles_with_every_node_ends() -> None:
    body = " ".join(f"a{n + 1} = Mul (a{n}, a{n})" for n in range(200))
    with pytest.raises(ValueError, match="joins"):
        from_onnx(graph(f"a0 = Tanh (x) {body} y = Add (a200, x)"))
