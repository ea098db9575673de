"""Reconstruction: from observations, ledger and cluster timeline to connections across NAT.

Functions from tables to tables (`tracer.schema`), named by what comes out. No clock, no printing. Only `tracer.bundle` (files) and
`tracer.live` (the API server) do I/O. May import `probes`; never `analysis`.
"""
