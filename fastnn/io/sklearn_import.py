"""Networks of scikit-learn's."""

from __future__ import annotations

from typing import Any

from fastnn.io.chains import Chain
from fastnn.layers import Dense
from fastnn.model import Sequential
from fastnn.optional import needed

ACTIVATIONS = {
    "exp": "exponential",
    "identity": None,
    "logistic": "sigmoid",
    "relu": "relu",
    "softmax": "softmax",
    "tanh": "tanh",
}
"""What scikit-learn calls them, and their names here."""


def from_sklearn(estimator: Any, seed: int | None = None) -> Sequential:
    """The model that a fitted network of scikit-learn's is.

    `predict` of the model of a regressor is the regressor's; of a classifier's it is
    `predict_proba`, in the order of ``estimator.classes_``, but for two classes, of which there is
    one column, the second one's. `fastnn.sklearn` has estimators with scikit-learn's whole
    interface.

    Parameters
    ----------
    estimator : sklearn.neural_network.MLPClassifier or MLPRegressor
        Fitted.
    seed : int, optional
        Of the model: of shuffling and dropout.

    Returns
    -------
    Sequential
        Not compiled; of the estimator's dtype.

    Raises
    ------
    ImportError
        If there is no scikit-learn.
    TypeError
        If it is another estimator.
    sklearn.exceptions.NotFittedError
        If it is not fitted.

    Examples
    --------
    >>> import fastnn
    >>> from sklearn.neural_network import MLPRegressor
    >>> estimator = MLPRegressor(hidden_layer_sizes=[5], solver="lbfgs")
    >>> model = fastnn.io.from_sklearn(estimator.fit([[0.0], [1.0]], [0.0, 1.0]))
    >>> [layer.units for layer in model.layers]
    [5, 1]
    """
    needed("sklearn", "from_sklearn")
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.utils.validation import check_is_fitted

    if not isinstance(estimator, (MLPClassifier, MLPRegressor)):
        raise TypeError(
            f"from_sklearn: estimator must be an MLPClassifier or MLPRegressor, got {estimator!r}"
        )
    check_is_fitted(estimator)
    kernels, biases = estimator.coefs_, estimator.intercepts_
    chain = Chain(kernels[0].shape[:1], kernels[0].dtype.name)
    names = [estimator.activation] * (len(kernels) - 1) + [estimator.out_activation_]
    for name, kernel, bias in zip(names, kernels, biases, strict=True):
        chain.add(Dense(kernel.shape[1], ACTIVATIONS[name]), kernel=kernel, bias=bias)
    return chain.model("from_sklearn", seed)
