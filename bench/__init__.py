"""How fast hopline reads and traces, beside tshark and dpkt on the same file in the same run: `python -m bench`, `make bench`.

`inputs` makes the file, `tasks` are what is timed (each in a process of its own, for its peak memory), `__main__` runs rounds and reports.
Not part of the installed package; may import everything, nothing imports it.
"""
