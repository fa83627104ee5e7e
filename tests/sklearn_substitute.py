"""A plugin of pytest: scikit-learn's own tests meet fastnn's estimators in the place of theirs."""

from __future__ import annotations

import fastnn.sklearn

fastnn.sklearn.patch()
