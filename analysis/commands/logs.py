"""JSON logs: one object per line on standard error, with its event, level and time."""

from __future__ import annotations

import sys
from collections.abc import Callable


def json_sayer() -> Callable[..., None]:
    """What tells an event, by name, with whatever there is to tell of it."""
    import structlog  # noqa: PLC0415 - only where somebody wants JSON

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    logger = structlog.get_logger()
    told: Callable[..., None] = logger.info
    return told
