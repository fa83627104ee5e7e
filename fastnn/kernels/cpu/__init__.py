"""The CPU's kernels. Their modules import Numba; they are imported only to compile an op."""
