"""kube-proxy's own rules, generated: for N Services the texts that its iptables, nftables and IPVS modes program on a node.

`model` has the nouns (what kube-proxy has resolved of the API's objects); `iptables`, `nftables` and `ipvs` write a node's rules as the
tools that load them read them. Pure: nothing here runs a command. Imports nothing of the rest of `probes`; knows nothing of API objects.
"""
