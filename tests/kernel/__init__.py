"""hopline against a real kernel: a small cluster of network namespaces, real NAT, real tunnels, real captures.

`lab` builds the namespaces, `services` says what runs in them, `rules` translates that into kube-proxy's rules, `recording` captures,
`traffic` makes connections and keeps what the sockets saw: the truth. `cases` is the table of ways through the cluster.
Needs root and a few tools; without them every test here is skipped with the reason.
"""
