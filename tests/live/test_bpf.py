"""The door to bcc: what is loaded does what it says, what is attached ends with its process, and what is refused says why."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

from probes.live.attach import attach_kprobe, kernel_symbol
from probes.live.bpf import BpfError, Program
from probes.live.refusals import lacking, refusal
from probes.live.sockets.order import root_cgroup

pytest.importorskip("bcc", reason="no bcc (apt install python3-bpfcc)")
needs_bpf = pytest.mark.skipif(bool(lacking(["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"])), reason="may not load eBPF programs here")

# Counts, under keys: 0 datagrams of the sought length that were dropped, 1 connects to the sought port. No probe of ours has these names.
SOURCE = """
#include <vmlinux.h>
BPF_ARRAY(kept, u64, 4);
int drops_sought(struct bpf_raw_tracepoint_args *event)
{
    struct sk_buff *skb = (void *)event->args[0];
    unsigned int len = 0, ifindex = 0, zero = 0;
    struct net_device *dev = 0;
    bpf_probe_read_kernel(&len, sizeof(len), &skb->len);
    bpf_probe_read_kernel(&dev, sizeof(dev), &skb->dev);
    bpf_probe_read_kernel(&ifindex, sizeof(ifindex), &dev->ifindex);
    if (len == LENGTH && ifindex == 1)
        kept.increment(zero);
    return 0;
}
int asks_sought(struct bpf_sock_addr *address)
{
    unsigned int one = 1;
    if (address->user_port == __builtin_bswap16(PORT))
        kept.increment(one);
    return 1;
}
int direct(unsigned long long *arguments)
{
    struct sk_buff *skb = (void *)arguments[0];
    bpf_trace_printk("%d", skb->len);
    return 0;
}
"""
STRUCTS = {"sk_buff": ("len", "dev"), "net_device": ("ifindex",)}
LENGTH, PORT = 1231, 4241


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "looks.c"
    path.write_text(SOURCE)
    return path


@pytest.fixture
def program(source: Path) -> Iterator[Program]:
    with Program(source, {"LENGTH": LENGTH, "PORT": PORT}, STRUCTS) as program:
        yield program


def send_to_nobody(datagrams: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(datagrams):
            sender.sendto(bytes(LENGTH - 8), ("127.0.0.1", 9))  # 8: the UDP header, with which the kernel drops it


def connect_to_nobody() -> None:
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", PORT)) != 0


@needs_bpf
def test_fields_are_read_at_the_running_kernels_offsets(program: Program) -> None:
    assert program.headers == "BTF"
    try:
        program.attach_raw_tracepoint("drops_sought", "kfree_skb")
    except BpfError as error:
        pytest.skip(str(error))
    send_to_nobody(23)
    assert program.map("kept")[0].value == 23


@needs_bpf
def test_fields_are_read_whole_not_byte_by_byte(program: Program) -> None:
    """The verifier lets pointers of a known type be followed only at a field's own size."""
    code = program._bpf.disassemble_func(b"direct")
    assert re.findall(r"= \*\((u\d+)\*\)\(r1 ", code) == ["u64", "u32"]


@needs_bpf
@pytest.mark.parametrize(("machine", "offsets"), [("x86", ["112", "104"]), ("arm64", ["0", "8"])])
def test_arguments_are_in_each_machines_registers(
    machine: str, offsets: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """struct pt_regs: di and si of x86-64, the first two of regs of arm64."""
    monkeypatch.setenv("ARCH", machine)  # which bcc compiles for
    (tmp_path / "f.c").write_text("#include <linux/ptrace.h>\nint f(struct pt_regs *r) { return PT_REGS_PARM1(r) + PT_REGS_PARM2(r); }")
    with Program(tmp_path / "f.c") as program:
        assert sorted(re.findall(r"\(r1 \+(\d+)\)", program._bpf.disassemble_func(b"f"))) == sorted(offsets)


@needs_bpf
def test_headers_in_the_working_directory_are_not_taken(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/vmlinux.h").write_text("#error not this one\n")
    monkeypatch.chdir(tmp_path / "elsewhere")
    Program(source, {"LENGTH": LENGTH, "PORT": PORT}, STRUCTS).close()
    assert Path.cwd() == tmp_path / "elsewhere"


@needs_bpf
def test_an_attachment_can_be_ended(program: Program) -> None:
    attachment = program.attach_cgroup("asks_sought", "connect4", root_cgroup())
    connect_to_nobody()
    assert program.map("kept")[1].value == 1
    program.detach(attachment)
    connect_to_nobody()
    assert program.map("kept")[1].value == 1


@needs_bpf
@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ("net_admin", "a map of looks.c is not permitted: CAP_BPF missing"),
        ("bpf", r"drops_sought \(raw_tracepoint\) is not permitted: CAP_PERFMON missing"),
    ],
)
def test_what_is_missing_is_named(kept: str, said: str, source: Path) -> None:
    if shutil.which("setpriv") is None or os.geteuid() != 0:
        pytest.skip("only root can give capabilities away")
    code = ATTACHES.format(length=LENGTH, port=PORT, structs=STRUCTS)
    less = ["setpriv", f"--bounding-set=-all,+{kept}", "--inh-caps=-all"]
    run = subprocess.run([*less, sys.executable, "-c", code, str(source)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert re.search(said, run.stderr)


ATTACHES = """
import sys, time
from pathlib import Path
from probes.live.bpf import Program
from probes.live.sockets.order import root_cgroup
program = Program(Path(sys.argv[1]), {{"LENGTH": {length}, "PORT": {port}}}, {structs})
program.attach_raw_tracepoint("drops_sought", "kfree_skb")
program.attach_cgroup("asks_sought", "connect4", root_cgroup())
print("attached", flush=True)
time.sleep(60)
"""


def programs_of(names: set[str]) -> int:
    said = subprocess.run(["bpftool", "prog", "list"], capture_output=True, text=True, check=True).stdout
    return sum(f" name {name} " in line for line in said.splitlines() for name in names)


@needs_bpf
def test_nothing_stays_after_kill_minus_9(source: Path) -> None:
    if not Path("/usr/sbin/bpftool").exists():
        pytest.skip("no bpftool to look with (apt install bpftool)")
    before = programs_of({"asks_sought", "drops_sought"})
    code = ATTACHES.format(length=LENGTH, port=PORT, structs=STRUCTS)
    running = subprocess.Popen([sys.executable, "-c", code, str(source)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert running.stdout
    assert running.stdout.readline() == "attached\n"
    assert programs_of({"asks_sought", "drops_sought"}) == before + 2
    running.send_signal(signal.SIGKILL)
    running.communicate()
    patience = time.monotonic() + 60  # the kernel frees programs after a grace period
    while programs_of({"asks_sought", "drops_sought"}) > before and time.monotonic() < patience:
        time.sleep(0.05)
    assert programs_of({"asks_sought", "drops_sought"}) == before


@needs_bpf
def test_closing_gives_everything_back(source: Path) -> None:
    def once() -> None:
        with Program(source, {"LENGTH": LENGTH, "PORT": PORT}, STRUCTS) as program:
            program.load("drops_sought", "raw_tracepoint")
            program.attach_cgroup("asks_sought", "connect4", root_cgroup())
        program.close()

    def opened() -> list[str]:
        """What the kernel has of eBPF for this process; other tests' sockets come and go meanwhile."""
        links = (str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
        return sorted(link for link in links if "bpf" in link)

    with Program(source, {"LENGTH": LENGTH, "PORT": PORT}, STRUCTS) as program:
        program.load("drops_sought", "raw_tracepoint")
        assert opened()
    before = opened()
    for _ in range(3):
        once()
    assert opened() == before


@needs_bpf
@pytest.mark.parametrize(
    ("code", "structs", "said"),
    [("int f(struct __sk_buff *s) { return nothing; }", {}, r"odd.c does not compile for this kernel: .*undeclared identifier 'nothing'"),
     ("int f(struct __sk_buff *s) { return *(int *)0; }", {}, r"f \(socket_filter\) is refused by this kernel's verifier: .*R\d"),
     ("int f(struct __sk_buff *s) { return 0; }", {"sk_buff": ("age",)}, r"odd.c: sk_buff has no age in this kernel: ask for `age\?`"),
     ("int f(struct __sk_buff *s) { return 0; }", {"sk_buf": None}, r"odd.c: this kernel's BTF has no sk_buf: load the module")],
    ids=["does not compile", "verifier", "no such field", "no such type"],
)  # fmt: skip
def test_refusals_say_why(code: str, structs: dict[str, None], said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "odd.c").write_text(code)
    with pytest.raises(BpfError, match=said):
        Program(tmp_path / "odd.c", structs=structs).load("f", "socket_filter")
    assert capfd.readouterr() == ("", "")  # clang and libbpf have nothing to say on our standard error


@needs_bpf
def test_a_function_is_of_one_kind(program: Program) -> None:
    assert program.load("asks_sought", "connect4") == program.load("asks_sought", "connect4")
    with pytest.raises(BpfError, match="asks_sought is loaded as connect4 already: give connect6 a function of its own"):
        program.load("asks_sought", "connect6")


@needs_bpf
def test_what_is_not_there_cannot_be_attached_to(program: Program, tmp_path: Path) -> None:
    with pytest.raises(BpfError, match="raw tracepoint no_such_event is refused by this kernel"):
        program.attach_raw_tracepoint("drops_sought", "no_such_event")
    with pytest.raises(BpfError, match="nowhere cannot be opened"):
        program.attach_cgroup("asks_sought", "connect4", tmp_path / "nowhere")
    with pytest.raises(BpfError, match="no function no_such_function that could be probed"):
        attach_kprobe(-1, "no_such_function")


def test_a_compilers_copy_of_a_function_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    symbols = [
        "ffff0001 t __netif_receive_skb_core.constprop.0", "ffff0002 T ip_rcv", "ffff0003 t ip_rcv_core.cold", "ffff0004 d ip_data",
        "ffff0005 t nf_nat_inet_fn\t[nf_nat]", "ffff0006 t both.isra.0", "ffff0007 T both", "ffff0008 t xip_rcv",
    ]  # fmt: skip
    (tmp_path / "kallsyms").write_text("\n".join(symbols))
    monkeypatch.setattr("probes.live.attach.KALLSYMS", tmp_path / "kallsyms")
    assert kernel_symbol("__netif_receive_skb_core") == "__netif_receive_skb_core.constprop.0"
    assert [kernel_symbol(name) for name in ("ip_rcv", "nf_nat_inet_fn", "both")] == ["ip_rcv", "nf_nat_inet_fn", "both"]
    assert [kernel_symbol(name) for name in ("ip_rcv_core", "ip_data", "ip.rcv", "rcv")] == [None] * 4


def test_bcc_of_pypi_is_told_apart(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bcc.py").write_text('"""Another thing under the same name."""\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "bcc", raising=False)
    with pytest.raises(BpfError, match="PyPI's, which is something else: pip uninstall bcc, then apt install python3-bpfcc"):
        Program(source)
    monkeypatch.delitem(sys.modules, "bcc")


LOCKED = "none integrity [confidentiality]"
REASONS = {  # errno, needs, log, capabilities, lockdown: said
    "capability": (1, ("CAP_BPF",), "", "0", "", "it is not permitted: CAP_BPF missing"),
    "capability before log": (13, ("CAP_BPF",), "R1 bad\n", "0", "", "it is not permitted: CAP_BPF missing"),
    "lockdown": (1, ("CAP_BPF",), "", "8000000000", LOCKED, "although no capability is missing: its lockdown is confidentiality"),
    "hidden lockdown": (1, ("CAP_BPF",), "", "200000", "", "although no capability is missing: by lockdown"),
    "errno": (22, (), "", "0", "", "it is refused by this kernel: Invalid argument"),
    "verifier": (13, (), "R1 bad\nprocessed 2 insns\n", "8000000000", "", r"verifier \(it allows more with CAP_PERFMON\): R1 bad$"),
}


@pytest.mark.parametrize(("number", "needs", "log", "status", "shown", "said"), REASONS.values(), ids=REASONS)
def test_reasons_in_order(
    number: int, needs: tuple[str, ...], log: str, status: str, shown: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in (("proc/self/status", f"CapEff:\t{status:0>16}\n"), ("sys/kernel/security/lockdown", shown)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    with pytest.raises(BpfError, match=said):
        raise refusal("it", number, needs, log, tmp_path)
