"""The laboratory of `hopline bench proxy`: what a Service's packets cost under each of kube-proxy's modes, without a cluster.

`road` builds namespaces (client, node, server), `rulesets` loads kube-proxy's rules of a mode into the node, `load` opens connections,
`instrument` is the packets probe at the node's two interfaces and `pairing` what it saw, `fronts` which Service that was, `programming`
times the loading of rules, `quiet` keeps others away meanwhile. A `place` is one node with all of that; `rounds` goes from one to the next
and `measure` through the whole `plan`. Nothing outside the namespaces made here is changed. Import from the modules themselves; only
`analysis` and its command line do.
"""
