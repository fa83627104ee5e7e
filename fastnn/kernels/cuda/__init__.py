"""CUDA kernels: the twins of those in ``kernels/cpu``, written with Numba-CUDA."""
