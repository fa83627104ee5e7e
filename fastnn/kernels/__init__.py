"""Floors 0 and 1: formulas, oracles, compiled kernels. Importing this imports no Numba."""
