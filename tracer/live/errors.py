"""What can go wrong between hopline and an API server: a class per way of going on."""

from __future__ import annotations


class ClusterError(Exception):
    """The API server could not be asked, or did not answer the question. `remedy` says what to do about it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.what, self.remedy = what, remedy

    def __str__(self) -> str:
        """`what (remedy)`."""
        return f"{self.what} ({self.remedy})"


class UnreachableError(ClusterError):
    """No answer, or the connection broke: trying again may help."""


class BusyError(ClusterError):
    """The server asks for patience (429) or has trouble of its own (5xx). `after_seconds` is its Retry-After."""

    def __init__(self, what: str, remedy: str, after_seconds: float = 0.0) -> None:
        super().__init__(what, remedy)
        self.after_seconds = after_seconds


class DeniedError(ClusterError):
    """Not allowed (403)."""


class LoginError(DeniedError):
    """No credentials, or none that the server takes (401): nothing will be allowed."""


class NotServedError(ClusterError):
    """The server has no such kind (404)."""


class GoneError(ClusterError):
    """The resourceVersion or continue token is too old (410): list anew (Kubernetes API concepts, "410 Gone responses")."""


class ConflictError(ClusterError):
    """There is an object of this name already (409)."""
