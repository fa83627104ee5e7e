"""All that the GPU code waits for a GPU for, in one command: ``python -m benchmarks.gpu``."""
