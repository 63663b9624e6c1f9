"""Builders."""

from __future__ import annotations

import threading
from typing import Any, List

import pytest

from iommutables import (
    AMDViTables,
    ArgumentError,
    CalgaryTables,
    DomainKind,
    Fault,
    GARTTables,
    HandleError,
    IOMMUError,
    Mapped,
    Memory,
    Tables,
    TablesError,
    UnsupportedError,
    VTdTables,
)


@pytest.fixture(params=["vtd", "amdvi"])
def tables(request: pytest.FixtureRequest) -> Any:
    memory = Memory.create(16 << 20)
    made: Any = VTdTables(memory) if request.param == "vtd" else AMDViTables(memory, last_bus=1)
    made.test_memory = memory
    return made


def translate(tables: Any, iova: int, device: str = "00:03.0", **more: Any) -> Any:
    pasid = more.pop("pasid", None)
    translator = tables.machine().translator(tables.test_memory, device, pasid=pasid)
    return translator.translate(iova, **more)


def test_pages_are_mapped_remapped_and_unmapped(tables: Any) -> None:
    tables.map("00:03.0", 0x1000, 0x8000, 0x2000)
    assert translate(tables, 0x2000) == Mapped(0x9000, 1)
    with pytest.raises(TablesError):
        tables.map("00:03.0", 0x2000, 0x8000, 0x1000)
    tables.remap("00:03.0", 0x2000, 0xC000, 0x1000, write=False)
    assert translate(tables, 0x2000) == Mapped(0xC000, 1)
    assert isinstance(translate(tables, 0x2000, write=True), Fault)
    tables.unmap("00:03.0", 0x1000, 0x2000)
    assert isinstance(translate(tables, 0x1000), Fault)
    tables.map_identity("00:03.0", 0x100000, 0x100000)
    assert translate(tables, 0x123456) == Mapped(0x123456, 1)
    tables.map_identity("00:03.0", 0x100000, 0x1000, remap=True, write=False)


def test_large_pages_take_fewer_tables(tables: Any) -> None:
    tables.map("00:03.0", 0x200000, 0x400000, 0x200000, largest=True)
    few = tables.table_page_count
    assert translate(tables, 0x234567) == Mapped(0x434567, 1)
    tables.unmap("00:03.0", 0x201000, 0x1000)
    assert tables.table_page_count == few + 1
    assert translate(tables, 0x202000) == Mapped(0x402000, 1)


def test_devices_share_domains(tables: Any) -> None:
    domain = tables.create_domain()
    domain.map(0x1000, 0x8000, 0x1000)
    tables.bind("00:04.0", domain)
    assert translate(tables, 0x1000, "00:04.0") == Mapped(0x8000, 1)
    with pytest.raises(TablesError):
        domain.remove()
    domain.unmap(0x1000, 0x1000)
    assert isinstance(translate(tables, 0x1000, "00:04.0"), Fault)
    tables.unbind("00:04.0")
    domain.remove()
    with pytest.raises(TablesError, match="is gone"):
        domain.map(0x1000, 0x8000, 0x1000)
    assert repr(domain) == f"<Domain {domain.id}>"
    passes = tables.create_domain(DomainKind.PASS_THROUGH)
    tables.bind("00:05.0", passes)
    assert translate(tables, 0x5000, "00:05.0") == Mapped(0x5000, 1)


def test_processes_and_guests() -> None:
    memory = Memory.create(16 << 20)
    tables: Any = VTdTables(memory, is_scalable=True)
    tables.test_memory = memory
    process = tables.create_domain(DomainKind.PROCESS, levels=4)
    tables.bind("00:04.0", process, pasid=5)
    tables.map("00:04.0", 0x7FFF00000000, 0x8000, 0x1000, pasid=5, write=False)
    assert translate(tables, 0x7FFF00000040, "00:04.0", pasid=5) == Mapped(0x8040, 1)
    host = tables.create_domain()
    host.map(0x5000, 0x8000, 0x2000)
    guest = tables.create_domain(DomainKind.NESTED, host=host)
    tables.bind("00:05.0", guest)
    tables.map("00:05.0", 0x1000, 0x5000, 0x1000)
    assert translate(tables, 0x1234, "00:05.0", write=True) == Mapped(0x8234, 1)
    with pytest.raises(TypeError, match="host is of type int"):
        tables.create_domain(DomainKind.NESTED, host=1)
    with pytest.raises(TypeError, match="give a Domain"):
        tables.bind("00:06.0", 1)


def test_calgary() -> None:
    memory = Memory.create(16 << 20)
    tables: Any = CalgaryTables(memory, bridges=[(0, 0), (1, 1)], table_size=1 << 16, is_calioc2=True)
    tables.test_memory = memory
    tables.map("01:01.0", 0x100000, 0x8000, 0x2000, write=False)
    assert translate(tables, 0x101000, "01:02.0") == Mapped(0x9000, 1)
    assert isinstance(translate(tables, 0x101000, "01:02.0", write=True), Fault)
    tables.remap("01:01.0", 0x100000, 0xA000, 0x1000)
    tables.unmap("01:01.0", 0x101000, 0x1000)
    assert isinstance(translate(tables, 0x101000, "01:02.0"), Fault)
    tables.map_identity("00:01.0", 0x200000, 0x1000)
    with pytest.raises(UnsupportedError, match="no PASID"):
        tables.map("01:01.0", 0x200000, 0x8000, 0x1000, pasid=1)
    with pytest.raises(ArgumentError, match="table_size is 0x1234"):
        CalgaryTables(memory, table_size=0x1234)
    with pytest.raises(ArgumentError, match="bridges"):
        CalgaryTables(memory, bridges=[])


def test_gart() -> None:
    memory = Memory.create(16 << 20)
    tables: Any = GARTTables(memory, base=1 << 31, order=1)
    tables.test_memory = memory
    tables.map(0x80000000, 0x8000, 0x2000)
    tables.remap(0x80001000, 0xC000, 0x1000)
    assert translate(tables, 0x80001000) == Mapped(0xC000, 1)
    tables.unmap(0x80000000, 0x2000)
    assert isinstance(translate(tables, 0x80001000), Fault)
    with pytest.raises(IOMMUError):
        tables.map_identity(0x100000, 0x1000)
    with pytest.raises(IOMMUError):
        GARTTables(memory, order=7)
    with pytest.raises(IOMMUError):
        GARTTables(memory, base=1)


@pytest.mark.parametrize(
    ("iova", "physical", "size"),
    [
        (1, 0x8000, 0x1000),
        (0x1000, 1, 0x1000),
        (0x1000, 0x8000, 1),
        ((1 << 64) - 0x1000, 0x8000, 0x2000),
        (0x1000, (1 << 64) - 0x1000, 0x2000),
        (1 << 63, 0x8000, 3 << 62),
        (0x1000, 1 << 60, 0x1000),
        (0, 0, (1 << 64) - 0x1000),
    ],
)
def test_mappings_that_cannot_be_are_refused(tables: Any, iova: int, physical: int, size: int) -> None:
    with pytest.raises(IOMMUError):
        tables.map("00:03.0", iova, physical, size)


def test_options_are_checked(memory: Memory) -> None:
    bad: List[Any] = [
        lambda: VTdTables(memory, levels=7),
        lambda: VTdTables(memory, levels=2),
        lambda: VTdTables(memory, pasid_bits=21),
        lambda: VTdTables(memory, host_address_width=53),
        lambda: VTdTables(memory, segment=1 << 16),
        lambda: VTdTables(memory, table_range=(1 << 40, 4096)),
        lambda: VTdTables(memory, table_range=(0, 0)).map("00:03.0", 0, 0x8000, 1),
        lambda: AMDViTables(memory, last_bus=256),
        lambda: AMDViTables(memory, pasid_bits=21),
        lambda: VTdTables(memory, levels=-1),
    ]
    for make in bad:
        with pytest.raises(IOMMUError):
            make()
    with pytest.raises(TypeError, match="make tables with VTdTables"):
        Tables()
    with pytest.raises(TypeError, match="give a Memory"):
        VTdTables(b"memory")  # type: ignore[arg-type]


def test_memory_that_is_too_small_has_no_room() -> None:
    memory = Memory.create(3 * 4096)
    tables = VTdTables(memory)
    with pytest.raises(TablesError):
        tables.map("00:03.0", 0x1000, 0, 0x1000)


def test_threads_take_turns(tables: Any) -> None:
    def work(number: int) -> None:
        for page in range(100):
            tables.map("00:03.0", (number << 20) + (page << 12), 0x8000, 0x1000)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tables.machine().maps(tables.test_memory)) == 800


def test_a_callback_cannot_change_the_tables_that_are_being_changed() -> None:
    ram = bytearray(1 << 20)
    tables: Any = None

    def write(address: int, data: bytes) -> None:
        ram[address : address + len(data)] = data
        if tables is not None:
            tables.map("00:04.0", 0x1000, 0x8000, 0x1000)

    memory = Memory.from_calls(
        read=lambda address, size: ram[address : address + size], write=write, ranges=[(0, len(ram))]
    )
    made = VTdTables(memory)
    tables = made
    with pytest.raises(HandleError, match="this callback belongs to"):
        made.map("00:03.0", 0x1000, 0x8000, 0x1000)
    tables = None
    made.map("00:05.0", 0x1000, 0x8000, 0x1000)


def test_closed_tables_say_so(tables: Any) -> None:
    domain = tables.create_domain()
    with tables:
        pass
    calls: List[Any] = [
        lambda: tables.root,
        tables.machine,
        lambda: tables.map("00:03.0", 0, 0x8000, 0x1000),
        lambda: tables.unmap("00:03.0", 0, 0x1000),
        lambda: tables.table_page_count,
        lambda: domain.map(0, 0x8000, 0x1000),
        domain.remove,
    ]
    for call in calls:
        with pytest.raises(HandleError, match="the tables is closed|the tables"):
            call()
