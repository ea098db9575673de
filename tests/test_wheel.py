"""A wheel with machine code, installed where nothing can be written: the first command finds all of its code there."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import ROOT, SAMPLES, Hopline

from probes.code_folders import BESIDE, state
from probes.code_ready import processor

KERNELS = {"kernel", "bare", "inlined", "inside"}  # of probes.jit
PROGRAM = """
import sys
from analysis.commands import main
from probes import code_folders
try:
    main()
finally:
    print(code_folders.__file__, code_folders.started, "numba" in sys.modules, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel for this kind of processor alone; what was compiled here before is not compiled again."""
    folder = tmp_path_factory.mktemp("wheel")
    asked = {"HATCH_BUILD_HOOKS_ENABLE": "1", "NUMBA_CPU_NAME": processor(), "NUMBA_CACHE_DIR": str(ROOT / "probes" / BESIDE)}
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder],
        cwd=ROOT, env=os.environ | asked, check=True, capture_output=True,
    )  # fmt: skip
    (made,) = folder.glob("*.whl")
    return made


def kernels() -> Iterator[str]:
    """`MODULE/FUNCTION-LINE`, as numba names what it keeps, of every function that is compiled."""
    for path in (path for package in ("probes", "tracer", "analysis") for path in (ROOT / package).rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                decorators = [each for each in function.decorator_list if isinstance(each, ast.Name) and each.id in KERNELS]
                if decorators:
                    yield f"{module}/{path.stem}.{function.name}-{decorators[0].lineno}"


def test_the_wheel_has_the_code_of_every_kernel_and_says_what_it_fits(wheel: Path) -> None:
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert wheel.name.split("-")[2:4] == [python, python]
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        (metadata,) = (packed.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    assert f"Requires-Dist: numba=={version('numba')}\n" in metadata
    brought = {name.removeprefix(f"probes/{BESIDE}/{state()}/").partition(".py3")[0] for name in names if name.endswith(".nbc")}
    assert set(kernels()) - brought == set()


def test_a_first_trace_compiles_nothing_and_needs_no_place_to_write(wheel: Path, tmp_path: Path, hopline: Hopline) -> None:
    home = tmp_path / "installed"
    venv.create(home)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(home), "platbase": str(home)}))
    (packages / "dependencies.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--ignore-installed", wheel]
    subprocess.run(pip, check=True)
    subprocess.run(["chmod", "--recursive", "a-w", home], check=True)
    # root without capabilities is held to what files allow, as anybody is
    anybody = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    command = [*anybody, python, "-c", PROGRAM, "trace", SAMPLES / "iptables", "--json"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=True)
    subprocess.run(["chmod", "--recursive", "u+w", home], check=True)
    assert done.stderr.splitlines()[-1] == f"{packages / 'probes' / 'code_folders.py'} [] False"
    assert done.stdout == hopline("trace", SAMPLES / "iptables", "--json").out
