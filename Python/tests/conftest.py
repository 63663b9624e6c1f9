"""What tests share."""

from __future__ import annotations

import gc
import mmap
from pathlib import Path
from typing import Iterator

import pytest

import iommutables
from iommutables import Memory, Translator, VTdTables

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture
def examples() -> Path:
    """Dumps that real kernels wrote."""
    return ROOT / "Examples"


@pytest.fixture
def memory() -> Memory:
    """1 MiB of RAM."""
    return Memory.create(1 << 20)


@pytest.fixture
def translator(memory: Memory) -> Translator:
    """00:03.0, of which 0xffffe000 to 0xffffffff lead to 0x8000, and 0x4000 can be read alone."""
    tables = VTdTables(memory)
    tables.map("00:03.0", 0xFFFFE000, 0x8000, 0x2000)
    tables.map("00:03.0", 0x4000, 0xC000, 0x1000, write=False)
    return tables.machine().translator(memory, "00:03.0")


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    """Whatever a test makes over buffers and functions of Python is given back."""
    yield
    gc.collect()


def pages(count: int) -> mmap.mmap:
    """A buffer as `Memory.adopt` takes it."""
    return mmap.mmap(-1, count << 12)


assert iommutables.__version__
