"""The plug-in for drgn, on a real vmcore."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Set

import pytest

from iommutables import Machine, Memory, UnsupportedError

drgn = pytest.importorskip("drgn")

from iommutables import drgn as plugin  # noqa: E402
from iommutables._pages import PageReader  # noqa: E402


@pytest.fixture
def vmcore(examples: Path) -> Path:
    """Debian's 6.1.0-56-amd64 after a panic, the pages that matter."""
    return examples / "vmcore" / "vmcore.kdump"


@pytest.fixture
def program(vmcore: Path) -> Any:
    found = drgn.Program()
    found.set_core_dump(str(vmcore))
    return found


def test_memory_through_drgn_is_the_files(program: Any, vmcore: Path) -> None:
    through = plugin.memory(program)
    straight = Memory.open(vmcore)
    assert through.ranges == straight.ranges
    assert through.find() == straight.find()
    at = straight.find()[0].address
    assert through.read(at, 4096) == straight.read(at, 4096)
    assert through.readinto(0xF0000000, bytearray(16)) == 0
    machine = plugin.machine(program)
    assert machine.maps(through) == Machine.find(straight).maps(straight)
    assert machine.walk(through, "00:03.0", 0xFFEFD123).steps == (
        Machine.find(straight).walk(straight, "00:03.0", 0xFFEFD123).steps
    )


def test_without_a_file_tables_are_found_by_structure(vmcore: Path) -> None:
    straight = Memory.open(vmcore)
    bare = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))

    def read(address: int, count: int, offset: int, physical: bool) -> bytes:
        return straight.read(address, count)

    for one in straight.ranges:
        bare.add_memory_segment(one.address, one.size, read, True)
    with pytest.raises(UnsupportedError, match="give ranges="):
        plugin.memory(bare)
    through = plugin.memory(bare, straight.ranges)
    assert through.find() == straight.find()
    assert plugin.machine(bare, through).maps(through) == Machine.find(straight).maps(straight)


def test_what_drgn_cannot_read_is_not_swallowed() -> None:
    bare = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))

    def read(address: int, count: int, offset: int, physical: bool) -> bytes:
        raise OSError("the disk is gone")

    bare.add_memory_segment(0, 1 << 20, read, True)
    through = plugin.memory(bare, [(0, 1 << 20)])
    with pytest.raises(OSError, match="the disk is gone"):
        through.find()


class Types:
    """Types and variables of a kernel, by the offsets that its BTF has."""

    def __init__(self, program: Any, unit_members: Dict[str, Any]) -> None:
        self.program = program
        u16, u32 = program.int_type("u16", 2, False), program.int_type("u32", 4, False)
        u64, pointer = program.int_type("u64", 8, False), program.pointer_type(program.void_type())
        self.known: Dict[str, Any] = {"u16": u16, "u32": u32, "u64": u64, "pointer": pointer}
        self.known["int"] = program.int_type("int", 4, True)
        self.known["list"] = program.struct_type(
            "list_head", 16, [self.member(pointer, "next", 0), self.member(pointer, "prev", 8)]
        )
        # list_for_each_entry goes by the type of `next`.
        heads: List[Any] = []
        head = program.struct_type(
            "list_head",
            16,
            [
                drgn.TypeMember(lambda: program.pointer_type(heads[0]), "next", 0),
                drgn.TypeMember(lambda: program.pointer_type(heads[0]), "prev", 64),
            ],
        )
        heads.append(head)
        self.known["list"] = head
        self.variables: Dict[str, Any] = {}

    def member(self, kind: Any, name: str, offset: int) -> Any:
        return drgn.TypeMember(kind, name, offset * 8)

    def structure(self, tag: str, size: int, members: Dict[str, Any]) -> Any:
        made = self.program.struct_type(
            tag,
            size,
            [
                self.member(self.known[kind] if isinstance(kind, str) else kind, name, offset)
                for name, (kind, offset) in members.items()
            ],
        )
        self.known[tag] = made
        return made

    def enable(self) -> None:
        def find_type(
            program: Any, kinds: Any, name: str, filename: Optional[str]
        ) -> Optional[Any]:
            found = self.known.get(name)
            return found if found is not None and found.kind in kinds else None

        def find_object(
            program: Any, name: str, flags: Any, filename: Optional[str]
        ) -> Optional[Any]:
            return self.variables.get(name)

        self.program.register_type_finder("test", find_type, enable_index=0)
        self.program.register_object_finder("test", find_object, enable_index=0)


def symbols(program: Any) -> Any:
    from drgn.helpers.linux.kallsyms import load_vmlinux_kallsyms

    index = load_vmlinux_kallsyms(program)
    program.register_symbol_finder("kallsyms", index, enable_index=0)
    return lambda name: program.symbol(name).address


def test_units_are_read_from_the_kernels_structures(program: Any, monkeypatch: Any) -> None:
    """As with debugging information: members lie where Debian's 6.1.0-56-amd64 has them."""
    at = symbols(program)
    types = Types(program, {})
    table = types.structure("ir_table", 16, {"base": ("pointer", 0)})
    unit = types.structure(
        "intel_iommu",
        392,
        {
            "reg_phys": ("u64", 8),
            "cap": ("u64", 24),
            "ecap": ("u64", 32),
            "gcmd": ("u32", 48),
            "segment": ("u16", 76),
            "root_entry": ("pointer", 120),
            "ir_table": (program.pointer_type(table), 296),
        },
    )
    types.structure(
        "dmar_drhd_unit", 56, {"list": ("list", 0), "iommu": (program.pointer_type(unit), 48)}
    )
    types.variables = {
        "dmar_drhd_units": drgn.Object(program, types.known["list"], address=at("dmar_drhd_units")),
        "intel_iommu_sm": drgn.Object(program, types.known["int"], 1),
    }
    types.enable()
    # page_offset_base, which is not among the pages.
    monkeypatch.setattr(plugin, "_physical", lambda pointer: pointer.value_() - 0xFFFF8DBCC0000000)

    class Seen:
        def __init__(self) -> None:
            self.units: List[Dict[str, int]] = []

        def add_vtd(self, **registers: int) -> None:
            self.units.append(registers)

    seen = Seen()
    plugin._add_vtd(program, seen)  # type: ignore[arg-type]
    # The registers of QEMU's unit when the kernel panicked.
    assert seen.units == [
        {
            "base": 0xFED90000,
            "root_table_address": 0xFF8E000,
            "capability": 0xD2008C222F0606,
            "extended_capability": 0xF00F4A,
            "interrupt_table_address": 0x180000F,
            "global_status": 0xC7000000,
            "segment": 0,
        }
    ]
    assert plugin.machine(program).unit_count == 1


def test_units_of_amdvi_are_read_from_the_kernels_structures(monkeypatch: Any) -> None:
    ram = bytearray(1 << 16)
    program = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))

    def read(address: int, count: int, offset: int, physical: bool) -> bytes:
        return bytes(ram[address : address + count])

    program.add_memory_segment(0, len(ram), read, False)
    program.add_memory_segment(0, len(ram), read, True)
    monkeypatch.setattr(plugin, "_physical", lambda pointer: pointer.value_())
    types = Types(program, {})
    segment = types.structure(
        "amd_iommu_pci_seg",
        96,
        {"id": ("u16", 24), "dev_table_size": ("u32", 28), "dev_table": ("pointer", 40)},
    )
    types.structure(
        "amd_iommu",
        1240,
        {
            "list": ("list", 0),
            "mmio_phys": ("u64", 40),
            "features": ("u64", 72),
            "pci_seg": (program.pointer_type(segment), 96),
        },
    )
    types.variables = {"amd_iommu_list": drgn.Object(program, types.known["list"], address=0x100)}
    types.enable()

    def store(address: int, value: int) -> None:
        ram[address : address + 8] = value.to_bytes(8, "little")

    store(0x100, 0x1000)
    store(0x108, 0x1000)
    store(0x1000, 0x100)
    store(0x1008, 0x100)
    store(0x1000 + 40, 0xFEB80000)
    store(0x1000 + 72, 0x25BF732FA2295AFE)
    store(0x1000 + 96, 0x2000)
    store(0x2000 + 24, 1 | 0x200000 << 32)
    store(0x2000 + 40, 0x4000)

    class Seen:
        def add_amdvi(self, **registers: int) -> None:
            self.registers = registers

    seen = Seen()
    plugin._add_amdvi(program, seen)  # type: ignore[arg-type]
    assert seen.registers == {
        "base": 0xFEB80000,
        # 2 MiB of device table: 512 pages.
        "device_table_base": 0x4000 | 511,
        "extended_features": 0x25BF732FA2295AFE,
        "segment": 1,
    }


def test_ram_is_read_from_the_running_kernel(tmp_path: Path) -> None:
    iomem = tmp_path / "iomem"
    iomem.write_text(
        "00000000-00000fff : Reserved\n"
        "00001000-0009fbff : System RAM\n"
        "00100000-17efffff : System RAM\n"
        "  01000000-01c01fff : Kernel code\n"
        "17f00000-17ffffff : System RAM\n"
    )
    assert list(plugin._iomem(str(iomem))) == [(0x1000, 0x9EC00), (0x100000, 0x17F00000)]
    iomem.write_text("00000000-00000000 : System RAM\n")
    assert list(plugin._iomem(str(iomem))) == []
    assert list(plugin._iomem(str(tmp_path / "nowhere"))) == []


def test_the_command(program: Any, capsys: Any) -> None:
    commands = pytest.importorskip("drgn.commands")
    assert commands.run_command(program, "iommu find") == 0
    assert capsys.readouterr().out.startswith("0xff8e000  VT-d root table")
    assert commands.run_command(program, "iommu walk 00:03.0 0xffefd123 --write") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0x17bba123"
    assert commands.run_command(program, "iommu walk 00:03.0 0x1000") == 1
    assert commands.run_command(program, "iommu dance") == 64
    assert commands.run_command(program, "iommu walk nobody 0") == 2
    assert "bus:device.function" in capsys.readouterr().out


def test_drgn_finds_it_by_its_entry_point(vmcore: Path) -> None:
    import importlib.metadata

    try:
        importlib.metadata.distribution("iommutables")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package is not installed")
    script = (
        "import drgn, sys; prog = drgn.Program(); prog.set_core_dump(sys.argv[1]); "
        "from drgn.commands import run_command; sys.exit(run_command(prog, 'iommu find'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(vmcore)], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.startswith("0xff8e000"), done.stderr


@pytest.mark.parametrize("folder", ["vtd-crash-full", "vtd-full"])
def test_whole_dumps_of_guests(folder: str) -> None:
    """Dumps that are kept outside of this project, with machine files that say what registers held."""
    data = Path(os.environ.get("IOMMU_DATA", "nowhere")) / "oracle-2" / "linux-full" / folder
    dumps = list(data.glob("vmcore.kdump")) + list(data.glob("full.kdump"))
    if not dumps:
        if os.environ.get("IOMMU_REQUIRE_DATA") == "1":
            pytest.fail(f"no {data}, and IOMMU_REQUIRE_DATA is 1")
        pytest.skip("the data is not here")
    program = drgn.Program()
    program.set_core_dump(str(dumps[0]))
    through = plugin.memory(program)
    straight = Memory.open(dumps[0])
    assert through.find() == straight.find()
    wanted = Machine.open(data / "machine.json").maps(straight)
    assert plugin.machine(program).maps(through).mappings == wanted.mappings


# What the reader below does


class Missing(Exception):
    pass


def reader(pages: Set[int], asked: List[int], is_constant: bool) -> PageReader:
    def read(address: int, size: int) -> bytes:
        asked.append(address)
        for page in range(address >> 12, (address + size - 1 >> 12) + 1):
            if page not in pages:
                raise Missing
        return bytes((address + at >> 12) & 0xFF for at in range(size))

    return PageReader(read, (Missing,), is_constant)


@pytest.mark.parametrize("is_constant", [False, True])
def test_pages_are_read_up_to_one_that_is_missing(is_constant: bool) -> None:
    asked: List[int] = []
    read = reader({1, 2, 4}, asked, is_constant)
    assert read(0x1FFC, 8) == b"\1\1\1\1\2\2\2\2"
    assert read(0x2FFC, 8) == b"\2\2\2\2"
    assert read(0x3000, 8) == b""
    assert len(read(0x1000, 0x4000)) == 0x2000
    assert read(0x4000, 0x1000) == b"\4" * 4096
    assert read(0, 0) == b""


def test_pages_of_a_dump_are_asked_for_once() -> None:
    asked: List[int] = []
    read = reader({1}, asked, True)
    for address in range(0x1000, 0x2000, 8):
        read(address, 8)
    assert asked == [0x1000]
    live = reader({1}, asked, False)
    live(0x1008, 8)
    live(0x1008, 8)
    assert asked[1:] == [0x1008, 0x1008]


def test_no_more_pages_are_remembered_than_that() -> None:
    read = PageReader(lambda address, size: bytes(size), (Missing,), True)
    for page in range(10_000):
        read(page << 12, 8)
    assert len(read._pages) <= 4096
