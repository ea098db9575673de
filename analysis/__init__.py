"""Explanation: from the tables of `tracer` to records, DataFrames, tables on a terminal, Parquet and reports.

May import `tracer` and the schemas of `probes`. `analysis.commands` is the command line, the only place that sees everything and prints.
"""
