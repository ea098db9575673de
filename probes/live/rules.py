"""The rules that kube-proxy wrote, as its tools print them: read once, where the kernel has that machinery already.

A tool that asks for a table makes the kernel load the module for it; so only what is loaded is asked for.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

KALLSYMS, PROC_NET = Path("/proc/kallsyms"), Path("/proc/thread-self/net")
TOOL_SECONDS = 60


def _legacy(family: str) -> bool:
    try:
        return bool((PROC_NET / f"{family}_tables_names").read_text().strip())
    except OSError:
        return False


# bundle's name: (whether it is there, given the kernel's symbols; command)
TOOLS: dict[str, tuple[Callable[[frozenset[str]], bool], tuple[str, ...]]] = {
    "nft-ruleset": (lambda symbols: "nft_do_chain" in symbols, ("nft", "list", "ruleset")),
    "iptables-save": (lambda _: _legacy("ip"), ("iptables-legacy-save",)),
    "ip6tables-save": (lambda _: _legacy("ip6"), ("ip6tables-legacy-save",)),
    "ipvsadm-save": (lambda symbols: "ip_vs_conn_in_get" in symbols, ("ipvsadm", "-Sn")),
    "ipset-save": (lambda symbols: "ip_set_test" in symbols, ("ipset", "save")),
}
_NFT_IPTABLES = (("iptables-save", "iptables-nft-save"), ("ip6tables-save", "ip6tables-nft-save"))
_SYMBOLS = frozenset(("nft_do_chain", "ip_vs_conn_in_get", "ip_set_test"))


def _symbols() -> frozenset[str]:
    """Those of _SYMBOLS that the running kernel has, built in or loaded."""
    try:
        with KALLSYMS.open() as lines:
            return frozenset(words[2] for words in map(str.split, lines) if words[2] in _SYMBOLS)
    except OSError:
        return frozenset()


def dumps() -> Iterator[tuple[str, str]]:
    """(bundle's name, text) of every kind of rules that there are, of the network namespace this thread is in."""
    symbols, found = _symbols(), set[str]()
    for name, (there, command) in TOOLS.items():
        if there(symbols) and (text := _run(command)):
            found.add(name)
            yield name, text
    if "nft_do_chain" in symbols:  # iptables' rules may be nf_tables' in disguise
        for name, tool in _NFT_IPTABLES:
            if name not in found and (text := _run((tool,))):
                yield name, text


def _run(command: tuple[str, ...]) -> str:
    """What it prints; nothing where it is not installed, fails or takes too long."""
    if not shutil.which(command[0]):
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""
