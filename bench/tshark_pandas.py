"""The least that tells what `hopline trace --l4-only` tells, with tshark and pandas: `python -m bench.tshark_pandas BUNDLE`.

As somebody writes it who knows both: one tshark per file, side by side, without what is not needed; columns of small types; no row is
looked at by itself. Packets are told by what NAT leaves as it is: IP ID, sequence and acknowledgment numbers, timestamps. Printed, one
connection per line: its addresses before and after NAT, first and last packet, packets, and how long the first one took from each
interface to the next. No names, no translations by node, no state or loss, nothing but TCP over IPv4, nothing where clocks differ.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from bench.others import OFF

FIELDS = {
    "frame.time_epoch": "float64", "sll.ifindex": "uint16", "ip.src": "category", "ip.dst": "category", "tcp.srcport": "uint16",
    "tcp.dstport": "uint16", "ip.id": "category", "tcp.seq": "uint32", "tcp.ack": "uint32", "tcp.flags": "category",
    "tcp.options.timestamp.tsval": "uint32", "tcp.options.timestamp.tsecr": "uint32",
}  # fmt: skip
VXLAN = "udp.port==8472,vxlan"
IDENTITY = ["ip.id", "tcp.seq", "tcp.ack", "tcp.options.timestamp.tsval", "tcp.options.timestamp.tsecr"]
ENDS = ["ip.src", "tcp.srcport", "ip.dst", "tcp.dstport"]
SYN = "0x0002"


def read(path: Path) -> pd.DataFrame:
    """One row per TCP packet of a capture whose header was captured; of one in a tunnel, the inner one's."""
    words = ["tshark", "-n", "-r", str(path), "-Y", "tcp.flags", "-d", VXLAN, "-T", "fields", "-E", "occurrence=l"]
    words += [word for field in FIELDS for word in ("-e", field)] + [word for name in OFF for word in ("-o", f"tcp.{name}:FALSE")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        return pd.read_csv(process.stdout, sep="\t", header=None, names=list(FIELDS), dtype=FIELDS).assign(node=path.stem)


def sightings(bundle: Path) -> pd.DataFrame:
    """All captures' packets in order of time; `packet` numbers what was seen several times, `tuple` and `back` are addresses and ports."""
    paths = sorted(bundle.glob("*.pcap"))
    with ThreadPoolExecutor() as pool:
        seen = pd.concat(pool.map(read, paths), ignore_index=True)
    for name in ("ip.src", "ip.dst", "ip.id", "tcp.flags", "node"):
        seen[name] = seen[name].astype("category")  # files have other categories
    seen = seen.sort_values("frame.time_epoch", kind="stable", ignore_index=True)
    seen["packet"] = seen.groupby(IDENTITY, sort=False, observed=True).ngroup()
    address = pd.Index(seen["ip.src"].cat.categories).union(seen["ip.dst"].cat.categories)
    end = {
        side: address.get_indexer(seen[f"ip.{side}"].cat.categories)[seen[f"ip.{side}"].cat.codes] << 16
        | seen[f"tcp.{side}port"].to_numpy()
        for side in ("src", "dst")
    }
    seen["tuple"], seen["back"] = (end[one] << 32 | end[other] for one, other in (("src", "dst"), ("dst", "src")))
    return seen


def connections(seen: pd.DataFrame) -> pd.DataFrame:
    """One row per connection: tuples before and after NAT, first and last time, packets; `packet` is the first of the client."""
    first = seen.drop_duplicates("packet").set_index("packet")
    last = seen.drop_duplicates("packet", keep="last").set_index("packet")
    asked = pd.Index(seen.loc[seen["tcp.flags"] == SYN, "tuple"].unique())
    forward = first["tuple"].isin(asked)
    packets = pd.DataFrame(
        {
            "original": np.where(forward, first["tuple"], last["back"].reindex(first.index)),
            "translated": np.where(forward, last["tuple"].reindex(first.index), first["back"]),
            "first": first["frame.time_epoch"], "last": last["frame.time_epoch"].reindex(first.index), "forward": forward,
        },
    ).reset_index()  # fmt: skip
    found = packets.groupby(["original", "translated"], sort=False).agg(
        first=("first", "min"), last=("last", "max"), packets=("packet", "size")
    )
    begun = packets[packets["forward"]].drop_duplicates(["original", "translated"]).set_index(["original", "translated"])["packet"]
    return found.join(begun, how="inner").reset_index()


def hops(seen: pd.DataFrame, packets: pd.Series) -> pd.DataFrame:
    """Where each of `packets` was seen, in order, and how long after the place before."""
    there = seen[seen["packet"].isin(packets)].sort_values(["packet", "frame.time_epoch"], kind="stable")
    latency = there.groupby("packet", sort=False)["frame.time_epoch"].diff()
    return there[["packet", "node", "sll.ifindex"]].assign(latency=latency)


def main() -> None:
    """Print connections and hops."""
    seen = sightings(Path(sys.argv[1]))
    found = connections(seen)
    ends = seen.drop_duplicates("tuple").set_index("tuple")[ENDS]
    for name in ("original", "translated"):
        known = ends.reindex(found[name])
        text = known["ip.src"].astype(str) + ":" + known["tcp.srcport"].astype(str) + " > " + known["ip.dst"].astype(str)
        found[name] = (text + ":" + known["tcp.dstport"].astype(str)).to_numpy()
    found.to_csv(sys.stdout, index=False)
    hops(seen, found["packet"]).to_csv(sys.stdout, index=False)


if __name__ == "__main__":
    main()
