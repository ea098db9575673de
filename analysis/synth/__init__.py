"""A cluster that never was: bundles of any size whose truth is known, for tests and for measuring growth.

`synthesise` writes one. Packets take the ways that kube-proxy's modes were seen to give them (`ways`); what a tool should find is written
beside them, as `truth.jsonl`, and is no part of the bundle. Draws with NumPy and fills in bytes with compiled code, a slice of time after
another. May import `probes.jit` and `probes.schema`; only `analysis.commands` may import from here.
"""

from analysis.synth.options import MODES, PROXIES, Amount, Options
from analysis.synth.run import Written, synthesise

__all__ = ["MODES", "PROXIES", "Amount", "Options", "Written", "synthesise"]
