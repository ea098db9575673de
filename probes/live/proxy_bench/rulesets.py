"""kube-proxy's modes as commands: what loads the rules of some Services into a node, what takes them away, what changes one Service.

A mode is a row of MODES. Its commands are those that kube-proxy itself runs (IPVS: those that do the same); a change is as small as it is
there: iptables-restore gets the chain of all Services and the chains that changed, nft and ipvsadm only what changed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from probes.live.kube_proxy.iptables import restore
from probes.live.kube_proxy.ipvs import DUMMY_INTERFACE, ipvs
from probes.live.kube_proxy.model import NodeView, ServicePort
from probes.live.kube_proxy.nftables import ruleset
from probes.live.proxy_bench.road import Road, RoadError

# Chains of one Service or endpoint; the others are written at every change (pkg/proxy/iptables/proxier.go, syncProxyRules).
_OF_ONE_SERVICE = re.compile(r"KUBE-(?:SVC|SVL|EXT|FW|SEP)-")
# Only what is loaded: a table that is named comes into being, and every packet then passes its hooks.
_EMPTY_TABLES = "".join(f"*{table}\nCOMMIT\n" for table in ("filter", "nat"))
_NO_TABLE = "add table ip kube-proxy\ndelete table ip kube-proxy\n"


@dataclass(frozen=True, slots=True)
class Step:
    """One command and its standard input."""

    words: tuple[str, ...]
    stdin: str = ""


Steps = tuple[Step, ...]
Texts = dict[str, str]  # a node's rules by the kind of dump that holds them: iptables-save, nft-ruleset, ipvsadm-save, ipset-save


@dataclass(frozen=True, slots=True)
class Mode:
    """How kube-proxy's rules of one kind come into a kernel and leave it.

    `dump` is the kind of dump without which there are no rules of this mode; `needs` are the tools.
    """

    name: str
    needs: tuple[str, ...]
    dump: str
    texts: Callable[[NodeView, Sequence[ServicePort]], Texts]
    load: Callable[[Texts], Steps]
    unload: Steps
    change: Callable[[Texts, Texts], Steps]


def _iptables_texts(node: NodeView, services: Sequence[ServicePort]) -> Texts:
    return {"iptables-save": restore(node, services)}


def _nftables_texts(node: NodeView, services: Sequence[ServicePort]) -> Texts:
    return {"nft-ruleset": ruleset(node, services)}


def _ipvs_texts(node: NodeView, services: Sequence[ServicePort]) -> Texts:
    state = ipvs(node, services)
    return {"ipset-save": state.ipsets, "iptables-save": state.iptables, "ipvsadm-save": state.servers}


def _ipvs_load(texts: Texts) -> Steps:
    fronts = re.findall(r"^-A \S+ (\S+):\d+", texts["ipvsadm-save"], re.MULTILINE)
    addresses = [f"addr add {address}/32 dev {DUMMY_INTERFACE}" for address in dict.fromkeys(fronts)]
    return (
        Step(("ipvsadm", "-C")),
        Step(("sysctl", "-qw", "net.ipv4.vs.conntrack=1")),
        Step(("ipset", "restore"), texts.get("ipset-save", "")),
        Step(("ip", "-batch", "-"), "\n".join([f"link add {DUMMY_INTERFACE} type dummy", *addresses, ""])),
        *((Step(("iptables-nft-restore",), texts["iptables-save"]),) if "iptables-save" in texts else ()),
        Step(("ipvsadm", "-R"), texts["ipvsadm-save"]),
    )


def chains(text: str) -> dict[str, dict[str, list[str]]]:
    """The rules of an iptables-save by table and chain."""
    found: dict[str, dict[str, list[str]]] = {}
    table: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("*"):
            table = found.setdefault(line[1:], {})
        elif line.startswith(":"):
            table.setdefault(line[1:].split(" ")[0], [])
        elif line.startswith("-A "):
            table.setdefault(line.split(" ")[1], []).append(line)
    return found


def iptables_change(before: str, after: str) -> str:
    """What iptables-restore --noflush has to be told: every common chain of kube-proxy's whole, and of the others those that differ."""
    old, lines = chains(before), []
    for table, new in chains(after).items():
        was = old.get(table, {})
        kept = [name for name in new if name.startswith("KUBE-")]
        written = [name for name in kept if not _OF_ONE_SERVICE.match(name) or was.get(name) != new[name]]
        gone = [name for name in was if name not in new]
        lines += [f"*{table}", *(f":{name} - [0:0]" for name in (*written, *gone))]
        lines += [rule for name in written for rule in new[name]]
        lines += [*(f"-X {name}" for name in gone), "COMMIT"]
    return "\n".join([*lines, ""])


def nftables_change(before: str, after: str) -> str:
    """What `nft -f` has to be told: the chains that differ, whole. Elements of maps are not compared: a Service's stay as they are."""
    old, new = _nft_chains(before), _nft_chains(after)
    lines = [f"add chain ip kube-proxy {name}" for name in new if name not in old]
    for name in (name for name in new if old.get(name) != new[name]):
        lines += [f"flush chain ip kube-proxy {name}", *(f"add rule ip kube-proxy {name} {rule}" for rule in new[name])]
    lines += [f"delete chain ip kube-proxy {name}" for name in old if name not in new]
    return "\n".join([*lines, ""])


def _nft_chains(text: str) -> dict[str, list[str]]:
    found = re.findall(r"^\tchain (\S+) \{\n(.*?)^\t\}", text, re.MULTILINE | re.DOTALL)
    return {name: [line.strip() for line in body.splitlines()] for name, body in found}


def ipvs_change(before: str, after: str) -> str:
    """What `ipvsadm -R` has to be told: real servers that came, then those that went."""
    old, new = dict.fromkeys(before.splitlines()), dict.fromkeys(after.splitlines())
    lines = [line for line in new if line not in old]
    lines += [re.sub(r"^-a (\S+ \S+ -r \S+).*", r"-d \1", line) for line in old if line not in new and line.startswith("-a ")]
    return "\n".join([*lines, ""])


def _iptables(name: str) -> Mode:
    tool = f"{name}-restore"
    return Mode(
        name, (tool,), "iptables-save", _iptables_texts,
        lambda texts: (Step((tool,), texts["iptables-save"]),),
        (Step((tool,), _EMPTY_TABLES),),
        lambda before, after: (Step((tool, "--noflush"), iptables_change(before["iptables-save"], after["iptables-save"])),),
    )  # fmt: skip


MODES = {
    mode.name: mode
    for mode in (
        _iptables("iptables-legacy"),
        _iptables("iptables-nft"),
        Mode(
            "nftables", ("nft",), "nft-ruleset", _nftables_texts,
            lambda texts: (Step(("nft", "-f", "-"), texts["nft-ruleset"]),),
            (Step(("nft", "-f", "-"), _NO_TABLE),),
            lambda before, after: (Step(("nft", "-f", "-"), nftables_change(before["nft-ruleset"], after["nft-ruleset"])),),
        ),
        Mode(
            "ipvs", ("ipvsadm", "ipset", "iptables-nft-restore"), "ipvsadm-save", _ipvs_texts, _ipvs_load,
            (
                Step(("ipvsadm", "-C")), Step(("iptables-nft-restore",), _EMPTY_TABLES), Step(("ipset", "destroy")),
                Step(("ip", "link", "delete", DUMMY_INTERFACE)),
            ),
            lambda before, after: (Step(("ipvsadm", "-R"), ipvs_change(before["ipvsadm-save"], after["ipvsadm-save"])),),
        ),
    )
}  # fmt: skip


def run(road: Road, steps: Steps) -> None:
    """Run `steps` on the node of a road; RoadError at the first that fails."""
    for step in steps:
        road.run("node", *step.words, stdin=step.stdin)


def why_not(mode: Mode, road: Road, texts: Texts) -> str | None:
    """Why `mode` cannot be used here, None where it can: by loading `texts` and taking them away again, never by a version."""
    absent = [tool for tool in mode.needs if shutil.which(tool) is None]
    if absent:
        return f"{', '.join(absent)} missing (apt install iptables nftables ipvsadm ipset)"
    try:
        run(road, mode.load(texts))
        run(road, mode.unload)
    except RoadError as error:
        return f"its rules cannot be loaded here: {error}"
    return None
