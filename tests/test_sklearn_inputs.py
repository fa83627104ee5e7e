"""What estimators take for rows and labels, as scikit-learn's do."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from sklearn_cases import (
    agreed,
    agreed_error,
    assert_same,
    diabetes,
    digits,
    fitted,
    ours,
    outputs,
    quietly,
)

ROWS = 211
X, Y = digits(ROWS)
QUICK: dict[str, Any] = {"max_iter": 3}


def read_only(array: Any) -> Any:
    array = array.copy()
    array.flags.writeable = False
    return array


FORMS: dict[str, tuple[Any, Any]] = {
    "lists": (X.tolist(), Y.tolist()),
    "integers": ((X * 16).astype(np.int16), Y.astype(np.uint8)),
    "booleans": (X > 0.5, Y > 4),
    "half precision": (X.astype(np.float16), Y),
    "other byte order": (X.astype(">f8"), Y.astype(">i4")),
    "objects": (X.astype(object), Y),
    "Fortran's order": (np.asfortranarray(X), Y),
    "read-only": (read_only(X), read_only(Y)),
    "slices": (np.repeat(X, 2, 0)[::2, ::-1], np.repeat(Y, 3)[::-3]),
    "strings": (X, np.array(["naught", "one", "two", "more"])[np.minimum(Y, 3)]),
    "object labels": (X, np.array(["yes", "no"], object)[Y % 2]),
    "fractions as labels": (X, (Y - 4.0)),
    "negative labels": (X, np.where(Y > 3, 1, -1)),
    "a column": (X, Y[:, None]),
    "sparse indicators": (X, sparse.csr_array((np.eye(10)[Y] + np.eye(10)[0] > 0).astype(int))),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_rows_and_labels(name: str) -> None:
    x, y = FORMS[name]

    def act(estimator: Any) -> list[Any]:
        return [
            np.asarray(p.todense()) if sparse.issparse(p) else p for p in fitted(x, y)(estimator)
        ]

    agreed("classifier", act, **QUICK)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i4", "?", ">f4", ">f8"])
def test_predictions_have_the_type_that_numpy_gives(dtype: str) -> None:
    x, y = diabetes(100)
    given = (3 * x).astype(dtype)

    def act(estimator: Any) -> list[Any]:
        return [estimator.fit(x, y).predict(given), estimator.predict(given[:1])]

    agreed("regressor", act, **QUICK)
    own = quietly(lambda: ours("regressor", **QUICK).fit(x.astype(np.float32), y))
    expected = np.result_type(np.dtype(dtype).newbyteorder("="), np.float32)
    assert own.predict(given).dtype == own.predict(given[:1]).dtype == expected


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_single_precision_is_kept(kind: str, solver: str) -> None:
    x, y = digits(ROWS) if kind == "classifier" else diabetes(ROWS)
    single = quietly(lambda: ours(kind, solver=solver).fit(x.astype(np.float32), y))
    double = quietly(lambda: ours(kind, solver=solver).fit(x, y))
    arrays = [*single.coefs_, *single.intercepts_, *single._best_coefs, outputs(single, x)[-1:]]
    assert {a.dtype for a in arrays[:-1]} == {np.dtype(np.float32)}
    assert single.predict(x.astype(np.float32)).dtype == (
        np.float32 if kind == "regressor" else y.dtype
    )
    # Twenty epochs of single precision: some thousand roundings.
    for a, b in zip(single.coefs_, double.coefs_, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)
    np.testing.assert_allclose(single.loss_curve_, double.loss_curve_, rtol=1e-4)


def test_frames_and_the_names_of_their_columns() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(X, columns=[f"pixel {i}" for i in range(64)])
    labels = pandas.Series(Y)

    def act(estimator: Any) -> list[Any]:
        estimator.fit(frame, labels)
        return [outputs(estimator, frame), outputs(estimator, X)]  # the latter with a warning

    agreed("classifier", act, **QUICK)
    agreed("classifier", lambda e: outputs(e.fit(X, labels), frame), **QUICK)
    turned = frame[frame.columns[::-1]]
    for act_wrongly in (
        lambda e: e.fit(frame, labels).predict(turned),
        lambda e: e.fit(frame, labels).predict(frame.rename(columns={"pixel 3": "pixel 64"})),
        lambda e: e.fit(frame, labels).partial_fit(turned, labels),
    ):
        error = agreed_error("classifier", act_wrongly, **QUICK)
        assert "feature names" in str(error)


WRONG: dict[str, Any] = {
    "other columns": lambda e: e.fit(X, Y).predict(X[:, :3]),
    "no columns": lambda e: e.fit(X[:, :0], Y),
    "one row as a vector": lambda e: e.fit(X, Y).predict_proba(X[0]),
    "three dimensions": lambda e: e.fit(X[None], Y),
    "no rows to predict": lambda e: e.fit(X, Y).predict(X[:0]),
    "no rows to fit": lambda e: e.fit(X[:0], Y[:0]),
    "other lengths": lambda e: e.fit(X, Y[1:]),
    "not a number": lambda e: e.fit(np.where(X > 0.9, np.nan, X), Y),
    "not a number to predict": lambda e: e.fit(X, Y).predict(np.where(X > 0.9, np.nan, X)),
    "infinities to predict": lambda e: e.fit(X, Y).predict(np.where(X > 0.5, np.inf, -np.inf)),
    "one infinity": lambda e: e.fit(X, Y).predict(np.where(X == X.max(), np.inf, X)),
    "text": lambda e: e.fit(np.full((ROWS, 64), "a"), Y),
    "complex numbers": lambda e: e.fit(X * 1j, Y),
    "nothing fitted": lambda e: e.predict(X),
    "numbers for labels": lambda e: e.fit(X, Y + 0.5),
    "labels not given before": lambda e: e.partial_fit(X, Y, classes=[0, 1]),
    "labels never given": lambda e: e.partial_fit(X, Y),
    "other labels later": lambda e: e.partial_fit(X, Y, classes=range(10)).partial_fit(
        X, Y, classes=range(11)
    ),
    "partial_fit and early stopping": lambda e: e.set_params(early_stopping=True).partial_fit(
        X, Y, classes=range(10)
    ),
    "partial_fit and lbfgs": lambda e: e.set_params(solver="lbfgs").partial_fit(X, Y),
    "too few to validate": lambda e: e.set_params(
        early_stopping=True, validation_fraction=0.001
    ).fit(X[:, :5], Y % 2),
    "a class of one row": lambda e: e.set_params(early_stopping=True).fit(X[:40], [0] * 39 + [1]),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_are_scikit_learns_word_for_word(name: str) -> None:
    agreed_error("classifier", WRONG[name], max_iter=1)


def test_other_errors_of_regressors() -> None:
    x, y = diabetes(50)
    for act in (
        lambda e: e.fit(x, np.where(y > 1, np.nan, y)),
        lambda e: e.fit(x, None),
    ):
        agreed_error("regressor", act, max_iter=1)


@pytest.mark.parametrize("act", ["fit", "partial_fit"])
def test_another_number_of_outputs_is_refused_and_nothing_changes(act: str) -> None:
    # scikit-learn ends in a product of matrices that do not fit, or stretches one output to two.
    x, y = diabetes(50)
    two = np.stack([y, -y], axis=1)
    for first, then, said in ((y, two, "2 outputs, .* 1 out"), (two, y, "1 outputs, .* 2 out")):
        own = quietly(lambda first=first: ours("regressor", warm_start=True, **QUICK).fit(x, first))
        before = own.predict(x)
        with pytest.raises(ValueError, match=f"y has {said}"):
            getattr(own, act)(x, then)
        np.testing.assert_array_equal(own.predict(x), before)
        quietly(lambda own=own, first=first: own.partial_fit(x, first))


def test_counts_that_are_negative_are_refused() -> None:
    # scikit-learn trains on them, by a loss that is not a number.
    x, y = diabetes(50)
    own = ours("regressor", loss="poisson")
    for act in (own.fit, own.partial_fit):
        with pytest.raises(ValueError, match="y must not be negative for poisson, got -"):
            act(x, y)
        with pytest.raises(ValueError, match="y must not be negative for poisson, got -"):
            act(x, y**2, validation_data=(x, y))
    assert not hasattr(own, "coefs_")


def test_large_numbers_are_predicted_without_a_warning() -> None:
    large = np.full((3, 64), 1e307)  # their sum is infinite
    agreed("classifier", lambda e: e.fit(X, Y).predict_proba(large), **QUICK)


# Sparse rows.

THIN = np.where(X > 0.6, X, 0.0)
SPARSE = [
    sparse.csr_matrix,
    sparse.csr_array,
    sparse.csc_matrix,
    sparse.csc_array,
    sparse.coo_array,
]


@pytest.mark.parametrize(
    "parameters",
    [{}, {"early_stopping": True}, {"solver": "lbfgs"}, {"shuffle": False, "batch_size": 50}],
    ids=lambda parameters: "-".join(parameters) or "adam",
)
@pytest.mark.parametrize("form", SPARSE)
def test_sparse_rows_give_what_dense_ones_do(form: Any, parameters: dict[str, Any]) -> None:
    thin = form(THIN)
    own = agreed("classifier", fitted(thin, Y), **{**QUICK, **parameters})
    dense = quietly(lambda: ours("classifier", **{**QUICK, **parameters}).fit(THIN, Y))
    for found, expected in zip(outputs(own, thin), outputs(dense, THIN), strict=True):
        assert_same(found, expected, "prediction")
    if "early_stopping" not in parameters and "solver" not in parameters:
        for estimator, rows in ((own, thin), (dense, THIN)):
            estimator.partial_fit(rows, Y)
        assert_same(own.coefs_, dense.coefs_, "coefs_")


def test_sparse_rows_as_scipy_lets_them_be() -> None:
    # Indices out of order, columns twice in a row, wide indices, stored zeros, rows of nothing.
    rows = sparse.csr_array(THIN)
    unsorted = rows.copy()
    for begin, end in zip(rows.indptr, rows.indptr[1:], strict=False):
        unsorted.indices[begin:end] = rows.indices[begin:end][::-1]
        unsorted.data[begin:end] = rows.data[begin:end][::-1]
    unsorted.has_sorted_indices = False
    twice = sparse.csr_array(
        (np.repeat(rows.data / 2, 2), np.repeat(rows.indices, 2), 2 * rows.indptr), THIN.shape
    )
    wide = rows.copy()
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    zeros = rows.copy()
    zeros.data[::3] = 0
    for form in (unsorted, twice, wide, zeros, sparse.csr_array(THIN.shape), rows.astype(int)):
        agreed("classifier", fitted(form, Y), **QUICK)
    agreed_error("classifier", lambda e: e.fit(rows * np.nan, Y))
    agreed_error("classifier", lambda e: e.fit(rows, Y).predict(rows[:, :5]))


def refusing(method: Any, columns: int) -> Any:
    """A method that makes an array dense, but for arrays of so many columns; labels pass."""

    def checked(array: Any, *arguments: Any, **named: Any) -> Any:
        assert array.shape[-1] != columns, "made dense"
        return method(array, *arguments, **named)

    return checked


def test_sparse_rows_are_never_made_dense_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    columns = rng.integers(0, 50_000, 2000 * 50, np.int32)
    rows = sparse.csr_matrix(
        (rng.random(columns.size), columns, np.arange(0, columns.size + 1, 50)), (2000, 50_000)
    )
    y = rng.integers(0, 2, 2000)
    own = ours("classifier", hidden_layer_sizes=(3,), max_iter=1)
    for kind in (sparse.csr_matrix, sparse.csr_array, sparse.csc_matrix, sparse.csc_array):
        for name in ("toarray", "todense"):
            monkeypatch.setattr(kind, name, refusing(getattr(kind, name), rows.shape[1]))
    with pytest.raises(AssertionError, match="made dense"):
        rows.toarray()
    tracemalloc.start()
    try:
        quietly(lambda: own.set_params(early_stopping=True).fit(rows, y))
        quietly(lambda: own.set_params(early_stopping=False).partial_fit(rows.tocsc(), y))
        own.predict_proba(rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50e6  # bytes; all the rows would be 800 million, a batch of them 80
