"""What `hopline bench proxy` found: cells with percentiles, fits of time against position, and what is told of them.

`cells` and `fits` make figures of samples, `told` the JSON document that everything else shows, `words` its rows and lines, `page` the
HTML; `dumps` makes a cluster's own rules something to measure. Nothing here measures.
"""
