"""fastnn and its peers in training on an NVIDIA GPU, all in float32 products of full precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.peers.base import Peer
from benchmarks.peers.own import FastNN
from benchmarks.peers.pytorch import Torch, TorchCompiled
from benchmarks.peers.scanned import Jax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.grid import Row


class FastNNOnGpu(FastNN):
    """fastnn with ``device="cuda"``."""

    device = "cuda"

    @classmethod
    def installed(cls) -> bool:
        """Whether there is a GPU, or the simulator of one."""
        from fastnn.engine.cuda import device, opening

        return device.simulated() or opening.is_available()


class _OnGpu:
    """What the peers of PyTorch's have in common."""

    device = "cuda"

    @classmethod
    def installed(cls) -> bool:
        """Whether PyTorch finds the GPU."""
        if not Torch.installed():
            return False
        import torch

        return bool(torch.cuda.is_available())

    def set_threads(self) -> None:
        """Products as exact as fastnn's."""
        import torch

        torch.set_float32_matmul_precision("highest")


class TorchOnGpu(_OnGpu, Torch):
    """PyTorch, eager."""


class TorchReduceOverhead(_OnGpu, TorchCompiled):
    """PyTorch, compiled, each step one CUDA graph."""

    name = "torch.compile, graphs"
    mode = "reduce-overhead"


class TorchMaxAutotune(_OnGpu, TorchCompiled):
    """The same, with the kernels of its products tried out."""

    name = "torch.compile, autotuned"
    mode = "max-autotune"


class JaxOnGpu(Jax):
    """JAX: a whole epoch is one compiled `lax.scan`."""

    @classmethod
    def installed(cls) -> bool:
        """Whether JAX finds the GPU."""
        if not super().installed():
            return False
        import jax

        return bool(jax.default_backend() == "gpu")

    def prepare(self, x: NDArray[Any], y: NDArray[Any], row: Row, threads: int) -> None:
        import jax

        jax.config.update("jax_default_matmul_precision", "highest")
        super().prepare(x, y, row, threads)

    def set_threads(self) -> None:
        """Its threads are the GPU's."""


ON_GPU: dict[str, type[Peer]] = {
    peer.name: peer
    for peer in (FastNNOnGpu, TorchOnGpu, TorchReduceOverhead, TorchMaxAutotune, JaxOnGpu)
}
