"""ONNX's own cases for every operator that is read: each passes, or is refused for a reason told.

They are those of ``onnx.backend.test.case.node``, and the same with the operator written out in
others ("expanded"). An input but the first is made a constant, an output but the first left out.
"""

import importlib
import warnings
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pytest

from fastnn.io import from_onnx
from fastnn.io.onnx_operators import OPERATORS

onnx = pytest.importorskip("onnx", reason="onnx is not installed")

FILES = {"BatchNormalization": "batch_normalization"}
"""Where cases are not in the file that is called as the operator, in small letters."""

REFUSED: dict[str, list[str]] = {
    # A row is a vector at least, and the batch comes before it.
    r"must be \(N, \.\.\.\), rows of a known shape": [
        *("sub_example", "mul_example", "div_example", "dropout_default_old", "clip_example*"),
        *("leakyrelu_example*", "elu_example*", "selu_example*", "sigmoid_example", "exp_example"),
        *("tanh_example", "softplus_example*", "softsign_example*", "hardsigmoid_example*"),
        *("gelu_tanh_1*", "gelu_default_1*", "swish*", "mish*", "matmul_1d_?d"),
        *("clip_inbounds*", "clip_outbounds*", "clip_splitbounds*", "clip_default_inbounds*"),
        "clip_min_greater_than_max*",
    ],
    # Models are of float32 or float64.
    "must be FLOAT or DOUBLE": [
        *("add_*int*", "sub_*int*", "mul_*int*", "div_*int*", "clip_default_int8*"),
        *("celu_float16*", "celu_bfloat16*", "identity_sequence", "identity_opt"),
    ],
    # A row's output depends on the row alone, and is computed for each row in the same way.
    "does not keep the rows apart": [
        *("flatten_axis[023]", "flatten_negative_axis[124]", "reshape_reordered_all_dims"),
        *("reshape_one_dim", "reshape_negative_extended_dims", "reshape_allowzero_reordered"),
    ],
    "mixes the rows": ["gemm_transposeA", "gemm_all_attributes"],
    "goes along the batch": [
        *("layer_normalization_?d_axis0", "layer_normalization_3d_axis0_epsilon"),
        *("layer_normalization_4d_axis_negative_4", "layer_normalization_2d_axis_negative_2"),
        "layer_normalization_3d_axis_negative_3_epsilon",
    ],
    "is not one number, or one a column": ["gemm_default_matrix_bias", "add", "sub", "mul", "div"],
    "are not the same for all rows": ["prelu_example"],
    # There is no such layer: Dense and softmax take vectors, a normalisation has columns last.
    "cannot take rows of shape": ["matmul_3d", "matmul_4d", "matmul_bcast", "matmul_4d_1d"],
    "must be along rows that are vectors": [
        *("*softmax_axis_?", "*softmax_negative_axis", "*softmax_default_axis"),
    ],
    "channels come first": ["batchnorm_example", "batchnorm_epsilon"],
    "ends must be -1 and 1, or 0 and infinity": ["clip_default_max"],
    # A model that predicts is not in training mode.
    "in training mode": [
        *("batchnorm_*_training_mode", "training_dropout_default*"),
        *("training_dropout", "training_dropout_mask"),
    ],
    # Written out in a form that no exporter is known to write.
    "only x . f.x. is known": [
        *("*softmax_axis_?_expanded*", "*softmax_*_axis_expanded*", "clip_expanded"),
        *("prelu_*_expanded", "selu_expanded_ver18", "clip_default_m??_expanded"),
    ],
    "computes a constant, which is not done": ["layer_normalization_*_expanded*"],
}
"""Words of the error, and the cases that end with it."""


def _cases() -> Iterator[Any]:
    """The cases of all operators."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, where a case overflows
        node = importlib.import_module("onnx.backend.test.case.node")
        for operator in OPERATORS:
            importlib.import_module(f"{node.__name__}.{FILES.get(operator, operator.lower())}")
    yield from node._NodeTestCases


CASES = {case.name.removeprefix("test_"): case for case in _cases() if case.model.graph.input}


def with_one_input(case: Any) -> Any:
    """The case's model, whose other inputs are constants, with its first output alone."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph, (inputs, _) = model.graph, case.data_sets[0]
    for value, array in list(zip(graph.input, inputs, strict=True))[1:]:
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), value.name))
    del graph.input[1:], graph.output[1:]
    return model


def words_of(name: str) -> list[str]:
    """What errors the case is listed under."""
    return [
        words
        for words, patterns in REFUSED.items()
        if any(fnmatchcase(name, pattern) for pattern in patterns)
    ]


@pytest.mark.parametrize("name", CASES)
def test_a_case_passes_or_is_refused_for_its_reason(name: str) -> None:
    case, words = CASES[name], words_of(name)
    model = with_one_input(case)
    if words:
        assert len(words) == 1
        with pytest.raises(ValueError, match=words[0]):
            from_onnx(model)
        return
    inputs, outputs = case.data_sets[0]
    y = from_onnx(model)(inputs[0])
    np.testing.assert_allclose(y, outputs[0], rtol=case.rtol, atol=case.atol)


def test_no_reason_stands_without_a_case() -> None:
    for patterns in REFUSED.values():
        for pattern in patterns:
            assert any(fnmatchcase(name, pattern) for name in CASES), pattern
    passing = [name for name in CASES if not words_of(name)]
    of_operators = {CASES[name].model.graph.node[0].op_type for name in passing}
    assert len(passing) >= 88
    assert of_operators >= set(OPERATORS) - {"Swish", "Mish", "BatchNormalization"}
