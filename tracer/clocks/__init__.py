"""How far each node's clock was off, and within which limits, told by packets that two nodes saw.

`crossings` finds them, `limits` turns them into limits per pair of nodes, `bounds` says what these let two clocks differ by, `groups` what
that means for many, `alignment` is the result.
"""

from tracer.clocks.alignment import Clocks, NodeClock, clocks, compare

__all__ = ["Clocks", "NodeClock", "clocks", "compare"]
