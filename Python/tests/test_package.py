"""The package as a whole: examples in it, types, the wheel, the library that it loads."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import os
import pkgutil
import subprocess
import sys
import types
import zipfile
from pathlib import Path
from typing import Any, Dict

import pytest

import iommutables
from iommutables import LibraryError, _abi

PACKAGE = Path(iommutables.__file__).parent
LIBRARY = _abi.library_path()


@pytest.mark.parametrize(
    "name", sorted(module.name for module in pkgutil.iter_modules(iommutables.__path__))
)
def test_examples_in_docstrings(name: str) -> None:
    if name == "__main__":
        return
    if name == "drgn" and importlib.util.find_spec("drgn") is None:
        pytest.skip("drgn is not installed")
    module = importlib.import_module(f"iommutables.{name}")
    assert doctest.testmod(module).failed == 0


def test_the_first_example() -> None:
    assert doctest.testmod(iommutables).failed == 0


def test_everything_public_is_named_and_explained() -> None:
    for name in iommutables.__all__:
        thing = getattr(iommutables, name)
        if isinstance(thing, type):
            assert thing.__doc__, name
            for member, value in vars(thing).items():
                if not member.startswith("_") and callable(value):
                    assert value.__doc__ or hasattr(value, "value"), f"{name}.{member}"
        elif isinstance(thing, types.FunctionType):
            assert thing.__doc__, name


def mypy(folder: Path, *arguments: str) -> Any:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed")
    environment = dict(os.environ)
    if PACKAGE.parent.name != "site-packages":
        environment["MYPYPATH"] = str(PACKAGE.parent)
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
    )


def test_types_of_the_package(root: Path, tmp_path: Path) -> None:
    done = mypy(tmp_path, str(root / "Python" / "iommutables"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_types_that_users_see(tmp_path: Path) -> None:
    user = tmp_path / "user.py"
    user.write_text(
        """import array
from iommutables import Fault, Machine, Mapped, Memory, VTdTables

with Memory.create(1 << 20) as memory:
    tables = VTdTables(memory)
    tables.map("00:03.0", 0x1000, 0x8000, 0x1000)
    translator = tables.machine().translator(memory, "00:03.0")
    found = translator.translate(0x1000)
    if isinstance(found, Mapped):
        physical: int = found.physical
    elif isinstance(found, Fault):
        reason: str = found.text
    answers: "array.array[int]" = translator.translate_many(array.array("Q", [0x1000]))
    wrong: str = Machine.find(memory).unit_count
"""
    )
    done = mypy(tmp_path, str(user))
    assert done.returncode == 1
    assert done.stdout.count("error:") == 1 and "user.py:14" in done.stdout, done.stdout


def builder(root: Path) -> Any:
    spec = importlib.util.spec_from_file_location("build_wheel", root / "Python" / "build_wheel.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_two_wheels_are_the_same_bytes(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path(LIBRARY).exists():
        pytest.skip("the library is the system's")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    made = builder(root)
    first = made.build(Path(LIBRARY), tmp_path / "first")
    second = made.build(Path(LIBRARY), tmp_path / "second")
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
        assert {entry.date_time for entry in archive.infolist()} == {(2023, 11, 14, 22, 13, 20)}
    assert "iommutables/py.typed" in names and "iommutables/libiommu.so.1" in names
    assert f"iommutables-{iommutables.__version__}.dist-info/licenses/LICENSE" in names
    assert not [name for name in names if "test" in name or "__pycache__" in name]


def test_a_file_that_is_no_library_makes_no_wheel(root: Path, tmp_path: Path) -> None:
    made = builder(root)
    wrong = tmp_path / "libiommu.so.1"
    wrong.write_bytes(b"text" * 100)
    with pytest.raises(SystemExit, match="no 64-bit little-endian ELF"):
        made.build(wrong, tmp_path)
    with pytest.raises(SystemExit, match="make library"):
        made.found(tmp_path / "nowhere")


def test_the_library_is_the_headers_version() -> None:
    assert _abi.lib.iommu_abi_version() == _abi.ABI_VERSION
    assert iommutables.__version__.count(".") == 2


def test_a_library_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="IOMMU_LIBRARY"):
        _abi.load(str(tmp_path / "nowhere.so"))
    with pytest.raises(LibraryError, match="has no iommu_abi_version"):
        _abi.load("libm.so.6")
    with pytest.raises(ImportError):
        _abi.load("libm.so.6")


def test_a_library_is_named_by_the_environment(tmp_path: Path) -> None:
    environment: Dict[str, str] = {**os.environ, "IOMMU_LIBRARY": str(tmp_path / "nowhere.so")}
    done = subprocess.run(
        [sys.executable, "-c", "import iommutables"], env=environment, capture_output=True, text=True
    )
    assert done.returncode != 0 and "nowhere.so" in done.stderr.splitlines()[-1]


def test_the_interpreter_ends_quietly_with_objects_open() -> None:
    script = """
import mmap
from iommutables import *
ram = mmap.mmap(-1, 1 << 20)
memory = Memory.adopt(ram)
called = Memory.from_calls(read=lambda address, size: bytes(size), ranges=[(0, 4096)])
unit = Unit(memory, Hardware.VTD, interrupt=print)
port = unit.port()
tables = VTdTables(memory)
class Late:
    def __del__(self): memory.close(); called.close()
late = Late()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_it_is_needed_by_nothing_else() -> None:
    """Nothing but the standard library is imported."""
    script = "import sys; before = set(sys.modules); import iommutables; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    roots = {name.split(".")[0] for name in done.stdout.split()}
    allowed = getattr(sys, "stdlib_module_names", None)
    if allowed is not None:
        assert roots - set(allowed) == {"iommutables"}
