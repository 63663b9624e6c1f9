"""Contexts of libkdumpfile, by whichever of its bindings is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from iommutables import Machine, Memory, UnsupportedError
from iommutables import kdumpfile as plugin

kdumpfile = pytest.importorskip("kdumpfile")


def opened(path: Path) -> Any:
    if hasattr(kdumpfile, "kdumpfile"):
        return kdumpfile.kdumpfile(str(path))
    context = kdumpfile.Context()
    context.open(str(path))
    return context


@pytest.mark.parametrize("name", ["vmcore/vmcore.kdump", "vtd-crash/image.elf"])
def test_memory_of_a_context_is_the_files(examples: Path, name: str) -> None:
    through = plugin.memory(opened(examples / name))
    straight = Memory.open(examples / name)
    assert through.ranges == straight.ranges
    assert through.find() == straight.find()
    found, wanted = Machine.find(through), Machine.find(straight)
    assert found.maps(through) == wanted.maps(straight)


def test_ranges_are_given_where_a_context_has_none(examples: Path) -> None:
    context = opened(examples / "vtd-crash" / "image.elf")

    class Bare:
        attr: Any = {}

        def read(self, *arguments: Any) -> Any:
            return context.read(*arguments)

    with pytest.raises(UnsupportedError, match="give ranges="):
        plugin.memory(Bare())
    through = plugin.memory(Bare(), [(0x6A00000, 0x10000)])
    assert through.read(0x6A04000, 8) == bytes.fromhex("0190ab0600000000")
    assert through.readinto(0x6A00000, bytearray(8)) == 0


def test_what_a_context_raises_comes_out(examples: Path) -> None:
    class Broken:
        def read(self, *arguments: Any) -> Any:
            raise OSError("gone")

    through = plugin.memory(Broken(), [(0, 4096)])
    with pytest.raises(OSError, match="gone"):
        through.read(0, 8)
