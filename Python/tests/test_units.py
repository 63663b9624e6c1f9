"""Live units."""

from __future__ import annotations

import array
import gc
from typing import Any, List, Tuple

import pytest

from iommutables import (
    AMDViTables,
    ArgumentError,
    CalgaryTables,
    Fault,
    GARTTables,
    HandleError,
    Hardware,
    InterruptKind,
    IOMMUError,
    Mapped,
    Memory,
    Unit,
    UnsupportedError,
    VTdTables,
)

GCMD, RTADDR, FECTL, FEDATA, FEADDR, FSTS = 0x18, 0x20, 0x38, 0x3C, 0x40, 0x34


def running(memory: Memory, **options: Any) -> Unit:
    """A VT-d unit that translates: 00:03.0 reaches 0x8000 by 0x1000, two pages."""
    tables = VTdTables(memory)
    tables.map("00:03.0", 0x1000, 0x8000, 0x2000)
    unit = Unit(memory, Hardware.VTD, **options)
    unit.write(RTADDR, tables.root)
    unit.write(GCMD, 1 << 30, 4)
    # Its caches are empty after a reset.
    unit.write(GCMD, 1 << 31, 4)
    assert unit.read(0x1C, 4) >> 30 == 3
    return unit


def test_a_unit_translates_and_moves_bytes(memory: Memory) -> None:
    unit = running(memory)
    port = unit.port()
    assert port.translate("00:03.0", 0x1040, size=64, write=True) == Mapped(0x8040, 64)
    assert list(port.translate_many("00:03.0", array.array("Q", [0x1000, 0x2008]))) == [0x8000, 0x9008]
    sent = port.dma_write("00:03.0", 0x1FFC, b"eight by")
    assert (sent.done, sent.end) == (8, Mapped(0x9000, 4))
    assert memory.read(0x8FFC, 8) == b"eight by"
    got = port.dma_read("00:03.0", 0x1FFC, 8)
    assert (got.done, got.data) == (8, b"eight by")
    cut = port.dma_write("00:03.0", 0x2FFC, b"eight by")
    assert cut.done == 4 and isinstance(cut.end, Fault) and cut.end.is_recorded
    assert port.dma_read("00:03.0", 0x2FFC, 8).data == b"eigh"
    assert unit.window_size >= 4096
    unit.reset()
    assert unit.read(0x1C, 4) == 0


def test_faults_raise_interrupts(memory: Memory) -> None:
    seen: List[Tuple[int, int]] = []
    unit = running(memory, interrupt=lambda address, data: seen.append((address, data)))
    unit.write(FEADDR, 0xFEE00000, 4)
    unit.write(FEDATA, 0x31, 4)
    unit.write(FECTL, 0, 4)
    port = unit.port()
    assert isinstance(port.translate("00:03.0", 0x7000), Fault)
    assert seen == [(0xFEE00000, 0x31)]


def test_what_an_interrupt_raises_comes_out_of_the_request(memory: Memory) -> None:
    class Mine(Exception):
        pass

    def interrupt(address: int, data: int) -> None:
        raise Mine(f"{data:#x}")

    unit = running(memory, interrupt=interrupt)
    unit.write(FEADDR, 0xFEE00000, 4)
    unit.write(FEDATA, 0x31, 4)
    unit.write(FECTL, 0, 4)
    port = unit.port()
    with pytest.raises(Mine, match="0x31"):
        port.translate("00:03.0", 0x7000)
    assert port.translate("00:03.0", 0x1000) == Mapped(0x8000, 1)


def test_an_interrupt_may_write_registers_but_not_ask_its_port(memory: Memory) -> None:
    seen: List[int] = []
    again = True

    def interrupt(address: int, data: int) -> None:
        seen.append(unit.read(FSTS, 4))
        unit.write(FSTS, 1, 4)
        if again:
            port.translate("00:03.0", 0x7000)

    unit = running(memory, interrupt=interrupt)
    unit.write(FEADDR, 0xFEE00000, 4)
    unit.write(FECTL, 0, 4)
    port = unit.port()
    with pytest.raises(HandleError, match="the port: in use by the very call"):
        port.translate("00:03.0", 0x7000)
    assert seen and seen[0] & 2


def test_a_port_outlives_its_unit_and_its_memory(memory: Memory) -> None:
    seen: List[int] = []
    unit = running(memory, interrupt=lambda address, data: seen.append(data))
    unit.write(FEADDR, 0xFEE00000, 4)
    unit.write(FEDATA, 0x31, 4)
    unit.write(FECTL, 0, 4)
    port = unit.port()
    unit.close()
    memory.close()
    del unit, memory
    gc.collect()
    assert port.translate("00:03.0", 0x1000) == Mapped(0x8000, 1)
    assert isinstance(port.translate("00:03.0", 0x7000), Fault)
    assert seen == [0x31]
    port.close()
    with pytest.raises(HandleError, match="the port is closed"):
        port.translate("00:03.0", 0x1000)


def test_interrupts_of_devices_pass_a_unit_that_remaps_none(memory: Memory) -> None:
    unit = Unit(memory, Hardware.VTD)
    found = unit.remap_interrupt("00:03.0", 0xFEE00000, 0x31)
    assert found.kind == InterruptKind.PASSED
    assert (found.vector, found.destination, found.fault) == (None, None, None)
    with pytest.raises(ArgumentError, match="no address of interrupts"):
        unit.remap_interrupt("00:03.0", 0x1000, 0)


def test_interrupts_of_devices_are_remapped(memory: Memory) -> None:
    unit = Unit(memory, Hardware.VTD)
    # A table of 2 entries at 0x20000; entry 0: present, vector 0x41, destination 3, no source check.
    memory.write_quadword(0x20000, 1 | 0x41 << 16 | 3 << 40)
    unit.write(0xB8, 0x20000)
    unit.write(GCMD, 1 << 24, 4)
    unit.write(GCMD, 1 << 25, 4)
    found = unit.remap_interrupt("00:03.0", 0xFEE00010, 0)
    assert (found.kind, found.vector, found.destination) == (InterruptKind.DELIVERED, 0x41, 3)
    blocked = unit.remap_interrupt("00:03.0", 0xFEE00030, 0)
    assert blocked.kind == InterruptKind.BLOCKED and blocked.fault == 0x22


def test_amdvi() -> None:
    memory = Memory.create(16 << 20)
    tables = AMDViTables(memory)
    tables.map("00:03.0", 0x1000, 0x8000, 0x1000)
    unit = Unit(memory, Hardware.AMDVI, has_caches=False)
    unit.write(0x00, tables.root)
    unit.write(0x18, unit.read(0x18) | 1)
    assert unit.port().translate("00:03.0", 0x1000) == Mapped(0x8000, 1)
    assert unit.read_configuration(0) & 0xFFFF == 0x1022
    unit.write_configuration(0x4, 0x6)
    with pytest.raises(ArgumentError, match="doublewords"):
        unit.read_configuration(1, 2)


def test_calgary() -> None:
    memory = Memory.create(64 << 20)
    tables = CalgaryTables(memory)
    tables.map("00:03.0", 0x1000, 0x8000, 0x1000)
    unit = Unit(memory, Hardware.CALGARY, model="calioc2", bridges=[(0, 0), (1, 3)])
    assert unit.window_size > 0
    port = unit.port()
    # It does not translate before somebody says so.
    assert port.translate("00:03.0", 0x1000) == Mapped(0x1000, 1)
    assert list(port.translate_many("00:03.0", array.array("Q", [0x1000]))) == [0x1000]
    with pytest.raises(UnsupportedError):
        unit.read_configuration(0)
    with pytest.raises(UnsupportedError, match="remaps no interrupts"):
        unit.remap_interrupt("00:03.0", 0xFEE00000, 0)
    with pytest.raises(ArgumentError, match="calioc2"):
        Unit(memory, Hardware.CALGARY, model="current")


def test_gart() -> None:
    memory = Memory.create(16 << 20)
    tables = GARTTables(memory)
    tables.map(0x80000000, 0x8000, 0x1000)
    unit = Unit(memory, Hardware.GART, node_count=2)
    assert unit.window_size == 0
    for requester in (0xC3, 0xCB):
        unit.write_configuration(0x94, 0x80000000 >> 25, requester=requester)
        unit.write_configuration(0x98, tables.root, requester=requester)
        unit.write_configuration(0x90, 1, requester=requester)
    assert unit.read_configuration(0x90, requester=0xC3) & 1
    assert unit.port().translate("00:03.0", 0x80000000) == Mapped(0x8000, 1)
    with pytest.raises(UnsupportedError, match="no register window"):
        unit.read(0)
    with pytest.raises(ArgumentError, match="9 nodes"):
        Unit(memory, Hardware.GART, node_count=9)


def test_units_are_made_of_what_they_are_made_of(memory: Memory) -> None:
    with pytest.raises(ArgumentError, match="there is no model 'old'"):
        Unit(memory, Hardware.VTD, model="old")
    with pytest.raises(ArgumentError, match="hardware is 9"):
        Unit(memory, 9)  # type: ignore[arg-type]
    with pytest.raises(IOMMUError):
        Unit(memory, Hardware.PLATFORM)
    with pytest.raises(TypeError, match="give a Memory"):
        Unit(None, Hardware.VTD)  # type: ignore[arg-type]
    called = Memory.from_calls(read=lambda address, size: bytes(size), ranges=[(0, 4096)])
    with pytest.raises(UnsupportedError, match="in place"):
        Unit(called, Hardware.VTD)


def test_accesses_are_checked(memory: Memory) -> None:
    unit = running(memory)
    for width in (0, 9, 1 << 31):
        with pytest.raises(ArgumentError, match="width"):
            unit.read(0, width)
    with pytest.raises(ArgumentError, match="value is"):
        unit.write(0, 1 << 64)
    unit.read((1 << 64) - 1)
    unit.write((1 << 64) - 8, 0)
    port = unit.port()
    with pytest.raises(ArgumentError):
        port.dma_write("00:03.0", 0x1000, b"")
    with pytest.raises(ArgumentError, match="past the last address"):
        port.dma_read("00:03.0", (1 << 64) - 1, 2)
    with pytest.raises(ArgumentError, match="byte_count is 0"):
        port.translate("00:03.0", 0, size=0)
    with pytest.raises(ArgumentError, match="overlap"):
        words = array.array("Q", [0])
        port.translate_many("00:03.0", words, words)
    with pytest.raises(TypeError, match="give a Unit"):
        type(port)(memory)  # type: ignore[arg-type]
    unit.close()
    for call in (unit.reset, lambda: unit.read(0), unit.port, lambda: unit.window_size):
        with pytest.raises(HandleError, match="the unit is closed"):
            call()
