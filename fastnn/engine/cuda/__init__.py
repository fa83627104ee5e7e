"""The CUDA executor: programs on a GPU, each step one launch of a captured graph."""
