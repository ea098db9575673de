"""`hopline explain`: the story of a request, line by line, on recorded bundles."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from conftest import SAMPLES, Hopline
from explained import recorder_of
from packets import pcap

from analysis.explain import Explainer, Line
from analysis.requests import RequestRecorder

pytestmark = pytest.mark.skipif(which("tshark") is None, reason="tshark is not installed (make test installs it)")
BUNDLE = SAMPLES / "iptables"
OK, USAGE = 0, 2


def told(hopline: Hopline, *arguments: str | Path) -> dict[str, Any]:
    run = hopline("explain", *arguments, "--json")
    assert run.code == OK, run.err
    found: dict[str, Any] = json.loads(run.out)
    return found


def kinds(lines: list[Line]) -> list[str]:
    return [line.kind for line in lines]


def test_every_story_of_every_sample(sample: Path) -> None:
    """Sightings are exactly the record's hops, in their order; nothing lacks evidence; it ends where the record ends."""
    recorder = recorder_of(sample)
    explainer = Explainer(recorder)
    for request in recorder.order:
        story = explainer.request(request)
        record, lines = story.record, story.lines
        seen = [line.source for line in lines if line.kind in ("request", "response")]
        assert seen == [f"{hop['file']}#{hop['frame']}" for hop in record["hops"]]
        assert [line.took_ns for line in lines if line.kind in ("request", "response")] == [hop["latency_ns"] for hop in record["hops"]]
        assert (lines[-1].kind, lines[-1].text, lines[-1].time_ns) == ("end", record["status"], record["end_ns"])
        assert lines[-1].took_ns == record["latency"]["total_ns"]
        for line in lines:
            assert line.evidence or line.text.startswith("not known"), line
        assert sum(line.kind == "called" for line in lines) == len(recorder.children.get(request, ()))
        assert sum(line.kind == "waited" for line in lines) == len(record["losses"])


def test_every_kind_of_line_is_documented(sample: Path) -> None:
    page = (SAMPLES.parent / "docs" / "explain.md").read_text()
    recorder = recorder_of(sample)
    explainer = Explainer(recorder)
    stories = [*map(explainer.request, recorder.order), *map(explainer.connection, range(len(recorder.trace.named)))]
    assert [kind for kind in sorted({line.kind for story in stories for line in story.lines}) if f"`{kind}`" not in page] == []


def test_every_connection_of_every_sample_has_a_story_with_its_requests(sample: Path) -> None:
    recorder = recorder_of(sample)
    explainer = Explainer(recorder)
    table = recorder.found.requests.table
    for connection in range(len(recorder.trace.named)):
        story = explainer.connection(connection)
        own = [line for line in story.lines if line.kind == "request" and line.text.startswith("r")]
        exchanges = int(((table["connection"] == connection) & (table["exchange"] >= 0)).sum())
        assert len(own) == exchanges
        assert story.lines[-1].kind == "end"
        assert (story.request is None) == (exchanges > 0)


def test_the_lines_of_a_path_keep_its_order_and_children_stand_where_their_time_is() -> None:
    recorder = recorder_of(BUNDLE)
    for request in recorder.order:
        lines = Explainer(recorder).request(request).lines
        times = [line.time_ns for line in lines[:-1] if line.time_ns is not None]
        assert all(later >= earlier for earlier, later in pairwise(times)), [f"{line.kind} {line.time_ns}" for line in lines]


def test_an_ingress_request_tells_nat_its_child_and_why(hopline: Hopline) -> None:
    recorder = recorder_of(BUNDLE)
    ingress = next(r for r in recorder.order if recorder.record(r)["ingress"] and recorder.children.get(r) and r not in recorder.parent)
    story = Explainer(recorder).request(ingress)
    record, lines = story.record, story.lines
    (call,) = [line for line in lines if line.kind == "called"]
    child = recorder.record(recorder.children[ingress][0])
    assert call.text.startswith(f"{child['id']} http {child['operation']} 200 to ")
    assert set(call.evidence) > set(child["parent_evidence"])
    assert f"confidence {child['parent_confidence']:.3f}" in call.evidence
    first, established, *back = (line for line in lines if line.kind == "NAT")
    assert [line.text.split()[0] for line in back] == ["SNAT", "DNAT"]  # seen on the bridge between the two
    assert all(line.text.endswith(" undone") for line in back)
    assert first.text.startswith("first packet: DNAT+SNAT on ")
    assert "KUBE-NODEPORTS" in first.text
    assert "rules walked" not in established.text  # what follows a first packet walks none
    assert established.evidence == tuple(record["translations"][0]["evidence"])
    assert (first.took_ns or 0) > (established.took_ns or 0)


def test_a_query_tells_the_lookup_before_it(hopline: Hopline) -> None:
    recorder = recorder_of(BUNDLE)
    query = next(r for r in recorder.order if r in recorder.found.parents.lookups and recorder.record(r)["protocol"] == "mysql")
    lines = Explainer(recorder).request(query).lines
    lookup = next(line for line in lines if line.kind == "lookup")
    target = recorder.record(query)["original"]["dst"].rpartition(":")[0]
    assert f"NOERROR: {target}" in lookup.text
    assert lookup.evidence[0] == "resolved-address"
    assert kinds(lines)[:4] == ["called by", "lookup", "connect", "NAT"]


def test_a_crossing_without_clocks_says_so_and_small_hops_are_not_separable(sample: Path) -> None:
    recorder = recorder_of(sample)
    for request in recorder.order:
        story = Explainer(recorder).request(request)
        for line, after in pairwise(story.lines):
            if line.kind == "crossing":
                assert ("nothing ties" in line.text) == (after.took_ns is None)
        for line in story.lines:
            if line.separable is not None and line.took_ns is not None and line.uncertainty_ns is not None:
                assert line.separable == (line.took_ns > line.uncertainty_ns), line


def test_a_whole_trace_has_its_requests_below_one_another(hopline: Hopline) -> None:
    recorder = recorder_of(BUNDLE)
    roots = [request for request in recorder.order if request not in recorder.parent]
    deepest = max(roots, key=lambda root: max(story.depth for story in Explainer(recorder).trace(root)))
    trace = f"t{recorder.ids[deepest][1:]}"
    found = told(hopline, BUNDLE, trace, "--no-packets")
    depth = {story["id"]: story["depth"] for story in found["stories"]}
    parents = {story["id"]: story["record"]["parent"] for story in found["stories"]}
    assert max(depth.values()) >= 2
    assert set(depth) == {recorder.ids[r] for r in recorder.order if recorder.record(r)["trace"] == trace}
    for request, parent in parents.items():
        assert depth[request] == (0 if parent is None else depth[parent] + 1)
    run = hopline("explain", BUNDLE, trace, "--no-packets")
    for request, place in depth.items():
        assert f"\n{'    ' * place}{request}  " in f"\n{run.out}"


@pytest.mark.parametrize(
    ("which", "said"),
    [("r99", "no r99: {0} has r1 to r47, c1 to c44 and"), ("c45", "c1 to c44"), ("r0", "r1 to r47"), ("t999", "traces, t1 to t47"),
     ("x1", "no x1"), ("r", "no r:"), ("r٣", "no r٣"), ("r-1", "r1 to r47")],
)  # fmt: skip
def test_an_unknown_id_lists_what_there_is(which: str, said: str, hopline: Hopline) -> None:
    run = hopline("explain", BUNDLE, "--", which)
    assert (run.code, run.out) == (USAGE, "")
    assert said.format(BUNDLE) in run.err


def test_a_trace_is_named_by_its_root(hopline: Hopline) -> None:
    recorder = recorder_of(BUNDLE)
    child = next(request for request in recorder.order if request in recorder.parent)
    run = hopline("explain", BUNDLE, f"t{recorder.ids[child][1:]}")
    assert run.code == USAGE
    assert f"{recorder.ids[child]} belongs to {recorder.record(child)['trace']}" in run.err


def test_a_bundle_without_connections(hopline: Hopline, tmp_path: Path) -> None:
    (tmp_path / "node-a.pcap").write_bytes(pcap([bytes(60)]))
    run = hopline("explain", tmp_path, "r1")
    assert run.code == USAGE
    assert "has no connections" in run.err


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--at", "node-a/eth0", "--everywhere"], "exclude each other"), (["--keys", "missing.txt"], "missing.txt: no such file"),
     (["--at", "nowhere/eth0"], "not seen there (seen at node-")],
)  # fmt: skip
def test_wrong_usage_is_one_clear_line(options: list[str], said: str, hopline: Hopline) -> None:
    run = hopline("explain", BUNDLE, "r8", *options)
    assert (run.code, run.out, run.err.count("\n")) == (USAGE, "", 1)
    assert said in run.err


def test_candidates_that_cannot_be_told_apart_are_said() -> None:
    """Where more confidence is asked for than there is, the call and who may have made it both say so."""
    strict = RequestRecorder(recorder_of(BUNDLE).found, 1.0)
    call = next(r for r in strict.order if strict.found.parents.candidates.get(r) and r not in strict.parent)
    (caller,) = [line for line in Explainer(strict).request(call).lines if line.kind == "called by"]
    parent, share = strict.found.parents.candidates[call][0]
    assert caller.text.startswith(f"not told: perhaps {strict.ids[parent]} ({share:.2f})")
    perhaps = [line for line in Explainer(strict).request(parent).lines if line.kind == "perhaps"]
    assert f"{strict.ids[call]} " in [line.text[: len(strict.ids[call]) + 1] for line in perhaps]
    assert all(line.evidence[-1].endswith(" only") for line in perhaps)


def test_help_is_quick_and_shows_examples() -> None:
    program = "import sys; from analysis.commands import app\ntry: app(['explain', '--help'])\nexcept SystemExit: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=SAMPLES.parent, capture_output=True, text=True, check=True)
    shown, _, loaded = done.stdout.rstrip().rpartition("\n")
    assert "hopline explain bundle/ r17 --at node-c/eth0" in shown
    assert {name.partition(".")[0] for name in loaded.split()} & {"numpy", "numba", "pandas", "pyarrow", "pyshark", "lxml"} == set()
