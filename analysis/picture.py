"""One connection drawn as its line of hops: `hopline show`."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from analysis.records import Record
from analysis.terminal import STYLES, clock, duration, nat, plain, what, who
from analysis.translations import undone

_NAMES = {"nodePort": "nodePort", "port": "port", "containerPort": "containerPort"}


def draw(out: Console, record: Record) -> None:
    """Print the whole story of `record`: ends, ports, every observation point with its tuple, rewrites between them, losses, evidence."""
    out.print(Text.assemble((f"{record['id']}  {record['protocol']}  ", "bold"), (record["status"], STYLES.get(record["status"], "")),
                            f"  {clock(record['start_ns'])}, {duration(record['end_ns'] - record['start_ns'])}"))  # fmt: skip
    _line(out, "client", _end(record["client"]))
    _line(out, "asked for", f"{what(record)}{_address(record['original'], 'dst')}")
    _line(out, "server", _end(record["server"]))
    if _ports(record):
        _line(out, "ports", _ports(record))
    for policy in record["policies"]:
        name = f"{policy['name']} {policy['value']}".strip()
        _line(out, "policy" if policy["held"] else "POLICY", f"{name}: {policy['why']}", "" if policy["held"] else "yellow")
    for path, title in (("request", "the client's first packet"), ("reply", "the server's first answer")):
        hops = [hop for hop in record["hops"] if hop["path"] == path]
        if hops:
            out.print()
            out.print(Text(title, "bold"))
            _hops(out, record, hops, reply=path == "reply")
    refusal, verdict = record["refusal"], record["verdict"]
    if refusal:
        _line(out, "refused", f"{refusal['kind']} from {refusal['from']}, seen at {refusal['at']}", "red")
    elif record["last_seen_at"]:
        _line(out, "no answer", f"last seen at {record['last_seen_at']}", "red")
    if verdict:
        _line(out, "rules", f"{verdict['node']} ({verdict['mode']}) would {verdict['verdict']} it: {' → '.join(verdict['chains'])}", "red")
    for loss in record["losses"]:
        _line(out, "sent again", _loss(loss, answered=not record["last_seen_at"]), "yellow")
    out.print()
    if record["handshake_ns"] is not None:
        _line(out, "handshake", f"{duration(record['handshake_ns'])}, seen from the first observation point")
    _line(
        out,
        "packets",
        f"{record['packets']['original']} to the server, {record['packets']['reply']} back, {record['retransmissions']} sent again",
    )
    _line(out, "NAT", nat(record))
    _line(out, "evidence", f"{', '.join(record['evidence']) or 'a single observation point'}; confidence {record['confidence']:.3f}")
    for candidate in record["candidates"]:
        _line(out, "candidate", f"{candidate['src']} > {candidate['dst']}")
    for problem in record["problems"]:
        _line(out, "open", problem, "yellow")


def _line(out: Console, label: str, text: str, style: str = "") -> None:
    out.print(Text.assemble((f"{label:<10} ", "dim"), (plain(text), style)), soft_wrap=True)


def _end(end: Record | None) -> str:
    if end is None:
        return "not known"
    about = [f"container {end['container']}"] if end["container"] else []
    if end["kind"] == "pod":
        about.append(f"on {end['node']}")
    elif end["kind"]:
        about.append(end["kind"])
    return f"{who(end)}  {end['address'] if who(end) != end['address'] else ''}  {', '.join(about)}".rstrip()


def _address(tuple_: Record | None, side: str) -> str:
    return f"  {tuple_[side]}" if tuple_ else ""


def _ports(record: Record) -> str:
    ports = record["ports"]
    if ports["port"] is None:
        return ""
    steps = [f"nodePort {ports['node_port']}"] if ports["node_port"] else []
    name = record["service"].get("port_name") if record["service"] else None
    steps.append(f"port {ports['port']}{f' ({name})' if name else ''}")
    steps.append(f"targetPort {ports['target_port']}")
    if ports["container_port"]:
        container = f" of {ports['container']}" if ports["container"] else ""
        steps.append(f"containerPort {ports['container_port']}{container}")
    return " → ".join(steps)


def _hops(out: Console, record: Record, hops: list[Record], *, reply: bool) -> None:
    widths = [max(len(plain(hop[name])) for hop in hops) for name in ("node", "interface")]
    ends = max(len(f"{hop['src']} > {hop['dst']}") for hop in hops)
    before: Record | None = None
    for hop in hops:
        if before is not None:
            _between(out, record, before, hop, reply=reply)
        time = "0" if before is None else _when(hop)
        kind = f"  {_NAMES[hop['port_kind']]}" if hop["port_kind"] else ""
        ends_text = f"{hop['src']} > {hop['dst']}"
        out.print(
            Text.assemble(
                ("  ● ", "cyan"), f"{plain(hop['node']):<{widths[0]}}  {plain(hop['interface']):<{widths[1]}}  {hop['direction']:<3} ",
                (f"{ends_text:<{ends}}", "bold"), (kind, "dim"), f"  {time}", (_tunnel(hop), "magenta"),
                (f"  {plain(hop['file'])} #{hop['frame']}", "dim"),
            ),
            soft_wrap=True,
        )  # fmt: skip
        before = hop


def _when(hop: Record) -> str:
    """Since the first hop; on another node's clock since the hop before, which that clock saw too."""
    if hop["offset_ns"] is not None:
        return f"+{duration(hop['offset_ns'])}"
    return "other clock" if hop["latency_ns"] is None else f"{duration(hop['latency_ns'])} later"


def _tunnel(hop: Record) -> str:
    tunnel = hop["tunnel"]
    return f"  in {tunnel['kind']} {tunnel['id']} {tunnel['src']} > {tunnel['dst']}" if tunnel else ""


def _between(out: Console, record: Record, before: Record, hop: Record, *, reply: bool) -> None:
    """What happened between two hops: a rewrite (named where the record knows it), or the way to another node."""
    if before["node"] != hop["node"]:
        out.print(Text("  ┆ to another node", "cyan"))
        return
    ends = f"{before['src']} > {before['dst']}", f"{hop['src']} > {hop['dst']}"
    if ends[0] == ends[1]:
        return
    here = [step for step in record["translations"] if step["node"] == hop["node"]]
    step = None if reply else next((step for step in here if (step["before"], step["after"]) == ends), None)
    left = undone(here, before, hop) if reply else []
    if left:
        how = f"{'+'.join(left).upper()} of {hop['node']} undone"
    elif step is not None:
        how = f"{'+'.join(step['kinds']).upper()} on {step['node']} ({', '.join(step['evidence'])})"
    else:
        how = "half-translated copy, as br_netfilter shows on a bridge" if here else "rewritten"
    out.print(Text.assemble(("  ┆ ", "cyan"), (plain(how), "yellow")), soft_wrap=True)
    if step and step["rules"]:
        rules = step["rules"]
        walked = f"{rules['mode']}, {rules['walked']} rules walked: {' → '.join(rules['chains'])}"
        out.print(Text.assemble(("  ┆ ", "cyan"), (plain(walked), "dim")), soft_wrap=True)


def _loss(loss: Record, *, answered: bool) -> str:
    way = "answer" if loss["path"] == "reply" else "request"
    if loss["first_missed_at"]:
        missed = f"first missed at {loss['first_missed_at']}"
    else:
        missed = "seen everywhere: its acknowledgment was late or lost" if answered else "and never answered"
    return f"{way} seq {loss['seq']} after {duration(loss['sent_again_after_ns'])}; last seen at {loss['last_seen_at'] or '?'}, {missed}"
