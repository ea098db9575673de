"""`hopline doctor`: what this machine lacks for each feature."""


def doctor() -> None:
    """Say what this machine lacks for each feature, and how to get it."""
