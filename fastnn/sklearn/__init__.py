"""scikit-learn's neural networks, trained by fastnn: the same classes, with more to choose from.

    from fastnn.sklearn import MLPClassifier, MLPRegressor

`MLPClassifier` and `MLPRegressor` take the place of scikit-learn's in any script, pipeline, search
or pickle. `patch` puts them there in code that is not to be touched, as does
``python -m fastnn.sklearn script.py``. `from_sklearn` and ``estimator.to_sklearn()`` convert fitted
ones.
"""

from __future__ import annotations

try:
    import sklearn.neural_network as _  # noqa: F401
except ImportError as error:
    raise ImportError('fastnn.sklearn needs scikit-learn: pip install "fastnn[sklearn]"') from error

from fastnn.sklearn.conversion import from_sklearn
from fastnn.sklearn.estimators import MLPClassifier, MLPRegressor
from fastnn.sklearn.patching import patch, unpatch

__all__ = ["MLPClassifier", "MLPRegressor", "from_sklearn", "patch", "unpatch"]
