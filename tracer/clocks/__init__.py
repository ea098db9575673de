"""How far each node's clock was off, and within which limits, told by packets that two nodes saw.

`crossings` finds them, `bounds` says what they let two clocks differ by, `groups` what that means for many, `alignment` is the result.
"""

from tracer.clocks.alignment import Clocks, NodeClock, clocks

__all__ = ["Clocks", "NodeClock", "clocks"]
