"""Modules that PyTorch lacks, for `to_torch`. It is imported with PyTorch."""

from __future__ import annotations

from typing import Any

import torch


class Residual(torch.nn.Module):  # type: ignore[misc]
    """``x + f(x)``, f being modules one after the other."""

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(*modules)

    def forward(self, x: Any) -> Any:
        """The sum."""
        return x + self.layers(x)


class Rescaling(torch.nn.Module):  # type: ignore[misc]
    """``scale·x + offset``."""

    def __init__(self, scale: float, offset: float) -> None:
        super().__init__()
        self.scale, self.offset = scale, offset

    def forward(self, x: Any) -> Any:
        """The rescaled input."""
        return x * self.scale + self.offset
