"""Why packets die: what the kernel frees as dropped, with its reason and the function that did it, and the TCP segments it sends again.

`Drops` is the probe, for a recorder's loop. What it writes is read by `probes.drops`.
"""

from probes.live.drops.loader import EVENT, Drops

__all__ = ["EVENT", "Drops"]
