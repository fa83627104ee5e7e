"""fastnn and its peers in training behind one interface, each in the settings that suit it best.

All start from the same weights and do the same work: each epoch a new random order of the samples,
whole batches gathered by index, forward, loss, backward, update. Frameworks are imported in
`prepare`, never before.
"""

from __future__ import annotations

from benchmarks.peers.base import Peer
from benchmarks.peers.book import NumPy
from benchmarks.peers.own import FastNN, FastNNOneThread
from benchmarks.peers.pytorch import Torch, TorchCompiled
from benchmarks.peers.scanned import Jax
from benchmarks.peers.scikit import Sklearn

__all__ = ["ONE_THREAD", "PEERS", "FastNN", "FastNNOneThread", "Peer"]

PEERS: dict[str, type[Peer]] = {
    peer.name: peer for peer in (FastNN, Torch, TorchCompiled, Jax, Sklearn, NumPy)
}

ONE_THREAD = FastNNOneThread.name
"""fastnn's other entry where all cores are used."""
