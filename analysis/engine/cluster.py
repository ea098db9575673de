"""Reading and stitching on Dask's workers, on this machine or on others that see the same files (docs/scale.md)."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dask
import distributed.utils
from distributed import Client, Future, LocalCluster, as_completed

from analysis.engine import spill
from analysis.engine.ahead import load_ahead
from analysis.engine.errors import ClusterError
from analysis.engine.files import load_sums, stitch_to_files
from analysis.engine.local import Packets
from analysis.engine.parcels import Parcel, forget, pack
from analysis.engine.room import FORKS
from analysis.engine.shares import Share, shares
from analysis.engine.stitch import Stitched
from analysis.engine.work import Work
from analysis.progress import Working
from analysis.sums import Sums, merge
from probes.capture import lanes, let_memory_go
from probes.schema import Problem
from tracer.bundle_files import CaptureFile, unopened
from tracer.partitions import Deal

RETRIES = 3  # of a task whose worker was lost
CONNECT_S = 10


class Cluster:
    """The workers of a Dask scheduler; `working` is told what is done, how much of it, and of how much."""

    def __init__(self, client: Client, working: Working) -> None:
        self._client, self._working = client, working
        self._handed: tuple[Work, Parcel] | None = None
        self.processes = self.readers = sum(client.nthreads().values())

    def scan(self, files: Sequence[CaptureFile]) -> list[spill.Scan | Problem]:
        """Every capture read once; of one that cannot be opened, the problem."""
        cut = shares([_bytes(file) for file in files], self.processes)
        found: list[list[spill.Scan | Problem]] = [[] for _ in files]
        futures = [self._client.submit(_scan, files[share.capture], share, retries=RETRIES, pure=False) for share in cut]
        for number, scan in self._done("reading", futures):
            found[cut[number].capture].append(scan)
        return [_put_together(scans) for scans in found]

    def deal_out(self, files: Sequence[CaptureFile], shares: Sequence[Share], dealt: Deal, folder: Path, *, payloads: bool = False) -> None:
        """The packets of all `shares` of `files` into files of `folder`, and their `payloads` if so."""
        kept = {"dealt": pack(dealt, folder, "dealt"), "folder": folder, "payloads": payloads, "retries": RETRIES, "pure": False}
        futures = [self._client.submit(_deal_out, files[share.capture], share, **kept) for share in shares]
        for _ in self._done("dealing out", futures):
            pass

    def hand_over(self, work: Work, folder: Path) -> Parcel:
        """Put what will be stitched where all workers have it, unless it is there."""
        if self._handed is None or self._handed[0] is not work:
            self._handed = work, pack(work, folder, "work")
        return self._handed[1]

    def stitch(self, work: Work, packets: Packets, parts: Sequence[int], folder: Path) -> Iterator[tuple[int, Stitched]]:
        """Each of `parts` and what came of it, in any order."""
        handed = self.hand_over(work, folder)
        futures = self._client.map(_stitch, parts, work=handed, packets=packets, folder=folder, retries=RETRIES, pure=False)
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


def _scan(file: CaptureFile, share: Share) -> spill.Scan | Problem:
    _read_alone()
    try:
        stream = file.open()
    except OSError as error:
        return unopened(file.path, error)
    with stream:
        return spill.scan(file, stream, share=share)


def _put_together(scans: Sequence[spill.Scan | Problem]) -> spill.Scan | Problem:
    problem = next((each for each in scans if isinstance(each, Problem)), None)
    return problem or spill.put_together([each for each in scans if not isinstance(each, Problem)])


def _deal_out(file: CaptureFile, share: Share, *, dealt: Parcel, folder: Path, payloads: bool) -> None:
    _read_alone()
    with file.open() as stream, ExitStack() as stack:
        spill.deal_out(file, stream, share, dealt.content(), folder, again=stack.enter_context(file.open()) if payloads else None)


def _stitch(part: int, *, work: Parcel, packets: Packets, folder: Path) -> Stitched:
    return stitch_to_files(work.content(), part, packets(part), folder)


def _forget() -> None:
    forget()
    let_memory_go()


def _bytes(file: CaptureFile) -> int:
    """About as many as `file` has."""
    try:
        return max(file.path.stat().st_size, 1)
    except OSError:
        return 1  # whoever opens it will say why


@contextmanager
def cluster(scheduler: str | None, processes: int | None, working: Working) -> Iterator[Cluster]:
    """The workers of the scheduler at an address, or of one made here for so many processes; ClusterError where nobody is there."""
    if scheduler is not None:
        try:
            connected = Client(scheduler, timeout=CONNECT_S)
        except (OSError, ValueError) as error:
            raise ClusterError(f"{scheduler}: {error} (is a Dask scheduler there?)") from None
        with connected as client:
            try:
                yield Cluster(client, working)
            finally:
                client.run(_forget, on_error="ignore")  # others will use these workers
        return
    with workers_here(processes) as here, Client(here, direct_to_workers=True) as client:
        yield Cluster(client, working)
        client.run(logging.disable, on_error="ignore")  # what they miss while all is closed is no news


@contextmanager
def workers_here(processes: int | None) -> Iterator[LocalCluster]:
    """So many workers on this machine, without a dashboard: also beside other runs, each with ports of its own.

    They are forked from one process that has loaded what they need, and have this one's environment as it is now. Dask's profiler, which
    looks at all stacks a hundred times a second, is off.
    """
    load_ahead()
    distributed.utils._forkserver_preload_set = True  # it was just said what; Dask would import pandas here for it
    begun = {"distributed.worker.multiprocessing-method": "forkserver"} if FORKS else {}
    with (
        dask.config.set({"distributed.worker.profile.enabled": False} | begun),
        LocalCluster(
            n_workers=processes, threads_per_worker=1, dashboard_address=None, scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            env=dict(os.environ),
        ) as here,
    ):  # fmt: skip
        yield here
