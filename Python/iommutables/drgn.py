"""drgn's view of a kernel as memory and machine, and `%iommu` for its command line.

drgn finds this by itself where the package is installed (entry points of the group "drgn.plugins").
"""

from __future__ import annotations

import argparse
import contextlib
from typing import Any, Iterable, Iterator, List, Optional, Sequence

import drgn

from . import __main__ as command_line
from ._pages import PageReader
from .errors import IOMMUError, NotFoundError, UnsupportedError
from .machine import Machine
from .memory import Memory
from .values import Range, RangeLike

__all__ = ["machine", "memory"]


def memory(program: drgn.Program, ranges: Optional[Iterable[RangeLike]] = None) -> Memory:
    """The physical memory of a program, read by `program.read`. Nothing is written.

    Args:
        program: A kernel: a dump, the one that runs, a virtual machine.
        ranges: Where there is RAM, in pairs of address and size. Without it: what the dump's file has, or
            what the kernel's iomem_resource says where drgn knows types, or /proc/iomem of the kernel that
            runs.

    Raises:
        UnsupportedError: Nothing says where there is RAM.
    """
    is_live = bool(program.flags & drgn.ProgramFlags.IS_LIVE)
    reader = PageReader(
        lambda address, size: program.read(address, size, True), (drgn.FaultError,), not is_live
    )
    given = _ranges(program) if ranges is None else list(ranges)
    return Memory.from_calls(read=reader, ranges=given, is_dump=True)


def machine(program: drgn.Program, memory: Optional[Memory] = None) -> Machine:
    """The units of a program's kernel.

    With debugging information: from `dmar_drhd_units` and `amd_iommu_list`, the registers as the kernel has
    set them. Without: what the library itself finds in the dump's file, by BTF and symbols of the kernel in
    it. Else the tables in memory that are certainly some.

    Raises:
        NotFoundError: There are none.
    """
    found = Machine()
    _add_vtd(program, found)
    _add_amdvi(program, found)
    if found.unit_count:
        return found
    path = program.core_dump_path
    if path is not None:
        with contextlib.suppress(IOMMUError):
            with Memory.open(path) as dump:
                return Machine.find(dump)
    return Machine.find(memory if memory is not None else _memory(program))


_memory = memory


# Ranges


def _ranges(program: drgn.Program) -> List[Range]:
    path = program.core_dump_path
    if path is not None:
        with contextlib.suppress(IOMMUError):
            with Memory.open(path) as dump:
                return list(dump.ranges)
    found = list(_resources(program))
    local = drgn.ProgramFlags.IS_LIVE | drgn.ProgramFlags.IS_LOCAL
    if not found and program.flags & local == local:
        found = list(_iomem())
    if not found:
        raise UnsupportedError(
            "neither the dump's file nor types of the kernel say where there is RAM: give ranges=, as in "
            "[(0x100000, 0x7ff00000)]"
        )
    return found


def _joined(ranges: Iterable[Range]) -> Iterator[Range]:
    """Ascending ranges, with those that touch made one."""
    last: Optional[Range] = None
    for one in sorted(ranges):
        if last is not None and one.address <= last.address + last.size:
            last = Range(last.address, max(last.size, one.address + one.size - last.address))
            continue
        if last is not None:
            yield last
        last = one
    if last is not None:
        yield last


def _resources(program: drgn.Program) -> Iterator[Range]:
    """RAM by the kernel's tree of resources."""
    found: List[Range] = []
    try:
        resource = program["iomem_resource"].child
        while resource:
            if resource.name.string_() == b"System RAM":
                start, end = resource.start.value_(), resource.end.value_()
                found.append(Range(start, end + 1 - start))
            resource = resource.sibling
    except LookupError:
        return iter(())
    return _joined(found)


def _iomem(path: str = "/proc/iomem") -> Iterator[Range]:
    """RAM by /proc/iomem, which says zeros to whoever is not root."""
    found: List[Range] = []
    with contextlib.suppress(OSError):
        with open(path) as lines:
            for line in lines:
                place, _, name = line.partition(" : ")
                if name.strip() == "System RAM" and not line.startswith(" "):
                    start, _, end = place.partition("-")
                    if int(end, 16):
                        found.append(Range(int(start, 16), int(end, 16) + 1 - int(start, 16)))
    return _joined(found)


# Units


def _physical(pointer: drgn.Object) -> int:
    from drgn.helpers.linux.mm import virt_to_phys

    return int(virt_to_phys(pointer).value_())


def _has(found: drgn.Object, name: str) -> bool:
    """Whether a structure, or what a pointer leads to, has a member."""
    kind = found.type_
    if kind.kind == drgn.TypeKind.POINTER:
        kind = kind.type
    while kind.kind == drgn.TypeKind.TYPEDEF:
        kind = kind.type
    return bool(kind.has_member(name))


def _add_vtd(program: drgn.Program, found: Machine) -> None:
    """Units of `dmar_drhd_units`."""
    from drgn.helpers.linux.list import list_for_each_entry

    try:
        units = program["dmar_drhd_units"]
        kind = program.type("struct dmar_drhd_unit")
    except LookupError:
        return
    is_scalable_wanted = False
    with contextlib.suppress(LookupError):
        # Scalable mode is the kernel's choice, and the unit's (ECAP_REG.SMTS).
        is_scalable_wanted = bool(program["intel_iommu_sm"].value_())
    for entry in list_for_each_entry(kind, units.address_of_(), "list"):
        unit = entry.iommu
        if not unit or not unit.root_entry:
            continue
        extended = unit.ecap.value_()
        root = _physical(unit.root_entry)
        if is_scalable_wanted and extended >> 43 & 1:
            root |= 1 << 10
        # What the driver has written to GCMD_REG last: enables have the same places in GSTS_REG, and RTPS
        # says that the root table was given.
        status = unit.gcmd.value_() & 0x96800000 | 1 << 30
        interrupts = 0
        if _has(unit, "ir_table") and unit.ir_table:
            status |= 1 << 24
            # IRTA_REG: 2^16 entries.
            interrupts = _physical(unit.ir_table.base) | 0xF
        found.add_vtd(
            base=unit.reg_phys.value_(),
            root_table_address=root,
            capability=unit.cap.value_(),
            extended_capability=extended,
            interrupt_table_address=interrupts,
            global_status=status,
            segment=unit.segment.value_(),
        )


def _add_amdvi(program: drgn.Program, found: Machine) -> None:
    """Units of `amd_iommu_list`."""
    from drgn.helpers.linux.list import list_for_each_entry

    try:
        units = program["amd_iommu_list"]
        kind = program.type("struct amd_iommu")
    except LookupError:
        return
    for unit in list_for_each_entry(kind, units.address_of_(), "list"):
        segment = 0
        # Since Linux 6.0 each PCI segment has a table of its own.
        if _has(unit, "pci_seg"):
            table, size = unit.pci_seg.dev_table, unit.pci_seg.dev_table_size.value_()
            segment = unit.pci_seg.id.value_()
        else:
            table, size = program["amd_iommu_dev_table"], program["dev_table_size"].value_()
        if not table:
            continue
        found.add_amdvi(
            base=unit.mmio_phys.value_(),
            # Bits 8:0: pages of 4 KiB, less one.
            device_table_base=_physical(table) | (size >> 12) - 1,
            extended_features=unit.features.value_(),
            segment=segment,
        )


# The command


def run(program: drgn.Program, arguments: Sequence[str]) -> int:
    """`%iommu find|maps|walk|verify`, as `python3 -m iommutables` has them."""
    options: argparse.Namespace
    try:
        options = command_line.parse_in_debugger(arguments)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 64
    try:
        with memory(program) as found:
            return command_line.run(options, found, lambda: machine(program, found))
    except (IOMMUError, drgn.FaultError) as error:
        print(f"error: {error}")
        return 2


def _register() -> None:
    try:
        from drgn.commands import custom_command, parse_shell_command
    except ImportError:
        # drgn before 0.1 has no commands; memory() and machine() are all there is.
        return

    @custom_command(
        name="iommu",
        description="look at IOMMU tables: find, maps, walk, verify",
        usage="**iommu** [*command*] [*argument* ...]",
        long_description="""
        *find* (also without a command) looks for tables by their structure alone, *maps* lists every mapping,
        *walk* follows one request entry by entry, *verify* judges by the Kdump IO Rule. ``%iommu --help`` and
        ``%iommu walk --help`` have the arguments.
        """,
        parse=parse_shell_command,
    )
    def _command(program: drgn.Program, name: str, arguments: Any, **more: Any) -> int:
        return run(program, arguments)


_register()
