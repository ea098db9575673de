"""The timeline: every question that reconstruction asks about names, answered as of a moment."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from probes.addresses import V4_MAPPED, Address
from probes.schema import Array
from tracer.cluster import dns, owners, proxies, services
from tracer.cluster.containers import Containers
from tracer.cluster.fields import Object, address, controller, dicts, strings
from tracer.cluster.history import FOREVER_NS, NEVER_NS, Claim, Histories
from tracer.cluster.lives import How, Life, Roll, Sighting, changes, lives
from tracer.cluster.owners import EXTERNAL, Owner, Pod
from tracer.cluster.routes import Route, asked
from tracer.cluster.routing import KINDS as ROUTING_KINDS
from tracer.cluster.routing import Routing
from tracer.cluster.services import EndpointAddress, ServicePort

MEMO_SIZE = 1 << 16
PROXY_STATES = 64


class Timeline:
    """Names as a function of time. Times are int nanoseconds since the epoch, on the API server's clock.

    Built once from sightings (`read_cluster` makes them from files, `Timeline.of` from objects in memory); what is not known is None.
    """

    def __init__(self, sightings: Iterable[Sighting] = (), rolls: Iterable[Roll] = ()) -> None:
        self._learn(lives(sightings, rolls))

    def __getstate__(self) -> dict[str, object]:
        """What everything else follows from; memos go by where objects are in memory, and stay behind."""
        return {"lives": self._lives, "added": self._added}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._learn(state["lives"])
        self._added.update(state["added"])

    def _learn(self, known: dict[str, Life]) -> None:
        self._lives = known
        by_kind: dict[str, list[Life]] = {}
        for life in self._lives.values():
            by_kind.setdefault(life.kind, []).append(life)
        self._by_kind = by_kind
        pods, nodes, service_lives = (by_kind.get(kind, []) for kind in ("Pod", "Node", "Service"))

        self._pods = {life.key: owners.pod(life) for life in pods}
        self._containers = Containers(pods)
        own = [life for life in pods if not owners.is_host_network(life.last)]
        self._pod_addresses = Histories(claim for life in own for claim in owners.pod_claims(life))
        self._host_ports = Histories((c for life in pods for c in owners.host_ports(life, self._pods[life.key])), exclusive=True)
        self._node_addresses = Histories(owners.node_claims(nodes + pods))
        self._devices = Histories(claim for life in nodes for claim in owners.device_claims(life))
        self._node_uids = {life.name: life.key for life in nodes}
        self._added: dict[Address, str | None] = {}
        self._networks = _networks(nodes)
        self._holder_changes = sorted(self._pod_addresses.moments() | self._node_addresses.moments() | self._devices.moments())
        self._holders = functools.lru_cache(MEMO_SIZE)(self._find_holder)

        self._fronts = Histories(claim for life in service_lives for claim in services.front_claims(life))
        self._node_ports = Histories(claim for life in service_lives for claim in services.node_port_claims(life))
        self._service_addresses = Histories(claim for life in service_lives for claim in services.address_claims(life))
        self._named = Histories(_name_claims(self._lives.values()))
        self._slices: dict[tuple[str, str], list[Life]] = {}
        self._backed: dict[Address, dict[tuple[str, str], None]] = {}
        for life in by_kind.get("EndpointSlice", []):
            self._add_slice(life)
        self._endpoints = functools.lru_cache(MEMO_SIZE)(self._find_endpoints)
        self._ports: dict[int, list[ServicePort]] = {}  # by id of the object
        self._routing = Routing(by_kind)
        self._proxy_changes = changes(life for kind in proxies.KINDS for life in by_kind.get(kind, []))
        self._proxies = functools.lru_cache(PROXY_STATES)(self._find_proxies)
        self._slice_changes = {key: changes(found) for key, found in self._slices.items()}
        self._backing_changes = changes([*service_lives, *by_kind.get("EndpointSlice", [])])
        self._backing = functools.lru_cache(MEMO_SIZE)(self._find_backing)
        self._route_changes = changes(life for kind in (*ROUTING_KINDS, "Service") for life in by_kind.get(kind, []))
        self._routes = functools.lru_cache(MEMO_SIZE)(self._find_route)

    @classmethod
    def of(cls, objects: Iterable[Object]) -> Timeline:
        """A timeline of one dump, of objects each with its kind."""
        return cls(Sighting(How.LISTED, item) for item in objects)

    def _add_slice(self, life: Life) -> None:
        for key in {key for version in life.versions if (key := services.slice_service(version.item))}:
            self._slices.setdefault(key, []).append(life)
            for version in life.versions:
                for endpoint in dicts(version.item, "endpoints"):
                    for text in strings(endpoint, "addresses"):
                        found = address(text)
                        if found is not None:
                            self._backed.setdefault(found, {})[key] = None

    @functools.cached_property
    def declared_ports(self) -> Array:
        """Of each of 65,536 ports, whether any container declares it: of all others an address's `owner` is the same."""
        found = np.zeros(1 << 16, bool)
        found[[port for pod in self._pods.values() for _, port in pod.ports if 0 <= port < len(found)]] = True
        return found

    def state(self, times_ns: Array) -> Array:
        """A number (int64) for each of these times: between equal ones nothing changed of whom an address or port belonged to."""
        found: Array = np.searchsorted(self._changes, times_ns, "right")
        return found

    @functools.cached_property
    def _changes(self) -> Array:
        services = (self._fronts, self._node_ports, self._service_addresses)
        moments = set(self._holder_changes).union(*(each.moments() for each in (self._host_ports, *services)))
        return np.array(sorted(moments.union(moment for moment, _ in self._backing_changes.changes())), "i8")

    @property
    def empty(self) -> bool:
        """Whether nothing is known of the cluster."""
        return not self._lives

    def add_node_address(self, node: str, address: Address) -> None:
        """Tell of an address that `node` has (from its `ip addr`). One that several nodes have is "a node", without a name."""
        known = self._added.get(address, node)
        self._added[address] = node if known == node else None
        self._holders.cache_clear()

    def owner(self, address: Address, time_ns: int, port: int | None = None, protocol: str = "tcp") -> Owner | None:
        """Who `address` was at that time; `port` and `protocol` find the container (and a hostNetwork pod on its node).

        None where it is not known: no metadata, a Service's address, an address of the pods' that none had then. "external" needs a
        dump that has both Nodes and Pods, since without them anything could be a pod.
        """
        holder = self._holders(address, bisect.bisect_right(self._holder_changes, time_ns))
        if isinstance(holder, Pod):
            return holder.asked(protocol, port)
        if port is None or holder is None or holder.node is None:
            return holder
        return self._host_ports.at((holder.node, protocol, port), time_ns) or holder

    def _find_holder(self, address: Address, changes: int) -> Pod | Owner | None:
        """Who had an address after so many of all changes, whatever the port: a pod, else an owner."""
        time_ns = self._holder_changes[changes - 1] if changes else NEVER_NS
        life = self._pod_addresses.at(address, time_ns)
        if life is not None:
            return self._pods[life.key]
        node = self._node_of(address, time_ns)
        if node is not None:
            return Owner("node", node, node=node, uid=self._node_uids.get(node))
        if address in self._added and self._lives and address not in self._service_addresses:
            return Owner("node")
        known = (self._service_addresses, self._pod_addresses, self._node_addresses)
        if any(address in histories for histories in known) or self._in_pod_network(address):
            return None
        return EXTERNAL if "Pod" in self._by_kind and "Node" in self._by_kind else None

    def pod_of_cgroup(self, path: str) -> Owner | None:
        """The pod whose cgroup that is, with the container where it is one's; None for all other cgroups."""
        found = self._containers.find(path)
        return None if found is None else replace(self._pods[found[0]].owner, container=found[1])

    def _node_of(self, address: Address, time_ns: int) -> str | None:
        node = self._node_addresses.at(address, time_ns)
        if node is not None or address in self._service_addresses or not self._lives:
            return node
        # A VIP is no node's, though kube-ipvs0 holds it and `ip addr` shows it.
        return self._added[address] if address in self._added else self._devices.at(address, time_ns)

    def _in_pod_network(self, address: Address) -> bool:
        value = address[0] << 64 | address[1]
        return any(value >> shift in prefixes for shift, prefixes in self._networks.items())

    def is_node_address(self, address: Address, time_ns: int) -> bool:
        """Whether a node had `address` then: its own, a CNI device's, or one added from `ip addr`."""
        if self._node_addresses.at(address, time_ns) is not None or address in self._added:
            return True
        return self._devices.at(address, time_ns) is not None and self._pod_addresses.at(address, time_ns) is None

    def service(self, address: Address, port: int, protocol: str, time_ns: int) -> ServicePort | None:
        """The Service port behind `address:port`: its own addresses first, then nodePorts on any node address.

        None also for a port that the Service at that address does not have.
        """
        found = self._fronts.at((address, protocol, port), time_ns)
        if found is not None:
            return found
        node_port = self._node_ports.at((protocol, port), time_ns)
        if node_port is None or self._service_addresses.at(address, time_ns) is not None:
            # kube-proxy accepts nodePorts on node addresses only; kube-ipvs0 holds VIPs, which `ip addr` shows as the node's.
            real = self._node_addresses.at(address, time_ns) is not None
            return node_port if real else None
        return node_port if self.is_node_address(address, time_ns) else None

    def is_service_address(self, address: Address, time_ns: int) -> bool:
        """Whether `address` was a ClusterIP, load-balancer or external IP of any Service, whatever the port."""
        return self._service_addresses.at(address, time_ns) is not None

    def endpoints(self, namespace: str, name: str, port_name: str | None, protocol: str, time_ns: int) -> tuple[EndpointAddress, ...]:
        """The endpoints of a Service port, of all its EndpointSlices (both families); empty where there are none."""
        changes = self._slice_changes.get((namespace, name))
        if changes is None:
            return ()
        epoch = changes.at(time_ns)
        return self._endpoints(namespace, name, port_name, protocol, NEVER_NS if epoch is None else epoch)

    def _find_endpoints(self, namespace: str, name: str, port_name: str | None, protocol: str, time_ns: int) -> tuple[EndpointAddress, ...]:
        found: dict[EndpointAddress, None] = {}
        for life in self._slices.get((namespace, name), ()):
            item = life.at(time_ns)
            if item is not None and services.slice_service(item) == (namespace, name):
                found.update(dict.fromkeys(services.slice_endpoints(item, port_name, protocol)))
        return tuple(found)

    def services_of_endpoint(self, address: Address, port: int, protocol: str, time_ns: int) -> tuple[ServicePort, ...]:
        """The Service ports that have `address:port` as an endpoint then; `via` is Headless or ClusterIP."""
        moment = self._backing_changes.at(time_ns)
        return self._backing(address, port, protocol, NEVER_NS if moment is None else moment)

    def _find_backing(self, address: Address, port: int, protocol: str, time_ns: int) -> tuple[ServicePort, ...]:
        found = []
        for namespace, name in self._backed.get(address, ()):
            item = self._object("Service", time_ns, namespace, name)
            for service_port in self._ports_of(item) if item is not None else ():
                if service_port.protocol != protocol:
                    continue
                endpoints = self.endpoints(namespace, name, service_port.port_name, protocol, time_ns)
                if any(endpoint.address == address and endpoint.port == port for endpoint in endpoints):
                    found.append(replace(service_port, via="Headless") if service_port.headless else service_port)
        return tuple(found)

    def _ports_of(self, item: Object) -> list[ServicePort]:
        """`service_ports` of an object of this timeline, which stays as it is."""
        if id(item) not in self._ports:
            self._ports[id(item)] = services.service_ports(item)
        return self._ports[id(item)]

    def route(  # noqa: PLR0913 - a request, and what narrows the choice
        self,
        host: str | None,
        path: str,
        time_ns: int,
        *,
        method: str = "GET",
        headers: Mapping[str, str] = MappingProxyType({}),
        tls: bool = False,
        namespace_hint: str | None = None,
        ingress_class: str | None = None,
        controller: str | None = None,
    ) -> Route | None:
        """The Ingress or Gateway API rule that a request at an L7 proxy matched then; None where none is known, or several proxies differ.

        `host` and `path` are as sent: with port and query string if there were any. No `headers` means that they are not known.
        `tls`: the client spoke TLS to the proxy. See `Routing.route` for what narrows the choice.
        """
        moment = self._route_changes.at(time_ns)
        request = (host, path, method, tuple(headers.items()), tls)
        return self._routes(request, NEVER_NS if moment is None else moment, namespace_hint, ingress_class, controller)

    def _find_route(
        self,
        request: tuple[str | None, str, str, tuple[tuple[str, str], ...], bool],
        time_ns: int,
        namespace: str | None,
        ingress_class: str | None,
        controller: str | None,
    ) -> Route | None:
        host, path, method, headers, tls = request
        found = asked(host, path, method, dict(headers), tls=tls)
        if found is None:
            return None
        find = functools.partial(self._object, "Service", time_ns)
        return self._routing.route(found, time_ns, find, namespace=namespace, ingress_class=ingress_class, controller=controller)

    def _object(self, kind: str, time_ns: int, namespace: str, name: str) -> Object | None:
        life = self._named.at((kind, namespace, name), time_ns)
        return None if life is None else life.at(time_ns)

    def ingress_controllers(self, time_ns: int) -> Mapping[tuple[str, str], str]:
        """{(namespace, pod): evidence} of the pods that were L7 proxies then, as far as metadata tells: `labels` or `status`."""
        moment = self._proxy_changes.at(time_ns)
        return self._proxies(NEVER_NS if moment is None else moment)

    def _find_proxies(self, time_ns: int) -> Mapping[tuple[str, str], str]:
        return MappingProxyType(proxies.controllers(functools.partial(self.objects, time_ns=time_ns)))

    def external_names(self, time_ns: int) -> dict[str, tuple[str, str]]:
        """{DNS name: (namespace, name)} of ExternalName Services by what they point at; a target that several have is left out."""
        return dns.external_names(self.objects("Service", time_ns))

    def service_of_dns_name(self, qname: str, time_ns: int, zone: str = "cluster.local") -> tuple[str, str] | None:
        """(namespace, name) of the Service that a full name of the cluster's zone meant then; None for all other names."""
        found = dns.service_labels(qname, zone)
        if found is None or self._object("Service", time_ns, *found[:2]) is None:
            return None
        namespace, name, before = found
        slices = (item for life in self._slices.get((namespace, name), ()) if (item := life.at(time_ns)) is not None)
        return (namespace, name) if dns.has_name(before, slices) else None

    def objects(self, kind: str, time_ns: int | None = None) -> list[Object]:
        """Raw objects of `kind` alive at that time; without a time, the last state of those not known to be gone."""
        of_kind = self._by_kind.get(kind, [])
        if time_ns is None:
            return [life.last for life in of_kind if life.end_ns == FOREVER_NS]
        return [item for life in of_kind if (item := life.at(time_ns)) is not None]

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes that are not known to be gone."""
        return [str(item.get("metadata", {}).get("name")) for item in self.objects("Node")]

    def workload(self, namespace: str, pod: str, time_ns: int) -> tuple[str, str] | None:
        """(kind, name) of what controls a pod in the end: Deployment rather than ReplicaSet, CronJob rather than Job; itself if nothing."""
        chain = self.pod_owner_chain(namespace, pod, time_ns)
        return chain[-1] if chain else None

    def pod_owner_chain(self, namespace: str, pod: str, time_ns: int) -> tuple[tuple[str, str], ...]:
        """(kind, name) of the pod and of each controller above it; empty where the pod is not known."""
        life = self._named.at(("Pod", namespace, pod), time_ns)
        chain: list[tuple[str, str]] = []
        while life is not None and (life.kind, life.name) not in chain:
            chain.append((life.kind, life.name))
            above = controller(life.last)
            if above is None:
                break
            kind, name, uid = above
            life = self._lives.get(uid) if uid else self._named.at((kind, namespace, name), time_ns)
            if life is None:
                chain.append((kind, name))
        return tuple(chain)


def _networks(nodes: Iterable[Life]) -> dict[int, set[int]]:
    """Pod networks as {bits to shift out: prefixes}, so that containment is one set lookup per prefix length in use."""
    found: dict[int, set[int]] = {}
    for life in nodes:
        for version in life.versions:
            for network in owners.pod_networks(version.item):
                value = int(network.network_address)
                if network.version == 4:
                    value |= V4_MAPPED
                shift = network.max_prefixlen - network.prefixlen
                found.setdefault(shift, set()).add(value >> shift)
    return found


def _name_claims(found: Iterable[Life]) -> Iterable[tuple[tuple[str, str, str], Claim[Life]]]:
    for life in found:
        for start, end, _ in life.spans():
            yield (life.kind, life.namespace or "", life.name), Claim.certain(life, start, end)
