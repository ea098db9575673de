"""A bundle whose packets are kept as Parquet: decoded, by time and by part, without their payload (docs/archive.md).

`packets` turns observations into the columns of those files and back, `contents` is what ARCHIVE_FILE says of all of them. Nothing here is
loaded unless a bundle is an archive, or is made one.
"""

from tracer.archive.contents import DEAL_FILE, Archive, Contents, PacketFile, open_archive, save_deal
from tracer.archive.packets import COLUMNS, depths, write_packets

__all__ = ["COLUMNS", "DEAL_FILE", "Archive", "Contents", "PacketFile", "depths", "open_archive", "save_deal", "write_packets"]
