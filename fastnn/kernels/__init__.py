"""Floors 0 and 1: formulas, oracles and compiled kernels. Importing this package imports no Numba."""
