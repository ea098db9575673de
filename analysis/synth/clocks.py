"""Clocks of nodes that are not quite right."""

from __future__ import annotations

import numpy as np

from probes.schema import Array

DRIFT_PPM = 20  # clocks that are off drift as well


class Clocks:
    """What each node's clock shows; the first node's is right."""

    def __init__(self, generator: np.random.Generator, nodes: int, skew_ms: float, epoch_ns: int) -> None:
        wrong = np.arange(nodes) > 0 if skew_ms else np.zeros(nodes, bool)
        self._epoch_ns = epoch_ns
        self.offset_ns = np.where(wrong, generator.uniform(-skew_ms, skew_ms, nodes) * 1e6, 0).astype("i8")
        self.drift_ppb = np.where(wrong, generator.uniform(-DRIFT_PPM, DRIFT_PPM, nodes) * 1e3, 0).astype("i8")

    def shown_ns(self, node: int, time_ns: int) -> int:
        """What the clock of `node` shows at a moment."""
        passed = time_ns - self._epoch_ns
        return time_ns + int(self.offset_ns[node]) + passed // 1000 * int(self.drift_ppb[node]) // 1_000_000

    def shown(self, node: int, time_ns: Array) -> Array:
        """The same for many moments (int64 ns)."""
        passed = time_ns - self._epoch_ns
        return np.asarray(time_ns + self.offset_ns[node] + passed // 1000 * self.drift_ppb[node] // 1_000_000)
