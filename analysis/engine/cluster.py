"""Reading and stitching on Dask's workers, on this machine or on others that see the same files (docs/scale.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from distributed import Client, Future, LocalCluster, as_completed

from analysis.engine import spill
from analysis.engine.errors import ClusterError
from analysis.engine.files import load_sums, stitch_to_files
from analysis.engine.local import Packets, Working
from analysis.engine.stitch import Stitched
from analysis.engine.work import Work
from analysis.sums import Sums, merge
from probes.capture import lanes
from probes.schema import Problem
from tracer.bundle_files import CaptureFile, unopened
from tracer.partitions import Deal

RETRIES = 3  # of a task whose worker was lost
CONNECT_S = 10

Thing = TypeVar("Thing")


class Cluster:
    """The workers of a Dask scheduler; `working` is told what is done, how much of it, and of how much."""

    def __init__(self, client: Client, working: Working) -> None:
        self._client, self._working = client, working
        self.processes = sum(client.nthreads().values())

    def scan(self, files: Sequence[CaptureFile]) -> list[spill.Scan | Problem]:
        """Every capture read once; of one that cannot be opened, the problem."""
        return [scan for _, scan in sorted(self._done("reading", self._client.map(_scan, files, retries=RETRIES, pure=False)), key=_number)]

    def deal_out(self, files: Sequence[CaptureFile], dealt: Deal, folder: Path, *, payloads: bool = False) -> None:
        """The packets of every capture into files of `folder`, and their `payloads` if so."""
        everywhere = self._client.submit(_same, dealt, pure=False)  # made again where its worker is lost, unlike what is scattered
        numbers = range(len(files))
        futures = self._client.map(_deal_out, files, numbers, dealt=everywhere, folder=folder, payloads=payloads, retries=RETRIES)
        for _ in self._done("dealing out", futures):
            pass

    def stitch(self, work: Work, packets: Packets, parts: Sequence[int], folder: Path) -> Iterator[tuple[int, Stitched]]:
        """Each of `parts` and what came of it, in any order."""
        everywhere = self._client.submit(_same, work, pure=False)
        futures = self._client.map(_stitch, parts, work=everywhere, packets=packets, folder=folder, retries=RETRIES, pure=False)
        for number, stitched in self._done(work.named, futures):
            yield parts[number], stitched

    def sums(self, parts: Sequence[int], folder: Path) -> Sums:
        """The sums of all `parts`, which have been stitched into `folder`: pairs are put together where they are, and pairs of these."""
        layer = self._client.map(load_sums, parts, folder=folder, retries=RETRIES, pure=False)
        while len(layer) > 1:
            pairs = [[*pair] for pair in zip(layer[::2], layer[1::2], strict=False)]
            layer = [*self._client.map(merge, pairs, retries=RETRIES, pure=False), *layer[2 * len(pairs) :]]
        found: Sums = layer[0].result()
        return found

    def _done(self, what: str, futures: list[Future[Any]]) -> Iterator[tuple[int, Any]]:
        """`(number, result)` of `futures`, as they come."""
        numbers = {future.key: number for number, future in enumerate(futures)}
        for done, (future, result) in enumerate(as_completed(futures, with_results=True), 1):
            yield numbers[future.key], result
            self._working(what, done, len(futures))


def _read_alone() -> None:
    """A task has one thread of its worker; other processors have workers of their own."""
    lanes.LANES = 1


def _scan(file: CaptureFile) -> spill.Scan | Problem:
    _read_alone()
    try:
        stream = file.open()
    except OSError as error:
        return unopened(file.path, error)
    with stream:
        return spill.scan(file, stream)


def _deal_out(file: CaptureFile, number: int, *, dealt: Deal, folder: Path, payloads: bool) -> None:
    _read_alone()
    with file.open() as stream, ExitStack() as stack:
        spill.deal_out(file, stream, number, dealt, folder, again=stack.enter_context(file.open()) if payloads else None)


def _stitch(part: int, *, work: Work, packets: Packets, folder: Path) -> Stitched:
    return stitch_to_files(work, part, packets(part), folder)


def _same(what: Thing) -> Thing:
    return what


def _number(numbered: tuple[int, Any]) -> int:
    return numbered[0]


@contextmanager
def cluster(scheduler: str | None, processes: int | None, working: Working) -> Iterator[Cluster]:
    """The workers of the scheduler at an address, or of one made here for so many processes; ClusterError where nobody is there."""
    if scheduler is not None:
        try:
            connected = Client(scheduler, timeout=CONNECT_S)
        except (OSError, ValueError) as error:
            raise ClusterError(f"{scheduler}: {error} (is a Dask scheduler there?)") from None
        with connected as client:
            yield Cluster(client, working)
        return
    with workers_here(processes) as here, Client(here) as client:
        yield Cluster(client, working)


def workers_here(processes: int | None) -> LocalCluster:
    """So many workers on this machine, without a dashboard: also beside other runs, each with ports of its own."""
    return LocalCluster(
        n_workers=processes, threads_per_worker=1, dashboard_address=None, scheduler_kwargs={"dashboard_address": "127.0.0.1:0"}
    )
