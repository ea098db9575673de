"""What Dask's workers on this machine need, loaded once while a bundle is opened: each of them is forked from the process that has it."""

from __future__ import annotations

import multiprocessing
from multiprocessing import forkserver

from analysis.engine.room import FORKS

NEEDED = ["distributed", "distributed.nanny", "analysis.engine.cluster", "analysis.record_texts", "pyarrow"]


def load_ahead() -> None:
    """Begin to, without waiting for it; once it has begun this does nothing, nor where processes may not be forked."""
    if FORKS:
        multiprocessing.get_context("forkserver").set_forkserver_preload(NEEDED)
        forkserver.ensure_running()
