"""PyTorch as a peer: eager, and compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.grid import make_weights
from benchmarks.peers.base import BETA_1, BETA_2, EPSILON, LEARNING_RATES, Peer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.grid import Row


def wait_for(device: str) -> None:
    """Wait until a GPU has done what was begun."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


class Torch(Peer):
    """PyTorch, eager: fused optimizer, gradients dropped, not zeroed, batches gathered in place."""

    name = "torch"
    module = "torch"
    packages = ("torch",)
    device: ClassVar[str] = "cpu"

    def prepare(self, x: NDArray[Any], y: NDArray[Any], row: Row, threads: int) -> None:
        import torch
        from torch import nn

        torch.manual_seed(0)
        self.x, self.y = (torch.from_numpy(a).to(self.device) for a in (x, y))
        self.row, self.threads = row, threads
        self.set_threads()
        layers: list[Any] = []
        for inputs, outputs in zip(row.sizes[:-1], row.sizes[1:], strict=True):
            layers += [nn.Linear(inputs, outputs, dtype=self.x.dtype), nn.ReLU()]
            if row.dropout:
                layers.append(nn.Dropout(row.dropout))
        self.net = nn.Sequential(*layers[: -2 if row.dropout else -1]).to(self.device)
        self.criterion = nn.MSELoss() if row.loss == "mse" else nn.CrossEntropyLoss()
        rate = LEARNING_RATES[row.optimizer]
        weights = self.net.parameters()
        self.optimizer: Any
        if row.optimizer == "adam":
            self.optimizer = torch.optim.Adam(weights, lr=rate, eps=EPSILON, fused=True)
        else:
            self.optimizer = torch.optim.SGD(weights, lr=rate, fused=True)
        self.batch_x = self.x[: row.batch].clone()
        self.batch_y = self.y[: row.batch].clone()
        self.restart()

    def set_threads(self) -> None:
        import torch

        torch.set_num_threads(self.threads)

    def restart(self) -> None:
        import torch

        dtype = str(self.x.dtype).removeprefix("torch.")
        with torch.no_grad():
            for own, weight in zip(
                self.net.parameters(), make_weights(self.row, dtype), strict=True
            ):
                own.copy_(torch.from_numpy(weight.T))
            for state in self.optimizer.state.values():
                for value in state.values():  # step, mean and mean of squares; none with SGD
                    if value is not None:
                        value.zero_()

    def run(self, steps: int) -> None:
        import torch

        net, criterion, optimizer = self.net, self.criterion, self.optimizer
        x, y, batch_x, batch_y = self.x, self.y, self.batch_x, self.batch_y
        for _ in range(steps // self.row.steps):
            for indices in torch.randperm(len(x), device=self.device).split(self.row.batch):
                torch.index_select(x, 0, indices, out=batch_x)
                torch.index_select(y, 0, indices, out=batch_y)
                optimizer.zero_grad(set_to_none=True)
                criterion(net(batch_x), batch_y).backward()
                optimizer.step()
        wait_for(self.device)

    def loss(self) -> float:
        import torch

        self.net.eval()
        with torch.no_grad():
            loss = float(self.criterion(self.net(self.x), self.y))
        self.net.train()
        return loss


class TorchCompiled(Peer):
    """PyTorch, compiled: gather, forward, gradient and Adam are one graph without breaks.

    The mode "max-autotune-no-cudagraphs" and Inductor's C++ wrapper were tried on T1, T3 and T6:
    no difference beyond the spread, at more time to compile.
    """

    name = "torch.compile"
    module = "torch"
    packages = ("torch",)
    backend = "inductor"
    device: ClassVar[str] = "cpu"
    mode: ClassVar[str] = "default"

    @classmethod
    def installed(cls) -> bool:
        """Whether there are PyTorch and the C++ compiler that Inductor calls."""
        import os
        import shutil

        compilers = (os.environ.get("CXX", ""), "g++", "clang++")
        return super().installed() and any(map(shutil.which, filter(None, compilers)))

    def prepare(self, x: NDArray[Any], y: NDArray[Any], row: Row, threads: int) -> None:
        import torch
        import torch.nn.functional as F

        if row.optimizer != "adam" or row.dropout:
            raise ValueError(f"{self.name}: {row.name} is timed with Adam and no dropout only")
        torch.manual_seed(0)
        self.x, self.y = (torch.from_numpy(a).to(self.device) for a in (x, y))
        self.row, self.threads = row, threads
        self.set_threads()
        rate = LEARNING_RATES["adam"]

        def objective(weights: Any, x: Any, y: Any) -> Any:
            for index in range(0, len(weights) - 2, 2):
                x = torch.relu(F.linear(x, weights[index], weights[index + 1]))
            outputs = F.linear(x, weights[-2], weights[-1])
            return F.mse_loss(outputs, y) if row.loss == "mse" else F.cross_entropy(outputs, y)

        def step(weights: Any, means: Any, squares: Any, t: Any, x: Any, y: Any, rows: Any) -> None:
            gradients = torch.func.grad(objective)(weights, x[rows], y[rows])
            t.add_(1)
            root = (1 - BETA_2**t).sqrt()
            scale = (rate * root / (1 - BETA_1**t)).to(x.dtype)
            epsilon = (EPSILON * root).to(x.dtype)
            for w, g, m, v in zip(weights, gradients, means, squares, strict=True):
                m.mul_(BETA_1).add_((1 - BETA_1) * g)
                v.mul_(BETA_2).add_((1 - BETA_2) * g * g)
                w.sub_(scale * m / (v.sqrt() + epsilon))

        # A row is a program of its own: what earlier rows compiled is not looked through.
        torch.compiler.reset()
        self.objective = objective
        options = {} if self.mode == "default" else {"mode": self.mode}
        self.step = torch.compile(
            step, fullgraph=True, dynamic=False, backend=self.backend, **options
        )
        self.weights = [
            torch.from_numpy(w.T.copy()).to(self.device) for w in make_weights(row, x.dtype.name)
        ]
        self.means = [torch.zeros_like(w) for w in self.weights]
        self.squares = [torch.zeros_like(w) for w in self.weights]
        # One element, not none: PyTorch 2.13 takes a float64 scalar for a constant.
        self.t = torch.zeros(1, dtype=torch.float64, device=self.device)
        if self.device == "cuda":  # else no graph of CUDA's may write them
            for kept in (*self.weights, *self.means, *self.squares, self.t, self.x, self.y):
                torch._dynamo.mark_static_address(kept)

    def set_threads(self) -> None:
        import torch

        torch.set_num_threads(self.threads)  # a change of it compiles again, in `warm_up`

    def restart(self) -> None:
        import torch

        dtype = str(self.x.dtype).removeprefix("torch.")
        for own, weight in zip(self.weights, make_weights(self.row, dtype), strict=True):
            own.copy_(torch.from_numpy(weight.T))
        for slot in (*self.means, *self.squares, self.t):
            slot.zero_()

    def run(self, steps: int) -> None:
        import torch

        step, weights, means, squares = self.step, self.weights, self.means, self.squares
        x, y, t = self.x, self.y, self.t
        with torch.no_grad():
            for _ in range(steps // self.row.steps):
                for rows in torch.randperm(len(x), device=self.device).split(self.row.batch):
                    step(weights, means, squares, t, x, y, rows)
        wait_for(self.device)

    def loss(self) -> float:
        import torch

        with torch.no_grad():
            return float(self.objective(self.weights, self.x, self.y))
