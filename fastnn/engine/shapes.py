"""Sizes from which another way of doing a thing is the faster one."""

UPDATE_BYTES = 400_000
"""Bytes of parameters, gradients and optimizer state from which the update is fused."""
