"""`hopline snapshot`: the cluster's objects at this moment, for a bundle."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from analysis.commands.options import fail
from analysis.commands.output import printing, refuse_existing, write_whole

Kubeconfig = Annotated[Path | None, typer.Option("--kubeconfig", help="Default: as kubectl finds it, else the pod's service account.")]
Context = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig. Default: its current one.")]
Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Only this namespace (and nodes). Default: all.")]

EXIT_CLUSTER = 3


def snapshot(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write, .json. Default: stdout.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Save what the API server knows right now.

    Nodes, pods, Services, EndpointSlices, Ingresses, ReplicaSets, Deployments. Reads only (get and list), never Secrets. The file is a
    List as of `kubectl get -o json`, with the time it was taken.

    Example: hopline snapshot -o bundle/cluster.json

    Exit codes: 0 saved (kinds that were denied are named on stderr), 2 wrong usage or the file exists, 3 the cluster cannot be reached or
    denies everything, 4 the file cannot be written.
    """
    from tracer.live import ClusterError, connect  # noqa: PLC0415 - imports are slow
    from tracer.live import snapshot as take  # noqa: PLC0415

    refuse_existing(output, force=force)
    try:
        taken = take(connect(kubeconfig, context), warn, namespace=namespace)
    except ClusterError as error:
        fail(str(error), EXIT_CLUSTER)
    if output is None:
        with printing():
            sys.stdout.writelines(taken.text())
        return
    write_whole(output, taken.text(), force=force)
    typer.echo(f"{output}: {len(taken.items)} objects of {len(taken.kinds)} kinds", err=True)


def warn(problem: object) -> None:
    """One line on stderr."""
    typer.echo(f"warning: {problem}", err=True)
