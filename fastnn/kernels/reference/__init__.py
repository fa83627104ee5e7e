"""NumPy float64 oracles: each op's formula in its plainest form, independent of every kernel.

Every function converts what it is given to float64, changes none of its arguments and returns new
arrays. N is rows of a batch, I inputs, O outputs, C classes or columns; `labels` are N integers
from 0 to C - 1; `weights` are N sample weights, 1 each if None. A loss comes back as
`(loss_rows, gradient)`: N weighted losses, one a row, and the gradient of `sum(loss_rows) / N`.
Metrics aside, NaN in means NaN out: no comparison hides one.
"""

from fastnn.kernels.reference.losses import *  # noqa: F403
from fastnn.kernels.reference.metrics import *  # noqa: F403
from fastnn.kernels.reference.networks import *  # noqa: F403
from fastnn.kernels.reference.normalization import *  # noqa: F403
from fastnn.kernels.reference.optimizers import *  # noqa: F403
from fastnn.kernels.reference.random import *  # noqa: F403
from fastnn.kernels.reference.regularization import *  # noqa: F403
