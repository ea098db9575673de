"""Damaged capture files by the hundred, the same ones every time: cut, overwritten, with lengths that lie; and frames that do so inside."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

from packets import ETHERNET, RAW, SLL2, START_NS, STEP_NS, PcapNg, Record, pcap

LIES = (0, 1, 4, 0x7F, 0xFF, 0x100, 0xFFFF, 0x10000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFC, 0xFFFF_FFFF)


def damaged_files(frames: dict[int, Sequence[bytes]], count: int, seed: int = 1) -> list[bytes]:
    """`count` files made of `frames` (by link type)."""
    dice = random.Random(seed)
    made = [_pcap(dice, frames), _pcapng(dice, frames)]  # two that are sound
    while len(made) < count:
        file = bytearray(dice.choice((_pcap, _pcapng))(dice, frames))
        for _ in range(dice.choice((0, 1, 1, 2, 5))):
            dice.choice((_cut, _overwrite, _lie, _lie, _insert, _remove))(dice, file)
        made.append(bytes(file))
    return made


def _frame(dice: random.Random, frames: Sequence[bytes]) -> bytes:
    """One of `frames`, often damaged: the file around it is sound then."""
    frame = bytearray(dice.choice(frames))
    for _ in range(dice.choice((0, 0, 1, 2, 4))):
        dice.choice((_cut, _overwrite, _overwrite, _lie, _insert))(dice, frame)
    return bytes(frame)


def _pcap(dice: random.Random, frames: dict[int, Sequence[bytes]]) -> bytes:
    link_type = dice.choice(sorted(frames))
    records = [
        Record(_frame(dice, frames[link_type]), START_NS + number * STEP_NS, dice.choice((None, None, 100_000)))
        for number in range(dice.randrange(12))
    ]
    return pcap(records, link_type, big=dice.random() < 0.3, nano=dice.random() < 0.5, snaplen=dice.choice((0, 96, 262_144)))


def _pcapng(dice: random.Random, frames: dict[int, Sequence[bytes]]) -> bytes:
    file = PcapNg()
    for _ in range(dice.choice((1, 1, 2))):
        file.section(big=dice.random() < 0.3, comment=dice.choice((None, "comment")))
        link_types = [dice.choice(sorted(frames)) for _ in range(dice.randrange(1, 4))]
        for number, link_type in enumerate(link_types):
            resolution, snaplen = dice.choice((None, 0, 7, 9, -20, -30)), dice.choice((0, 96))
            file.interface(link_type, dice.choice((None, f"eth{number}")), resolution=resolution, snaplen=snaplen)
        for _ in range(dice.randrange(8)):
            interface = dice.randrange(len(link_types))
            frame = _frame(dice, frames[link_types[interface]])
            direction = dice.choice((None, 1, 2))
            dice.choice(
                (
                    lambda frame, interface, direction: file.packet(frame, interface=interface, direction=direction, comments=("c",)),
                    lambda frame, interface, direction: file.packet(frame, interface=interface, direction=direction),
                    lambda frame, interface, direction: file.old_packet(frame, interface=interface, direction=direction),
                    lambda frame, interface, _direction: file.simple_packet(frame) if interface == 0 else file.block(77, frame),
                    lambda _frame, interface, _direction: file.statistics(interface, dropped=3),
                )
            )(frame, interface, direction)
    return bytes(file)


def _place(dice: random.Random, content: bytearray) -> int:
    return dice.randrange(len(content) + 1)


def _cut(dice: random.Random, content: bytearray) -> None:
    del content[_place(dice, content) :]


def _overwrite(dice: random.Random, content: bytearray) -> None:
    for _ in range(dice.randrange(1, 5)):
        if content:
            content[dice.randrange(len(content))] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))


def _lie(dice: random.Random, content: bytearray) -> None:
    """A number where one may stand, of one to four bytes."""
    size, lie, order = dice.choice("BHI"), dice.choice(LIES), dice.choice("<>")
    number = struct.pack(order + size, lie & (1 << 8 * struct.calcsize(size)) - 1)
    place = _place(dice, content) & ~(len(number) - 1)
    content[place : place + len(number)] = number


def _insert(dice: random.Random, content: bytearray) -> None:
    place = _place(dice, content)
    content[place:place] = dice.choice((bytes(dice.randrange(40)), dice.randbytes(dice.randrange(40)), bytes(content[place : place + 60])))


def _remove(dice: random.Random, content: bytearray) -> None:
    place = _place(dice, content)
    del content[place : place + dice.randrange(40)]


def sample_frames(packets: Sequence[bytes], ethernet_frames: Sequence[bytes], sll2_frames: Sequence[bytes]) -> dict[int, Sequence[bytes]]:
    """Frames by link type, as `damaged_files` wants them."""
    return {RAW: packets, ETHERNET: ethernet_frames, SLL2: sll2_frames}
