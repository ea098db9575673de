"""Connections and requests of bundles of any size: cut into partitions, each stitched together by itself, and put in order again.

`stitch` is the kernel: one partition's packets in, its connections' records out, whoever runs it. `work` says what there is to do, `local`
and `cluster` do it in this machine's processes or on Dask's workers, `spill` keeps packets of bundles larger than memory in files, and
`connections` is what comes out; `requests` ties those of all partitions together. Answers depend on none of that.
"""
