"""The cluster's objects for a bundle: a snapshot at each end, and a watch between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from probes.schema import Problem
    from tracer.live import Api
    from tracer.live.collecting import EndpointChanges

Endpoint = tuple[str, int]
_END_SECONDS = 10.0  # for the watch to end


class ClusterLog:
    """Takes the first snapshot when entered, the last when closed. What cannot be had is told to `warn` and left out."""

    START: ClassVar = "cluster-start.json"
    END: ClassVar = "cluster-end.json"
    WATCH: ClassVar = "watch.jsonl"

    def __init__(self, connect: Callable[[], Api], folder: Path, warn: Callable[[Problem], None]) -> None:
        """`connect` gives a new connection: a watch keeps its own to itself."""
        self._connect, self._folder, self._warn = connect, folder, warn
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._changes: EndpointChanges | None = None
        self._open = True
        self.begun = 0.0  # seconds since the epoch

    def __enter__(self) -> Self:
        self._snapshot(self.START)
        self.begun = time.time()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def watch_service(self, service: str, told: Sequence[Endpoint]) -> None:
        """Take note of endpoints that `service` (NAMESPACE/NAME) gets beyond `told`."""
        from tracer.live.collecting import EndpointChanges  # noqa: PLC0415

        namespace, _, name = service.partition("/")
        self._changes = EndpointChanges(namespace, name, told)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def close(self) -> dict[Endpoint, float]:
        """Take the last snapshot. The endpoints that came, and when (seconds since the epoch)."""
        if self._open:
            self._open = False
            self._stop.set()
            if self._thread.ident is not None:
                self._thread.join(_END_SECONDS)
                self._snapshot(self.END)
        return {} if self._changes is None else dict(self._changes.added)

    def _snapshot(self, name: str) -> None:
        from probes.schema import Problem  # noqa: PLC0415
        from tracer.live import ClusterError, snapshot  # noqa: PLC0415

        try:
            taken = snapshot(self._connect(), self._warn)
            with (self._folder / name).open("w", encoding="utf-8") as file:
                file.writelines(taken.text())
        except (ClusterError, OSError) as error:
            self._warn(Problem(name, str(error), "names are missing from the bundle"))

    def _watch(self) -> None:
        from probes.schema import Problem  # noqa: PLC0415
        from tracer.live import ClusterError, watch  # noqa: PLC0415

        try:
            with (self._folder / self.WATCH).open("wb", buffering=0) as file:

                def write(line: bytes) -> None:
                    file.write(line)
                    if self._changes is not None:
                        self._changes.take(line)

                watch(self._connect(), write, self._warn, self._stop)
        except (ClusterError, OSError) as error:
            self._warn(Problem(self.WATCH, str(error), "what changed meanwhile is missing from the bundle"))
