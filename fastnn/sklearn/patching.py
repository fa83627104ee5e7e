"""fastnn's estimators in the place of scikit-learn's, for code that is not to be touched."""

from __future__ import annotations

import sklearn.neural_network
from sklearn.neural_network import _multilayer_perceptron

from fastnn.sklearn.conversion import THEIRS
from fastnn.sklearn.estimators import MLPClassifier, MLPRegressor

_PLACES = (sklearn.neural_network, _multilayer_perceptron)
_OURS: dict[str, type] = {kind.__name__: kind for kind in (MLPClassifier, MLPRegressor)}


def patch() -> None:
    """Let ``sklearn.neural_network`` give fastnn's estimators to whoever imports them from now on.

    What was imported before stays what it was. Calling it again does nothing. While it is in force,
    pickles of scikit-learn's estimators are read as fastnn's, and estimators of scikit-learn cannot
    be pickled.

    Examples
    --------
    >>> import fastnn.sklearn
    >>> fastnn.sklearn.patch()
    >>> from sklearn.neural_network import MLPClassifier
    >>> fastnn.sklearn.unpatch()
    >>> MLPClassifier is fastnn.sklearn.MLPClassifier
    True
    """
    _put(_OURS)


def unpatch() -> None:
    """Undo `patch`."""
    _put(THEIRS)


def _put(classes: dict[str, type]) -> None:
    for place in _PLACES:
        for name, kind in classes.items():
            setattr(place, name, kind)
