"""Machines: which units there are, what their registers hold, and what that comes to."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Any, Iterable, List, Optional, Sequence, Union

from . import _abi
from ._abi import lib
from ._objects import Closable, c_text, check, guarded, pasid_number, reference, text, unsigned
from .devices import DeviceLike, device_number
from .errors import Status
from .memory import Memory
from .values import (
    Bridge,
    Mapping,
    Maps,
    Outcome,
    RangeLike,
    Verdict,
    Verification,
    Walk,
    WalkStep,
    access_number,
    c_bridges,
    c_ranges,
    new_translation,
    translation_of_c,
)

if TYPE_CHECKING:
    from .translator import Translator


class Machine(Closable):
    """Which units there are and what their registers hold.

    A new one has no units, and its devices see physical addresses.

    >>> machine = Machine()
    >>> machine.add_vtd(base=0xfed90000, root_table_address=0x6a04000)
    >>> machine.unit_count
    1
    """

    _noun = "the machine"

    def __init__(self) -> None:
        place = ctypes.c_void_p()
        check(lib.iommu_machine_create(ctypes.byref(place)))
        self._take(place, lib.iommu_machine_free)

    @classmethod
    def _made(cls, place: ctypes.c_void_p) -> Machine:
        machine = cls.__new__(cls)
        machine._take(place, lib.iommu_machine_free)
        return machine

    @classmethod
    def open(cls, path: Union[str, os.PathLike[str]]) -> Machine:
        """What a machine file says.

        Raises:
            InputError: The file cannot be read, or is no machine file.
        """
        place = ctypes.c_void_p()
        check(lib.iommu_machine_open(c_text(os.fspath(path), "path"), ctypes.byref(place)))
        return cls._made(place)

    @classmethod
    def find(cls, memory: Memory) -> Machine:
        """What a dump tells by itself: what its kernel says of its units, or the tables that are certainly some.

        Raises:
            NotFoundError: There is none.
        """
        place = ctypes.c_void_p()
        check(lib.iommu_machine_find(reference(memory, Memory, "memory"), ctypes.byref(place)))
        return cls._made(place)

    @property
    def unit_count(self) -> int:
        """The number of units."""
        count = ctypes.c_size_t()
        check(lib.iommu_machine_unit_count(self._ref(), ctypes.byref(count)))
        return count.value

    def __repr__(self) -> str:
        if self.closed:
            return super().__repr__()
        count = self.unit_count
        return f"<Machine with {count} unit{'' if count == 1 else 's'}>"

    # Registers

    def add_vtd(
        self,
        *,
        base: int,
        root_table_address: int,
        capability: int = 0,
        extended_capability: int = 0,
        interrupt_table_address: int = 0,
        global_status: int = 0,
        host_address_width: int = 0,
        segment: int = 0,
    ) -> None:
        """Adds a VT-d unit by its registers (Intel VT-d 11.4).

        Args:
            base: Where the registers lie: the unit's name.
            root_table_address: RTADDR_REG.
            capability: CAP_REG; with `extended_capability` 0 too: everything that is legal.
            extended_capability: ECAP_REG.
            interrupt_table_address: IRTA_REG.
            global_status: GSTS_REG; 0: DMA remapping is on and nothing else.
            host_address_width: Bits of a physical address, 32 to 52; 0 for 52.
            segment: The PCI segment of its devices.
        """
        registers = _abi.VTdRegisters(
            size=ctypes.sizeof(_abi.VTdRegisters),
            base=unsigned(base, "base"),
            root_table_address=unsigned(root_table_address, "root_table_address"),
            capability=unsigned(capability, "capability"),
            extended_capability=unsigned(extended_capability, "extended_capability"),
            interrupt_table_address=unsigned(interrupt_table_address, "interrupt_table_address"),
            global_status=unsigned(global_status, "global_status", 32),
            host_address_width=unsigned(host_address_width, "host_address_width", 32),
            segment=unsigned(segment, "segment", 32),
        )
        check(lib.iommu_machine_add_vtd(self._ref(), ctypes.byref(registers)))

    def add_amdvi(
        self,
        *,
        base: int,
        device_table_base: int,
        control: int = 0,
        extended_features: int = 0,
        segment: int = 0,
    ) -> None:
        """Adds an AMD-Vi unit by its registers (AMD IOMMU 3.4).

        Args:
            base: Where the registers lie.
            device_table_base: Device Table Base Address Register.
            control: IOMMU Control Register; 0: IommuEn and GTEn.
            extended_features: Extended Feature Register; 0: it is not known.
            segment: The PCI segment of its devices.
        """
        registers = _abi.AMDViRegisters(
            size=ctypes.sizeof(_abi.AMDViRegisters),
            base=unsigned(base, "base"),
            device_table_base=unsigned(device_table_base, "device_table_base"),
            control=unsigned(control, "control"),
            extended_features=unsigned(extended_features, "extended_features"),
            segment=unsigned(segment, "segment", 32),
        )
        check(lib.iommu_machine_add_amdvi(self._ref(), ctypes.byref(registers)))

    def add_calgary(
        self, *, base: int, bridges: Sequence[Bridge], is_calioc2: bool = False
    ) -> None:
        """Adds a Calgary or CalIOC2 chip by the registers of its one to four host bridges."""
        array = c_bridges(bridges)
        registers = _abi.CalgaryRegisters(
            size=ctypes.sizeof(_abi.CalgaryRegisters),
            base=unsigned(base, "base"),
            bridges=array,
            bridge_count=len(array),
            is_calioc2=int(bool(is_calioc2)),
        )
        check(lib.iommu_machine_add_calgary(self._ref(), ctypes.byref(registers)))

    def add_gart(
        self,
        *,
        aperture_control: int,
        aperture_base: int,
        table_base: int,
        requester: int = 0,
    ) -> None:
        """Adds a northbridge with a GART (AMD BKDG, function 3: 0x90, 0x94, 0x98).

        Args:
            aperture_control: Register 0x90.
            aperture_base: Register 0x94.
            table_base: Register 0x98.
            requester: The requester-id of function 3; 0 for 00:18.3.
        """
        registers = _abi.GARTRegisters(
            size=ctypes.sizeof(_abi.GARTRegisters),
            requester=unsigned(requester, "requester", 16),
            aperture_control=unsigned(aperture_control, "aperture_control", 32),
            aperture_base=unsigned(aperture_base, "aperture_base", 32),
            table_base=unsigned(table_base, "table_base", 32),
        )
        check(lib.iommu_machine_add_gart(self._ref(), ctypes.byref(registers)))

    def set_crash_kernel(self, ranges: Iterable[RangeLike]) -> None:
        """Says where the crash kernel lies, in pairs of address and size; takes the place of what was known."""
        array = c_ranges(ranges, "ranges")
        check(lib.iommu_machine_set_crash_kernel(self._ref(), array, len(array)))

    # Questions

    def translator(
        self, memory: Memory, device: DeviceLike, *, pasid: Optional[int] = None
    ) -> Translator:
        """The tables of a device, to translate through many times."""
        from .translator import Translator

        return Translator(self, memory, device, pasid=pasid)

    def walk(
        self,
        memory: Memory,
        device: DeviceLike,
        iova: int,
        *,
        write: bool = False,
        pasid: Optional[int] = None,
    ) -> Walk:
        """Follows one request, entry by entry."""
        steps: List[WalkStep] = []

        def add(entry: Any, context: object) -> int:
            told = entry.contents
            steps.append(
                WalkStep(
                    text(told.name),
                    told.address,
                    told.index,
                    told.level or None,
                    tuple(told.words[: told.word_count]),
                    text(told.fields),
                    text(told.meaning),
                    text(told.specification),
                )
            )
            return 0

        end = new_translation()
        check(
            lib.iommu_walk(
                self._ref(),
                reference(memory, Memory, "memory"),
                device_number(device),
                pasid_number(pasid),
                unsigned(iova, "iova"),
                access_number(write),
                _abi.STEP(guarded(1, add)),
                None,
                ctypes.byref(end),
            )
        )
        return Walk(tuple(steps), translation_of_c(end))

    def maps(self, memory: Memory, *, limit: Optional[int] = None) -> Maps:
        """Every mapping of every table, ascending by IOVA within each; with `limit` no more than so many."""
        mappings: List[Mapping] = []
        unknown: List[str] = []
        most = None if limit is None else unsigned(limit, "limit")

        def add(entry: Any, context: object) -> int:
            if most is not None and len(mappings) >= most:
                return 1
            told = entry.contents
            mappings.append(
                Mapping(
                    text(told.owner),
                    told.iova,
                    told.physical,
                    told.byte_count,
                    bool(told.can_read),
                    bool(told.can_write),
                    None if told.same_as is None else text(told.same_as),
                    bool(told.is_pass_through),
                )
            )
            return 0

        def add_unknown(line: bytes, context: object) -> int:
            unknown.append(text(line))
            return 0

        status = lib.iommu_maps(
            self._ref(),
            reference(memory, Memory, "memory"),
            _abi.MAPPING(guarded(1, add)),
            _abi.TEXT(guarded(1, add_unknown)),
            None,
        )
        is_cut = status == Status.STOPPED
        check(Status.OK if is_cut else status)
        return Maps(tuple(mappings), tuple(unknown), not is_cut)

    def verify(self, memory: Memory, devices: Iterable[DeviceLike] = ()) -> Verification:
        """Judges the machine by the thirteen checks of the Kdump IO Rule.

        Args:
            memory: Its memory.
            devices: What the kdump kernel needs; none for all devices that have a table.

        Raises:
            NotFoundError: Nothing says where the crash kernel is.
        """
        if isinstance(devices, str):
            raise TypeError(f"devices is the text {devices!r}: give a list of devices")
        numbers = [device_number(device) for device in devices]
        verdicts: List[Verdict] = []

        def add(entry: Any, context: object) -> int:
            told = entry.contents
            verdicts.append(
                Verdict(
                    told.rule,
                    Outcome(told.outcome),
                    text(told.statement),
                    tuple(text(told.findings).splitlines()),
                )
            )
            return 0

        conclusion = ctypes.c_int32()
        check(
            lib.iommu_verify(
                self._ref(),
                reference(memory, Memory, "memory"),
                (ctypes.c_uint64 * len(numbers))(*numbers),
                len(numbers),
                _abi.VERDICT(guarded(1, add)),
                None,
                ctypes.byref(conclusion),
            )
        )
        return Verification(Outcome(conclusion.value), tuple(verdicts))
