"""Where the first packet of a connection spends its time in NAT: the hooks' functions, the rules they evaluate, IPVS.

`NatPath` is the probe, for a recorder's loop. What it writes is read by `probes.natpath`.
"""

from probes.live.natpath.loader import CALL, NatPath

__all__ = ["CALL", "NatPath"]
