"""The cluster as it was at any moment: who had an address, which Service a port was, what stood behind it.

Pure, except `read` (files). Built from Kubernetes API objects as `kubectl get -o json` or a watch gives them; keeps no Secrets.
May import `probes.schema` and `probes.addresses`; never the `kubernetes` client (that is `tracer.live`'s), never `analysis`.
"""

from tracer.cluster.owners import Owner
from tracer.cluster.read import read_cluster
from tracer.cluster.routes import Backend, Route
from tracer.cluster.services import EndpointAddress, ServicePort
from tracer.cluster.timeline import Timeline

__all__ = ["Backend", "EndpointAddress", "Owner", "Route", "ServicePort", "Timeline", "read_cluster"]
