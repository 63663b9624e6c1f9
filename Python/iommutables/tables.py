"""Building tables."""

from __future__ import annotations

import ctypes
import enum
from typing import Callable, Optional, Sequence, Tuple

from . import _abi
from ._abi import lib
from ._objects import Closable, Turn, check, pasid_number, reference, unsigned
from .devices import DeviceLike, device_number
from .machine import Machine
from .memory import Memory
from .values import Bridge, RangeLike, c_bridges, c_ranges

_READ = 1
_WRITE = 2
_LARGEST_PAGES = 0x100
_REMAP = 0x200


def _flags(read: bool, write: bool, largest: bool, remap: bool) -> int:
    return (
        (_READ if read else 0)
        | (_WRITE if write else 0)
        | (_LARGEST_PAGES if largest else 0)
        | (_REMAP if remap else 0)
    )


def _table_range(given: Optional[RangeLike]) -> _abi.Range:
    return _abi.Range() if given is None else c_ranges([given], "table_range")[0]


class Tables(Closable):
    """The tables of one unit, in a memory that can be written. One thread at a time changes them; others wait."""

    _noun = "the tables"

    def __init__(self) -> None:
        raise TypeError("make tables with VTdTables, AMDViTables, CalgaryTables or GARTTables")

    def _start(self, memory: Memory, create: Callable[..., int], options: ctypes.Structure) -> None:
        place = ctypes.c_void_p()
        check(create(reference(memory, Memory, "memory"), ctypes.byref(options), ctypes.byref(place)))
        self._take(place, lib.iommu_tables_free)
        self._turn = Turn("the tables")

    @property
    def root(self) -> int:
        """What a live unit wants in its register to use the tables.

        RTADDR_REG of VT-d, the Device Table Base Address Register of AMD-Vi; of Calgary TAR of the first
        bridge, of GART function 3's register 0x98.
        """
        value = ctypes.c_uint64()
        with self._turn:
            check(lib.iommu_tables_root(self._ref(), ctypes.byref(value)))
        return value.value

    def machine(self) -> Machine:
        """The unit with its registers as they stand when it translates through the tables."""
        place = ctypes.c_void_p()
        with self._turn:
            check(lib.iommu_tables_machine(self._ref(), ctypes.byref(place)))
        return Machine._made(place)

    def _map(
        self, device: DeviceLike, pasid: Optional[int], iova: int, physical: int, size: int, flags: int
    ) -> None:
        with self._turn:
            check(
                lib.iommu_tables_map(
                    self._ref(),
                    device_number(device),
                    pasid_number(pasid),
                    unsigned(iova, "iova"),
                    unsigned(physical, "physical"),
                    unsigned(size, "size"),
                    flags,
                )
            )

    def _map_identity(
        self, device: DeviceLike, pasid: Optional[int], physical: int, size: int, flags: int
    ) -> None:
        with self._turn:
            check(
                lib.iommu_tables_map_identity(
                    self._ref(),
                    device_number(device),
                    pasid_number(pasid),
                    unsigned(physical, "physical"),
                    unsigned(size, "size"),
                    flags,
                )
            )

    def _unmap(self, device: DeviceLike, pasid: Optional[int], iova: int, size: int) -> None:
        with self._turn:
            check(
                lib.iommu_tables_unmap(
                    self._ref(),
                    device_number(device),
                    pasid_number(pasid),
                    unsigned(iova, "iova"),
                    unsigned(size, "size"),
                )
            )


class _DeviceTables(Tables):
    """Tables in which each mapping is for a device."""

    def map(
        self,
        device: DeviceLike,
        iova: int,
        physical: int,
        size: int,
        *,
        pasid: Optional[int] = None,
        read: bool = True,
        write: bool = True,
        largest: bool = False,
    ) -> None:
        """Maps `size` bytes of memory from `physical` on for a device at `iova`; multiples of 4 KiB.

        All or nothing, where nothing is mapped yet.

        Args:
            device: Whose address it is. What a Calgary maps is for all devices below the bridge.
            iova: The device's address.
            physical: Where it leads.
            size: Bytes.
            pasid: The address space within the device.
            read: Reads pass.
            write: Writes pass.
            largest: The largest pages that the unit has and both addresses allow, instead of 4 KiB.
        """
        self._map(device, pasid, iova, physical, size, _flags(read, write, largest, False))

    def remap(
        self,
        device: DeviceLike,
        iova: int,
        physical: int,
        size: int,
        *,
        pasid: Optional[int] = None,
        read: bool = True,
        write: bool = True,
        largest: bool = False,
    ) -> None:
        """The same over whatever is mapped there."""
        self._map(device, pasid, iova, physical, size, _flags(read, write, largest, True))

    def map_identity(
        self,
        device: DeviceLike,
        physical: int,
        size: int,
        *,
        pasid: Optional[int] = None,
        read: bool = True,
        write: bool = True,
        largest: bool = False,
        remap: bool = False,
    ) -> None:
        """Maps memory at its own addresses: what the Kdump IO Rule wants of the crash kernel's."""
        self._map_identity(device, pasid, physical, size, _flags(read, write, largest, remap))

    def unmap(
        self, device: DeviceLike, iova: int, size: int, *, pasid: Optional[int] = None
    ) -> None:
        """Takes mappings away, and gives tables back in which nothing is left.

        Larger pages of which only a part goes are split.
        """
        self._unmap(device, pasid, iova, size)


class DomainKind(enum.IntEnum):
    """Kinds of domains."""

    #: VT-d second-stage tables of 3 to 5 levels; AMD-Vi host tables of 1 to 6.
    HOST = 0
    #: VT-d first-stage tables, AMD-Vi guest tables: 4 or 5 levels.
    PROCESS = 1
    #: The same in the addresses of a guest, whose memory a host domain maps.
    NESTED = 2
    #: The device's addresses are physical ones.
    PASS_THROUGH = 3


class Domain:
    """An address space that devices share. `DomainTables.create_domain` makes one."""

    def __init__(self, tables: DomainTables, number: int) -> None:
        self.tables = tables
        #: The number that tags it in caches.
        self.id = number

    def __repr__(self) -> str:
        return f"<Domain {self.id}>"

    def map(
        self,
        iova: int,
        physical: int,
        size: int,
        *,
        read: bool = True,
        write: bool = True,
        largest: bool = False,
        remap: bool = False,
    ) -> None:
        """Maps for all devices of the domain; otherwise as for a device."""
        with self.tables._turn:
            check(
                lib.iommu_tables_map_domain(
                    self.tables._ref(),
                    self.id,
                    unsigned(iova, "iova"),
                    unsigned(physical, "physical"),
                    unsigned(size, "size"),
                    _flags(read, write, largest, remap),
                )
            )

    def unmap(self, iova: int, size: int) -> None:
        """Takes mappings away."""
        with self.tables._turn:
            check(
                lib.iommu_tables_unmap_domain(
                    self.tables._ref(), self.id, unsigned(iova, "iova"), unsigned(size, "size")
                )
            )

    def remove(self) -> None:
        """Does away with the domain, to which no device may be bound."""
        with self.tables._turn:
            check(lib.iommu_tables_remove_domain(self.tables._ref(), self.id))


class DomainTables(_DeviceTables):
    """Tables with domains: VT-d and AMD-Vi. A device that is bound to none gets one of its own with `map`."""

    def create_domain(
        self,
        kind: DomainKind = DomainKind.HOST,
        *,
        levels: int = 0,
        host: Optional[Domain] = None,
    ) -> Domain:
        """Makes a domain.

        Args:
            kind: What its addresses are.
            levels: Of its page tables; 0 for 4.
            host: What maps the guest's memory; of a nested domain alone.
        """
        number = ctypes.c_uint16()
        if host is not None and not isinstance(host, Domain):
            raise TypeError(f"host is of type {type(host).__name__}: give a Domain")
        with self._turn:
            check(
                lib.iommu_tables_create_domain(
                    self._ref(),
                    unsigned(kind, "kind", 31),
                    unsigned(levels, "levels", 31),
                    0 if host is None else host.id,
                    ctypes.byref(number),
                )
            )
        return Domain(self, number.value)

    def bind(self, device: DeviceLike, domain: Domain, *, pasid: Optional[int] = None) -> None:
        """A device's requests go through a domain from now on."""
        if not isinstance(domain, Domain):
            raise TypeError(f"domain is of type {type(domain).__name__}: give a Domain")
        with self._turn:
            check(
                lib.iommu_tables_bind(
                    self._ref(), device_number(device), pasid_number(pasid), domain.id
                )
            )

    def unbind(self, device: DeviceLike, *, pasid: Optional[int] = None) -> None:
        """Blocks a device from now on; its domain stays."""
        with self._turn:
            check(
                lib.iommu_tables_unbind(self._ref(), device_number(device), pasid_number(pasid))
            )

    @property
    def table_page_count(self) -> int:
        """Pages of 4 KiB that tables lie in."""
        count = ctypes.c_size_t()
        with self._turn:
            check(lib.iommu_tables_page_count(self._ref(), ctypes.byref(count)))
        return count.value


class VTdTables(DomainTables):
    """Tables of a VT-d unit.

    >>> memory = Memory.create(1 << 20)
    >>> tables = VTdTables(memory)
    >>> tables.map("00:03.0", 0xfffff000, 0x8000, 0x1000)
    >>> print(tables.machine().translator(memory, "00:03.0").translate(0xfffff040, write=True))
    0x8040
    """

    def __init__(
        self,
        memory: Memory,
        *,
        is_scalable: bool = False,
        levels: int = 0,
        capability: int = 0,
        extended_capability: int = 0,
        pasid_bits: int = 0,
        host_address_width: int = 0,
        segment: int = 0,
        table_range: Optional[RangeLike] = None,
    ) -> None:
        """
        Args:
            memory: Where tables lie.
            is_scalable: Scalable mode, which has PASIDs.
            levels: Of second-stage tables, 3 to 5; 0 for 4.
            capability: CAP_REG; with `extended_capability` 0 too: everything that is legal.
            extended_capability: ECAP_REG.
            pasid_bits: Room for PASIDs, as a power of two, 13 to 20; 0 for 15.
            host_address_width: Bits of a physical address, 32 to 52; 0 for 52.
            segment: The PCI segment of its devices.
            table_range: Address and size of what pages for tables come from; else all of the memory.
        """
        options = _abi.VTdOptions(
            size=ctypes.sizeof(_abi.VTdOptions),
            capability=unsigned(capability, "capability"),
            extended_capability=unsigned(extended_capability, "extended_capability"),
            table_range=_table_range(table_range),
            is_scalable=int(bool(is_scalable)),
            levels=unsigned(levels, "levels", 31),
            pasid_bits=unsigned(pasid_bits, "pasid_bits", 31),
            host_address_width=unsigned(host_address_width, "host_address_width", 32),
            segment=unsigned(segment, "segment", 32),
        )
        self._start(memory, lib.iommu_tables_create_vtd, options)


class AMDViTables(DomainTables):
    """Tables of an AMD-Vi unit.

    >>> memory = Memory.create(16 << 20)
    >>> tables = AMDViTables(memory, last_bus=1)
    >>> tables.map("00:03.0", 0x200000, 0x400000, 0x200000, largest=True)
    >>> print(tables.machine().translator(memory, "00:03.0").translate(0x234567))
    0x434567
    """

    def __init__(
        self,
        memory: Memory,
        *,
        extended_features: int = 0,
        last_bus: int = 255,
        pasid_bits: int = 0,
        segment: int = 0,
        table_range: Optional[RangeLike] = None,
    ) -> None:
        """
        Args:
            memory: Where tables lie.
            extended_features: Extended Feature Register; 0: everything that is legal.
            last_bus: Room for buses 0 to this one, 1 to 255; 0 for 255.
            pasid_bits: Room for PASIDs, as a power of two, 1 to 20; 0 for 9.
            segment: The PCI segment of its devices.
            table_range: Address and size of what pages for tables come from; else all of the memory.
        """
        options = _abi.AMDViOptions(
            size=ctypes.sizeof(_abi.AMDViOptions),
            extended_features=unsigned(extended_features, "extended_features"),
            table_range=_table_range(table_range),
            last_bus=unsigned(last_bus, "last_bus", 32),
            pasid_bits=unsigned(pasid_bits, "pasid_bits", 31),
            segment=unsigned(segment, "segment", 32),
        )
        self._start(memory, lib.iommu_tables_create_amdvi, options)


class CalgaryTables(_DeviceTables):
    """TCE tables of a Calgary or CalIOC2 chip, one for each host bridge.

    >>> memory = Memory.create(16 << 20)
    >>> tables = CalgaryTables(memory, bridges=[(0, 0), (1, 1)])
    >>> tables.map("01:01.0", 0x100000, 0x8000, 0x2000)
    >>> print(tables.machine().translator(memory, "01:02.0").translate(0x101000))
    0x9000
    """

    def __init__(
        self,
        memory: Memory,
        *,
        bridges: Optional[Sequence[Tuple[int, int]]] = None,
        table_size: int = 0,
        is_calioc2: bool = False,
        table_range: Optional[RangeLike] = None,
    ) -> None:
        """
        Args:
            memory: Where tables lie.
            bridges: First and last bus of one to four bridges; else one bridge above all buses.
            table_size: Bytes of each table, 64 KiB to 8 MiB; 0 for 1 MiB, which is for 512 MiB of addresses.
            is_calioc2: CalIOC2 instead of Calgary.
            table_range: Address and size of what pages for tables come from; else all of the memory.
        """
        array = None
        if bridges is not None:
            array = c_bridges(Bridge(first, last) for first, last in bridges)
        options = _abi.CalgaryOptions(
            size=ctypes.sizeof(_abi.CalgaryOptions),
            table_range=_table_range(table_range),
            table_size=unsigned(table_size, "table_size"),
            bridges=array,
            bridge_count=0 if array is None else len(array),
            is_calioc2=int(bool(is_calioc2)),
        )
        self._start(memory, lib.iommu_tables_create_calgary, options)


class GARTTables(Tables):
    """The GATT of a northbridge: what it maps is for all devices, to read and write.

    >>> memory = Memory.create(16 << 20)
    >>> tables = GARTTables(memory)
    >>> tables.map(0x80000000, 0x8000, 0x2000)
    >>> print(tables.machine().translator(memory, "00:03.0").translate(0x80001000))
    0x9000
    """

    def __init__(
        self,
        memory: Memory,
        *,
        base: int = 0,
        order: int = 0,
        table_range: Optional[RangeLike] = None,
    ) -> None:
        """
        Args:
            memory: Where the table lies.
            base: The aperture's first address, a multiple of its size; 0 for 2 GiB.
            order: 32 MiB << order are translated, 0 to 6.
            table_range: Address and size of what pages for the table come from; else all of the memory.
        """
        options = _abi.GARTOptions(
            size=ctypes.sizeof(_abi.GARTOptions),
            table_range=_table_range(table_range),
            base=unsigned(base, "base"),
            order=unsigned(order, "order", 31),
        )
        self._start(memory, lib.iommu_tables_create_gart, options)

    def map(self, iova: int, physical: int, size: int) -> None:
        """Maps `size` bytes of memory from `physical` on at `iova`, in the aperture; multiples of 4 KiB."""
        self._map(0, None, iova, physical, size, _flags(True, True, False, False))

    def remap(self, iova: int, physical: int, size: int) -> None:
        """The same over whatever is mapped there."""
        self._map(0, None, iova, physical, size, _flags(True, True, False, True))

    def map_identity(self, physical: int, size: int, *, remap: bool = False) -> None:
        """Maps memory at its own addresses, which lie in the aperture."""
        self._map_identity(0, None, physical, size, _flags(True, True, False, remap))

    def unmap(self, iova: int, size: int) -> None:
        """Takes mappings away."""
        self._unmap(0, None, iova, size)
