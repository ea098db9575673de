"""`hopline collect`: a recording on all nodes of a cluster at once, as one bundle."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from analysis.commands.cluster_log import ClusterLog
from analysis.commands.collect_shown import Show, shown
from analysis.commands.interrupts import Interrupts
from analysis.commands.options import EXIT_PROBLEMS, EXIT_USAGE, fail
from analysis.commands.record import span_seconds
from analysis.commands.snapshot import Context, Kubeconfig

if TYPE_CHECKING:
    from probes.schema import Problem
    from tracer.live import Api
    from tracer.live.collecting import Agent, Outcome

EXIT_PARTIAL = 3
READY_SECONDS = 180.0  # for agents that were just deployed: images are pulled

Endpoint = tuple[str, int]


def collect(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Bundle folder to write: a new one, or an empty one.")],
    duration: Annotated[str, typer.Option("--duration", metavar="TIME", help="60s, 5m, 1h.")] = "60s",
    service: Annotated[
        str | None, typer.Option("--service", metavar="NS/NAME", help="Only packets of that Service, before and after NAT.")
    ] = None,
    node: Annotated[list[str] | None, typer.Option("--node", help="Only on this node. Repeatable. Default: all.")] = None,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Where the agents are.")] = "hopline",
    selector: Annotated[str, typer.Option("--selector", "-l", help="Labels of the agents' pods.")] = "app.kubernetes.io/name=hopline",
    deploy: Annotated[
        bool, typer.Option("--deploy", help="Put agents on the nodes first where there are none, and delete them after.")
    ] = False,
    manifest: Annotated[Path | None, typer.Option("--manifest", help="What --deploy creates. Default: the one that came along.")] = None,
    image: Annotated[str | None, typer.Option("--image", help="Container image of agents that --deploy creates.")] = None,
    probes: Annotated[str | None, typer.Option("--probes", metavar="LIST", help="As of `hopline record`, like all that follow.")] = None,
    net: Annotated[list[str] | None, typer.Option("--net", metavar="CIDR", help="Only packets from or to there. Repeatable.")] = None,
    port: Annotated[
        list[int] | None, typer.Option("--port", min=0, max=65535, help="Only packets from or to that port. Repeatable.")
    ] = None,
    headers_only: Annotated[bool, typer.Option("--headers-only", help="No payload: times and paths, but no requests.")] = False,
    payload_bytes: Annotated[int | None, typer.Option("--payload-bytes", min=0, help="Payload kept of each packet.")] = None,
    sample: Annotated[float | None, typer.Option("--sample", min=0, max=1, help="Share of the connections, the same on all nodes.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Which share.")] = None,
    no_ledger_events: Annotated[bool, typer.Option("--no-ledger-events", help="One conntrack dump at the end instead of events.")] = False,
    max_cpu: Annotated[float | None, typer.Option("--max-cpu", metavar="PERCENT", help="Of one core, on each node.")] = None,
    max_memory: Annotated[str | None, typer.Option("--max-memory", metavar="SIZE", help="On each node: 512M.")] = None,
    max_disk: Annotated[str, typer.Option("--max-disk", metavar="SIZE", help="Of a recording, on each node.")] = "1G",
    start_in: Annotated[str, typer.Option("--start-in", metavar="TIME", help="Time for recorders to get ready, before all begin.")] = "6s",
    patience: Annotated[str, typer.Option("--patience", metavar="TIME", help="How long to try where connections break.")] = "2m",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    log: Annotated[Literal["text", "json"], typer.Option("--log", help="How to tell what happens, on standard error.")] = "text",
) -> None:
    """Record on all nodes of a cluster at once, as one bundle.

    Goes through the API server alone: agents (see docs/collect.md) are started by `exec`, and send what they recorded through it; no
    further port is opened. The cluster's objects are saved at both ends and watched between. Nothing is left on the nodes. Ctrl-C ends the
    recording early and keeps it; a second one fetches nothing more; nodes are cleaned up either way.

    Example: hopline collect --duration 60s --service shop/web -o bundle/

    Then: hopline trace bundle/

    Exit codes: 0 recorded on all nodes, 1 nothing recorded, 2 wrong usage, 3 some nodes are missing or not complete: they are named, the
    others' recordings are kept; 130 left at once by a third Ctrl-C.
    """
    from probes.addresses import endpoint as spelled  # noqa: PLC0415 - imports are slow, --help is not
    from probes.addresses import parse  # noqa: PLC0415
    from tracer.live import ClusterError, connect  # noqa: PLC0415
    from tracer.live.collecting import Plan, find_agents  # noqa: PLC0415
    from tracer.live.collecting import collect as collect_  # noqa: PLC0415

    seconds = span_seconds(duration, "--duration")
    lead_seconds, patience_seconds = span_seconds(start_in, "--start-in"), span_seconds(patience, "--patience")
    if seconds <= 0:
        fail(f"--duration {duration}: nothing can be recorded in no time", EXIT_USAGE)
    if service is not None and [bool(part) for part in service.split("/")] != [True, True]:
        fail(f"--service {service}: not NAMESPACE/NAME", EXIT_USAGE)
    objects = _agent_objects(manifest, image, namespace) if deploy else None
    _make_empty(output)
    missing: list[Problem] = []
    with shown(log) as show, Interrupts(show) as interrupts, contextlib.ExitStack() as stack:
        try:
            api = connect(kubeconfig, context)
            if objects is not None:
                stack.enter_context(_deployed(api, objects, show, interrupts.stop))
            agents = find_agents(api, namespace, selector, node or [], missing.append)
        except ClusterError as error:
            _end(show, str(error))
        for problem in missing:
            show.warn(problem)
        if not agents:
            _end(show, f"no agent runs in the namespace {namespace} (--deploy puts agents there for this recording; see docs/collect.md)")
        cluster = stack.enter_context(ClusterLog(lambda: connect(kubeconfig, context), output, show.warn))
        reach = _reach(output, service, show)
        wanted = {
            "--endpoint": [spelled(*parse(address), number) for address, number in reach], "--probes": probes, "--net": net, "--port": port,
            "--headers-only": headers_only, "--payload-bytes": payload_bytes, "--sample": sample, "--seed": seed,
            "--no-ledger-events": no_ledger_events, "--max-cpu": max_cpu, "--max-memory": max_memory, "--max-disk": max_disk,
        }  # fmt: skip
        options = _options(wanted)
        if service is not None:
            cluster.watch_service(service, reach)
        cluster.start()
        plan = Plan(_name(), output, seconds, options, lead_seconds, patience_seconds)
        show.begin(plan.name, [agent.node for agent in agents], lead_seconds + seconds)
        outcomes = collect_(api, agents, plan, show.node, interrupts.stop, interrupts.abandon)
        added = cluster.close()
        for (address, number), when in added.items():
            show.note("endpoint", endpoint=spelled(*parse(address), number), after_seconds=round(max(when - cluster.begun, 0.0), 1))
        try:
            _write_account(output, plan.name, list(options), outcomes, missing, agents)
        except OSError as error:
            show.note("warning", what=f"{output / 'collection.json'} cannot be written: {error.strerror} (make room)")
        code = _exit_code(outcomes, missing)
        show.end(outcomes, output)
    raise typer.Exit(code)


def _make_empty(folder: Path) -> None:
    """The folder to write to; what is in one already would be mixed with what comes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            fail(f"{folder} is not empty (name a new folder: recordings are not mixed)", EXIT_USAGE)
    except OSError as error:
        fail(f"{folder} cannot be made: {error.strerror} (name another folder)", EXIT_USAGE)


def _name() -> str:
    import secrets  # noqa: PLC0415

    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}"


def _options(wanted: dict[str, Any]) -> tuple[str, ...]:
    """Command-line words of what is given: flags, values and lists of values."""
    words: list[str] = []
    for option, value in wanted.items():
        if value is True:
            words.append(option)
        elif value is not None and value is not False:
            for each in value if isinstance(value, list) else [value]:
                words += [option, str(each)]
    return tuple(words)


def _reach(folder: Path, service: str | None, show: Show) -> list[Endpoint]:
    """The addresses and ports of the Service, as the snapshot has them."""
    if service is None:
        return []
    from tracer.cluster import read_cluster  # noqa: PLC0415
    from tracer.cluster.reach import service_reach  # noqa: PLC0415

    namespace, _, name = service.partition("/")
    timeline, _ = read_cluster([path for path in [folder / ClusterLog.START] if path.exists()])
    found = service_reach(timeline, namespace, name)
    if found is None:
        _end(show, f"--service {service}: the cluster shows no such Service (see `kubectl -n {namespace} get services`)", EXIT_USAGE)
    if not found:
        _end(show, f"--service {service} has neither addresses nor endpoints now (record --net or --port instead)", EXIT_USAGE)
    return found


def _end(show: Show, why: str, code: int = EXIT_PROBLEMS) -> NoReturn:
    show.note("error", what=why)
    raise typer.Exit(code)


def _agent_objects(manifest: Path | None, image: str | None, namespace: str) -> list[dict[str, Any]]:
    """What --deploy creates; in the namespace that agents are looked for in, or it would be in vain."""
    from tracer.live.collecting import agent_objects  # noqa: PLC0415

    packaged, source = Path(__file__).with_name("hopline.yaml"), Path(__file__).parents[2] / "deploy" / "hopline.yaml"
    path = manifest or (packaged if packaged.exists() else source)
    try:
        objects = agent_objects(path.read_text(), image)
    except (OSError, ValueError) as error:
        fail(f"{path}: {error} (give --manifest FILE)", EXIT_USAGE)
    if (theirs := objects[-1]["metadata"]["namespace"]) != namespace:
        fail(f"{path} puts agents in the namespace {theirs} (give --namespace {theirs})", EXIT_USAGE)
    return objects


@contextlib.contextmanager
def _deployed(api: Api, objects: list[dict[str, Any]], show: Show, stop: threading.Event) -> Iterator[None]:
    """Agents while the block runs; those that were there before stay."""
    from tracer.live.collecting import Deployment  # noqa: PLC0415

    deployment = Deployment(api, objects)
    try:
        deployment.create()
        show.note("deploying", namespace=deployment.namespace)
        if not deployment.wait(READY_SECONDS, stop) and not stop.is_set():
            show.note(
                "warning", what=f"not all agents are ready after {READY_SECONDS:g} s (see kubectl -n {deployment.namespace} get pods)"
            )
        yield
    finally:
        for left in deployment.remove():
            show.note("warning", what=f"could not be deleted: {left}")


def _write_account(
    folder: Path, name: str, options: list[str], outcomes: Sequence[Outcome], missing: Sequence[Problem], agents: Sequence[Agent]
) -> None:
    """What became of each node, beside what was recorded there."""
    from dataclasses import asdict  # noqa: PLC0415

    told = {
        "recording": name, "options": options, "nodes": [asdict(outcome) for outcome in outcomes],
        "agents": {agent.node: agent.pod for agent in agents}, "missing": {problem.file: problem.what for problem in missing},
    }  # fmt: skip
    (folder / "collection.json").write_text(json.dumps(told, indent=1) + "\n")


def _exit_code(outcomes: Sequence[Outcome], missing: Sequence[Problem]) -> int:
    if not any(outcome.files for outcome in outcomes):
        return EXIT_PROBLEMS
    nodes_missing = [problem for problem in missing if problem.file != "nodes"]
    return 0 if all(outcome.complete and outcome.clean for outcome in outcomes) and not nodes_missing else EXIT_PARTIAL
