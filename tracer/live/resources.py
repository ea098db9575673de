"""The kinds that are read, and where the API server has them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object. `optional`: not every cluster serves it, and its absence is no news."""

    kind: str
    api_version: str
    plural: str
    namespaced: bool = True
    optional: bool = False

    def path(self, namespace: str | None = None) -> str:
        """The path of the collection, of one namespace or of all."""
        root = "/api/v1" if self.api_version == "v1" else f"/apis/{self.api_version}"
        within = f"/namespaces/{namespace}" if namespace and self.namespaced else ""
        return f"{root}{within}/{self.plural}"


RESOURCES = (
    Resource("Node", "v1", "nodes", namespaced=False),
    Resource("Service", "v1", "services"),
    Resource("EndpointSlice", "discovery.k8s.io/v1", "endpointslices"),
    Resource("Deployment", "apps/v1", "deployments"),
    Resource("ReplicaSet", "apps/v1", "replicasets"),
    Resource("Ingress", "networking.k8s.io/v1", "ingresses"),
    Resource("IngressClass", "networking.k8s.io/v1", "ingressclasses", namespaced=False),
    Resource("GatewayClass", "gateway.networking.k8s.io/v1", "gatewayclasses", namespaced=False, optional=True),
    Resource("Gateway", "gateway.networking.k8s.io/v1", "gateways", optional=True),
    Resource("HTTPRoute", "gateway.networking.k8s.io/v1", "httproutes", optional=True),
    Resource("GRPCRoute", "gateway.networking.k8s.io/v1", "grpcroutes", optional=True),
    # Last, so that a snapshot's pods are as fresh as its time says: addresses change hands with them.
    Resource("Pod", "v1", "pods"),
)
