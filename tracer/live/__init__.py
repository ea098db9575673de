"""The API server, read only: one moment of it (`snapshot`) or its changes as they come (`watch`).

The only door to the `kubernetes` client, which is imported by `api.connect` when a connection is wanted and not before (it is slow).
Every request is a GET of a kind in `resources.RESOURCES`; Secrets and ConfigMaps are none of them. What comes out are files that
`tracer.cluster.read_cluster` reads. Only `collecting` asks for more: commands in agents' containers and, where told to, agents themselves.
May import `probes.schema`; nothing else of hopline.
"""

from tracer.live.api import Api, connect
from tracer.live.errors import ClusterError
from tracer.live.recording import Snapshot, snapshot, watch
from tracer.live.resources import RESOURCES, Resource

__all__ = ["RESOURCES", "Api", "ClusterError", "Resource", "Snapshot", "connect", "snapshot", "watch"]
