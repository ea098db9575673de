"""Packets and kernels: capture files, packet decoding, kernel tables (conntrack, links), and what runs on a live node.

Everything here ends in a table of `probes.schema`. Nothing here knows Kubernetes, imports `tracer` or `analysis`, prints or configures
logging. `bcc` and `numba` have one door each (`probes.compiling` is numba's).
"""
