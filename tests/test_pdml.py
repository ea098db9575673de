"""Layers found in PDML against what an XML parser reads there, for any text that a packet may put into it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.dissect.pdml import Fields, Layer, read_layers

WANTED, PARTS = {"http": "", "http2": "", "dns": r"http\.host|http2\.stream"}, ("http2.stream",)  # of dns, two fields are asked for
# what XML can hold; quotation marks, brackets and what looks like a tag's end are among it
texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), max_size=12)
texts |= st.sampled_from(
    ["a show=", '" show="x', "</proto>", "</packet>", '<field name="num" show="9"/>', "&amp;", "tab\there", "line\nfeed", "/"]
)
names = st.sampled_from(["http.host", "http2.type", "", "_ws.expert", "num"])


@st.composite
def fields(draw: st.DrawFn, *, depth: int = 0, grouped: bool = False) -> str:
    written = []
    for _ in range(draw(st.integers(0, 3))):
        begins = not grouped and draw(st.booleans())  # a part holds no other one
        attributes = [f"name={quoteattr(PARTS[0] if begins else draw(names))}"]
        attributes += [f"{name}={_quoted(draw(texts))}" for name in ("showname", "size", "show", "value") if draw(st.booleans())]
        inside = draw(fields(depth=depth + 1, grouped=grouped or begins)) if depth < 2 else ""
        written.append(f"<field {' '.join(attributes)}>\n{inside}</field>\n" if inside else f"<field {' '.join(attributes)}/>\n")
    return "".join(written)


def _quoted(text: str) -> str:
    """As `print_escaped_xml` has it: white space stays."""
    return quoteattr(text, {'"': "&quot;", "'": "&#x27;"}).replace("&#10;", "\n").replace("&#9;", "\t")


@st.composite
def packets(draw: st.DrawFn, number: int) -> str:
    written = f'<proto name="geninfo" pos="0"><field name="num" pos="0" show="{number}" value="1"/></proto>\n'
    if draw(st.booleans()):
        written += '<proto name="tcp"><field name="tcp.segments" showname="2 Reassembled TCP Segments (9 bytes): #1(4), #2(5)"/></proto>\n'
    for name in draw(st.lists(st.sampled_from([*WANTED, "tcp", "http2x"]), max_size=3)):
        inside = draw(fields())
        written += f'<proto name="{name}" showname={_quoted(draw(texts))}>\n{inside}</proto>\n' if inside else f'<proto name="{name}"/>\n'
    return f"<packet>\n{written}</packet>\n"


def expected(document: str) -> Iterator[tuple[str, int, int, Fields, list[Fields]]]:
    for packet in ET.fromstring(document):
        frame, first = int(next(packet.iter("field")).attrib["show"]), None
        for layer in packet[1:]:
            if layer.attrib["name"] not in WANTED:
                first = 1 if any(each.attrib["name"] == "tcp.segments" for each in layer) else first
                continue
            flat: Fields = {}
            groups: list[Fields] = []
            for each in layer:
                _gather(each, flat, groups, None)
            if asked := WANTED[layer.attrib["name"]]:
                found = [each for each in layer.iter("field") if re.fullmatch(asked, each.attrib["name"])]
                flat, groups = {each.attrib["name"]: [] for each in found}, []
                for each in found:
                    flat[each.attrib["name"]].append(each.attrib.get("show", ""))
            yield layer.attrib["name"], frame, first or frame, flat, groups
            first = None


def _gather(each: ET.Element, flat: Fields, groups: list[Fields], group: Fields | None) -> None:
    name, show = each.attrib["name"], each.attrib.get("show", "")
    if name in PARTS:
        group = {name: [show]}
        groups.append(group)
    elif name and not name.startswith("_ws"):
        (flat if group is None else groups[-1]).setdefault(name, []).append(show)
    for inner in each:
        _gather(inner, flat, groups, group)


def told(layer: Layer) -> tuple[str, int, int, Fields, list[Fields]]:
    return layer.name, layer.frame, layer.first, layer.fields, layer.groups


class _Trickle(io.BytesIO):
    """A pipe that gives little at a time."""

    def read(self, _size: int | None = -1) -> bytes:
        return super().read(7)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_layers_are_what_an_xml_parser_reads(data: st.DataObject) -> None:
    content = "".join(data.draw(packets(number)) for number in range(1, data.draw(st.integers(1, 4)) + 1))
    document = f"<pdml>\n{content}</pdml>\n"
    assert [told(layer) for layer in read_layers(_Trickle(document.encode()), WANTED, PARTS)] == list(expected(document))


def test_bodies_are_digests() -> None:
    field = '<field name="http.file_data" showname="File Data: 3 bytes" size="3" pos="1" show="abc" value="616263"/>'
    document = f'<pdml><packet><proto name="http">{field}</proto></packet></pdml>'
    (layer,) = read_layers(io.BytesIO(document.encode()), WANTED, PARTS)
    assert layer.body == b"abc"
    assert layer.fields["http.file_data"][0].startswith("3:")


@pytest.mark.parametrize("cut", [0, 10, -1, -10])
def test_output_that_breaks_off_is_no_answer(cut: int) -> None:
    whole = b'<pdml>\n<packet>\n<proto name="http"></proto>\n</packet>\n</pdml>'
    with pytest.raises(ValueError, match="no end"):
        list(read_layers(io.BytesIO(whole[:cut]), WANTED, PARTS))


def test_bytes_that_are_no_text_and_control_characters_are_replaced() -> None:
    document = b'<pdml><packet><proto name="http"><field name="http.host" show="a\xff\x01\r\nb"/></proto></packet></pdml>'
    (layer,) = read_layers(io.BytesIO(document), WANTED, PARTS)
    assert layer.fields == {"http.host": ["a\ufffd\ufffd b"]}
