"""Machines, walks, maps, devices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from iommutables import (
    AMDViTables,
    ArgumentError,
    Bridge,
    CalgaryTables,
    Device,
    Fault,
    GARTTables,
    HandleError,
    InputError,
    IOMMUError,
    Machine,
    Mapped,
    Memory,
    NotFoundError,
    Outcome,
    VTdTables,
)


def test_devices_have_names_and_numbers() -> None:
    device = Device.parse("0001:3a:1f.7")
    assert device == Device(0x3A, 0x1F, 7, segment=1)
    assert (device.requester, int(device), str(device)) == (0x3AFF, 0x13AFF, "0001:3a:1f.7")
    assert Device.of_requester(0x3AFF, segment=1) == device
    assert str(Device.of_requester(24)) == "00:03.0"
    assert Device.parse("[00:03:0]") == Device.parse("00:03.0")
    assert Device.parse("10000:e1:00.0").segment == 0x10000
    assert sorted([Device(1, 0, 0), Device(0, 31, 7)])[0].bus == 0


@pytest.mark.parametrize("text", ["", "nobody", "00:20.0", "00:03.8", "00:03.0\0", "\ud800", "100:00.0"])
def test_names_of_no_device_are_refused(text: str) -> None:
    with pytest.raises(ArgumentError):
        Device.parse(text)


def test_parts_of_a_device_are_checked() -> None:
    for bad in [(256, 0, 0, 0), (0, 32, 0, 0), (0, 0, 8, 0), (0, 0, 0, 1 << 32), (-1, 0, 0, 0)]:
        with pytest.raises(ArgumentError):
            Device(*bad)
    with pytest.raises(TypeError):
        Device("0", 0, 0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="give text"):
        Device.parse(7)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError):
        Device.of_requester(1 << 16)


def test_registers_make_the_machine_that_a_builder_makes(memory: Memory) -> None:
    tables = VTdTables(memory)
    tables.map("00:03.0", 0x1000, 0x8000, 0x1000)
    machine = Machine()
    machine.add_vtd(base=0xFED90000, root_table_address=tables.root)
    assert machine.translator(memory, "00:03.0").translate(0x1000) == Mapped(0x8000, 1)
    assert machine.maps(memory) == tables.machine().maps(memory)
    assert machine.unit_count == 1 and repr(machine) == "<Machine with 1 unit>"


def test_registers_of_amdvi() -> None:
    memory = Memory.create(16 << 20)
    tables = AMDViTables(memory, last_bus=1)
    tables.map("00:03.0", 0x1000, 0x8000, 0x1000)
    machine = Machine()
    machine.add_amdvi(base=0xFEB80000, device_table_base=tables.root)
    assert machine.translator(memory, "00:03.0").translate(0x1000) == Mapped(0x8000, 1)


def test_registers_of_calgary() -> None:
    memory = Memory.create(16 << 20)
    tables = CalgaryTables(memory)
    tables.map("00:03.0", 0x1000, 0x8000, 0x1000)
    machine = Machine()
    machine.add_calgary(base=0xFE000000, bridges=[Bridge(0, 255, table_address=tables.root)])
    assert machine.translator(memory, "00:03.0").translate(0x1000) == Mapped(0x8000, 1)
    with pytest.raises(ArgumentError, match="bridges"):
        machine.add_calgary(base=0, bridges=[])
    with pytest.raises(ArgumentError, match="buses 5 to 4"):
        machine.add_calgary(base=0, bridges=[Bridge(5, 4)])
    with pytest.raises(ArgumentError, match="last_bus"):
        machine.add_calgary(base=0, bridges=[Bridge(0, 256)])
    with pytest.raises(TypeError, match="give Bridge"):
        machine.add_calgary(base=0, bridges=[(0, 1)])  # type: ignore[list-item]


def test_registers_of_gart() -> None:
    memory = Memory.create(16 << 20)
    tables = GARTTables(memory)
    tables.map(0x80000000, 0x8000, 0x1000)
    machine = Machine()
    # The aperture in units of 32 MiB.
    machine.add_gart(aperture_control=1, aperture_base=0x80000000 >> 25, table_base=tables.root)
    assert machine.translator(memory, "00:03.0").translate(0x80000000) == Mapped(0x8000, 1)


def test_registers_are_checked() -> None:
    machine = Machine()
    with pytest.raises(ArgumentError, match="segment"):
        machine.add_vtd(base=0, root_table_address=0, segment=1 << 16)
    with pytest.raises(ArgumentError, match="host address width of 31"):
        machine.add_vtd(base=0, root_table_address=0, host_address_width=31)
    with pytest.raises(ArgumentError, match="base is -0x1"):
        machine.add_vtd(base=-1, root_table_address=0)
    with pytest.raises(ArgumentError, match="global_status is 0x100000000"):
        machine.add_vtd(base=0, root_table_address=0, global_status=1 << 32)
    with pytest.raises(ArgumentError, match="segment"):
        machine.add_amdvi(base=0, device_table_base=0, segment=1 << 16)
    with pytest.raises(ArgumentError, match="requester"):
        machine.add_gart(aperture_control=0, aperture_base=0, table_base=0, requester=1 << 16)
    assert machine.unit_count == 0


def test_machine_files(examples: Path, tmp_path: Path) -> None:
    assert Machine.open(examples / "gart" / "machine.json").unit_count == 2
    with pytest.raises(InputError):
        Machine.open(tmp_path / "nowhere.json")
    broken = tmp_path / "broken.json"
    broken.write_text('{"version": 1, "units": [')
    with pytest.raises(InputError, match="broken.json"):
        Machine.open(broken)


def test_a_walk_tells_every_entry(memory: Memory) -> None:
    tables = VTdTables(memory)
    tables.map("00:03.0", 0x1000, 0x8000, 0x1000)
    walk = tables.machine().walk(memory, "00:03.0", 0x1040, write=True)
    assert [step.name for step in walk.steps] == [
        "root entry",
        "context entry",
        "SS-PML4E",
        "SS-PDPE",
        "SS-PDE",
        "SS-PTE",
    ]
    assert [step.level for step in walk.steps] == [None, None, 4, 3, 2, 1]
    leaf = walk.steps[-1]
    assert leaf.words == (memory.read_quadword(leaf.address),) == (0x8003,)
    assert "ADDR=0x8000" in leaf.fields and leaf.specification and leaf.index == 1
    assert len(walk.steps[0].words) == 2
    assert walk.end == Mapped(0x8040, 0xFC0)
    assert str(walk).splitlines()[-1] == "0x8040"
    fault = tables.machine().walk(memory, "00:03.0", 0x5000).end
    assert isinstance(fault, Fault) and fault.number == 6


def test_maps_tell_every_run(memory: Memory) -> None:
    tables = VTdTables(memory)
    tables.map("00:03.0", 0x1000, 0x8000, 0x2000)
    tables.map("00:03.0", 0x5000, 0xA000, 0x1000, write=False)
    machine = tables.machine()
    maps = machine.maps(memory)
    assert [(run.owner, run.iova, run.physical, run.byte_count, run.access) for run in maps] == [
        ("00:03.0", 0x1000, 0x8000, 0x2000, "rw"),
        ("00:03.0", 0x5000, 0xA000, 0x1000, "r-"),
    ]
    assert maps.is_complete and maps.unknown == () and len(maps) == 2 and maps[-1:] == (maps[1],)
    cut = machine.maps(memory, limit=1)
    assert len(cut) == 1 and not cut.is_complete
    assert machine.maps(memory, limit=2).is_complete
    assert len(machine.maps(memory, limit=0)) == 0


def test_maps_tell_of_shared_tables_and_passages(memory: Memory) -> None:
    tables = VTdTables(memory)
    domain = tables.create_domain()
    domain.map(0x1000, 0x8000, 0x1000)
    tables.bind("00:03.0", domain)
    tables.bind("00:04.0", domain)
    from iommutables import DomainKind

    tables.bind("00:05.0", tables.create_domain(DomainKind.PASS_THROUGH))
    by_owner = {run.owner: run for run in tables.machine().maps(memory)}
    assert by_owner["00:04.0"].same_as == "00:03.0"
    assert by_owner["00:05.0"].is_pass_through and by_owner["00:05.0"].access == "rw"


def test_the_rule_is_judged(examples: Path, memory: Memory) -> None:
    dump = Memory.open(examples / "play" / "vtd.elf")
    machine = Machine.open(examples / "play" / "vtd.json")
    assert machine.verify(dump).conclusion == Outcome.UNKNOWN
    found = machine.verify(dump, ["00:03.0", "01:01.0", "02:01.0"])
    assert found.conclusion == Outcome.HOLDS
    assert [verdict.rule for verdict in found.verdicts] == list(range(1, 14))
    assert found.verdicts[0].statement
    machine.set_crash_kernel([(0x20000000, 0x8000000)])
    broken = machine.verify(dump, ["01:01.0"])
    assert broken.conclusion == Outcome.BROKEN
    assert any(verdict.findings for verdict in broken.verdicts if verdict.outcome == Outcome.BROKEN)
    bare = Machine()
    bare.add_vtd(base=0, root_table_address=0)
    with pytest.raises(NotFoundError, match="crash kernel"):
        bare.verify(memory)
    with pytest.raises(TypeError, match="give a list of devices"):
        machine.verify(dump, "01:01.0")


def test_a_crash_kernel_is_ranges() -> None:
    machine = Machine()
    with pytest.raises(TypeError, match="pairs of address and size"):
        machine.set_crash_kernel([0x1000])  # type: ignore[list-item]
    with pytest.raises(ArgumentError):
        machine.set_crash_kernel([((1 << 64) - 1, 2)])


def test_memory_without_tables_has_no_machine(memory: Memory) -> None:
    assert memory.find() == []
    with pytest.raises(NotFoundError, match="machine file"):
        Machine.find(memory)


def test_a_closed_machine_says_so(memory: Memory) -> None:
    machine = Machine()
    machine.close()
    assert repr(machine) == "<Machine (closed)>"
    calls: Any = [
        lambda: machine.unit_count,
        lambda: machine.maps(memory),
        lambda: machine.walk(memory, "00:03.0", 0),
        lambda: machine.verify(memory),
        lambda: machine.translator(memory, "00:03.0"),
        lambda: machine.add_vtd(base=0, root_table_address=0),
        lambda: machine.set_crash_kernel([]),
    ]
    for call in calls:
        with pytest.raises(HandleError, match="the machine is closed"):
            call()


def test_a_walk_in_a_closed_memory_says_so(memory: Memory) -> None:
    machine = Machine()
    memory.close()
    for call in (machine.maps, machine.verify):
        with pytest.raises(HandleError, match="the memory is closed"):
            call(memory)
    with pytest.raises(TypeError, match="give a Memory"):
        machine.maps(None)  # type: ignore[arg-type]


def test_errors_are_of_one_family() -> None:
    with pytest.raises(IOMMUError) as caught:
        Machine.open("nowhere.json")
    assert caught.value.message == str(caught.value)
    assert isinstance(caught.value, InputError) and caught.value.status.name == "INPUT"
