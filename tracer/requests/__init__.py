"""Requests: exchanges with their times at both ends, which request each belongs to, and where its time went.

`run` does it all. `streams` says where every sighting's bytes stand, `pieces` which of them are read (`payloads`), `dissection` what they
said; `table` makes requests of exchanges and hops, `moments` adds when a byte passed; `parents` ties a proxy's or an application's calls to
the request that it was serving. `carried` finds a request's packets again.
"""

from tracer.requests.run import RequestTrace, trace_requests, without_requests
from tracer.requests.schema import REQUEST_HOPS, REQUESTS
from tracer.requests.table import Requests, requests

__all__ = ["REQUESTS", "REQUEST_HOPS", "RequestTrace", "Requests", "requests", "trace_requests", "without_requests"]
