"""What a running kernel tells: eBPF programs, each beside its loader, the conntrack listener, and the files they are written to.

Nothing here changes the node that it watches: socket filters return 0, nothing is attached that could drop, delay or rewrite a packet, no
module is loaded and no sysctl written. Needs bcc (Debian's python3-bpfcc) for eBPF alone; nothing of hopline's offline use imports this
package. May import the rest of `probes`; knows nothing of Kubernetes.
"""
