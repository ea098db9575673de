"""The sockets probe: process and cgroup of each connection, what its application asked for; and in which order threads use their sockets.

`SocketProbe` and `ThreadProbe` are the probes; `probes.sockets` and `probes.threads` read what they write. `order` attaches before the
programs of others, `cgroups` finds a cgroup's path. Attaches to the root cgroup and changes nothing there: every program returns 1.
"""

from probes.live.sockets.loader import SocketProbe
from probes.live.sockets.threads import ThreadProbe

__all__ = ["SocketProbe", "ThreadProbe"]
