"""What a recording says of itself: NODE.recording.json, replaced every few seconds, so that it is there after any end."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

ROOM_BYTES = 1 << 12  # kept from the beginning: also a full disk has room for the last word


class Journal:
    """One JSON object in `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, content: dict[str, Any]) -> None:
        """Replace what is there. Where there is no room for a second file, write over the first."""
        text = json.dumps(content, indent=1).ljust(ROOM_BYTES - 1) + "\n"
        beside = self.path.with_name(f".{self.path.name}.new")
        try:
            beside.write_text(text)
            beside.replace(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self._over(text.encode())

    def _over(self, text: bytes) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            if os.pwrite(descriptor, text, 0) == len(text):
                os.ftruncate(descriptor, len(text))
        finally:
            os.close(descriptor)


def packet_stages(counters: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """The packets' way to the file, over all namespaces: each stage's `seen` is `written + dropped + left_out` (+ what waits in a ring)."""
    probes = [counts for counts in counters.values() if "ring_dropped" in counts]
    total = {name: sum(counts[name] for counts in probes) for name in (probes[0] if probes else ())}
    if not total:
        return {}
    selected = total["seen"] - total["filtered"] - total["sampled_out"]
    dropped = total["ring_dropped"] + total["failed"]
    disk = counters["segments"]
    return {
        "selection": {"seen": total["seen"], "written": selected, "dropped": 0, "left_out": total["seen"] - selected,
                      "filtered": total["filtered"], "sampled_out": total["sampled_out"]},
        "ring": {"seen": selected, "written": total["read"], "dropped": dropped, "left_out": 0,
                 "waiting": selected - dropped - total["read"]},
        "file": {"seen": disk["seen"], "written": disk["written"], "dropped": disk["dropped"], "left_out": 0, "removed": disk["removed"],
                 "bytes": disk["bytes"], "files": disk["files"], "deleted_files": disk["deleted_files"]},
        "all": {"seen": selected, "written": disk["written"], "dropped": dropped + disk["dropped"], "left_out": 0},
    }  # fmt: skip
