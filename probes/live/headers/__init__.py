"""Kernel headers for nodes that have none: what bcc includes, and the kernel types that a C file wants, from the kernel's own BTF.

`header_tree(structs)` gives the folders to compile against, kept in a cache; `Btf` reads BTF and `emit` writes C from it, bytes in and text
out. May import nothing of hopline.
"""

from probes.live.headers.btf import Btf, BtfError
from probes.live.headers.cache import HeaderError
from probes.live.headers.emit import Wanted, emit
from probes.live.headers.tree import Headers, header_tree

__all__ = ["Btf", "BtfError", "HeaderError", "Headers", "Wanted", "emit", "header_tree"]
