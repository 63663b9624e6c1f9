"""Live units: registers that software writes, caches, faults, interrupts."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Callable, Optional, Sequence, Tuple, TypeVar, overload

from . import _abi
from ._abi import lib
from ._buffers import Buffer
from ._objects import Closable, Turn, c_text, check, guarded, pasid_number, reference, unsigned
from .devices import DeviceLike, device_number
from .memory import Memory
from .translator import batch
from .values import (
    Bridge,
    Hardware,
    InterruptKind,
    ReadTransfer,
    RemappedInterrupt,
    Transfer,
    Translation,
    access_number,
    c_bridges,
    new_translation,
    translation_of_c,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer as BufferLike

    Words = TypeVar("Words", bound=BufferLike)

#: Is given the address and the data of an interrupt that a unit raises itself.
InterruptCall = Callable[[int, int], None]


class _NoTurn:
    """For what any number of threads may use."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


class Unit(Closable):
    """A unit after a reset, over a memory that `Memory.create` or `Memory.adopt` has made.

    >>> memory = Memory.create(1 << 20)
    >>> unit = Unit(memory, Hardware.VTD)
    >>> hex(unit.read(0x00, 4))
    '0x60'
    """

    _noun = "the unit"

    def __init__(
        self,
        memory: Memory,
        hardware: Hardware,
        *,
        model: Optional[str] = None,
        capability: int = 0,
        extended_capability: int = 0,
        interrupt: Optional[InterruptCall] = None,
        has_caches: bool = True,
        node_count: int = 1,
        bridges: Optional[Sequence[Tuple[int, int]]] = None,
    ) -> None:
        """
        Args:
            memory: What it reads tables in.
            hardware: Its kind.
            model: "qemu", "2008" or "current", which is usual; of Calgary "calgary" or "calioc2".
            capability: In place of the model's, where not 0: CAP_REG of VT-d, the Extended Feature Register
                of AMD-Vi.
            extended_capability: ECAP_REG of VT-d, likewise.
            interrupt: Is called for interrupts of its own. What it raises comes out of the call that made
                the unit raise one.
            has_caches: Without, nothing is kept between two requests.
            node_count: Northbridges of a GART, 1 to 8.
            bridges: Of Calgary, first and last bus of each bridge; else one bridge above all buses.
        """
        options = _abi.UnitOptions(
            size=ctypes.sizeof(_abi.UnitOptions),
            capability=unsigned(capability, "capability"),
            extended_capability=unsigned(extended_capability, "extended_capability"),
            has_no_caches=int(not has_caches),
            node_count=unsigned(node_count, "node_count", 31),
        )
        if model is not None:
            options.model = c_text(model, "model")
        if interrupt is not None:
            call = interrupt

            def deliver(address: int, data: int, context: object) -> None:
                call(address, data)

            options.interrupt = _abi.INTERRUPT(guarded(None, deliver))
        if bridges is not None:
            array = c_bridges(Bridge(first, last) for first, last in bridges)
            options.bridges = array
            options.bridge_count = len(array)
        place = ctypes.c_void_p()
        check(
            lib.iommu_unit_create(
                reference(memory, Memory, "memory"),
                unsigned(hardware, "hardware", 31),
                ctypes.byref(options),
                ctypes.byref(place),
            )
        )
        self._take(place, lib.iommu_unit_free)
        self.hardware = Hardware(hardware)
        # The interrupt's function lives in it, for as long as the unit or a port of it does.
        self._options = options
        is_shared = self.hardware in (Hardware.VTD, Hardware.AMDVI)
        self._turn: Any = _NoTurn() if is_shared else Turn("the unit")

    def reset(self) -> None:
        """Resets it."""
        with self._turn:
            check(lib.iommu_unit_reset(self._ref()))

    @property
    def window_size(self) -> int:
        """Bytes of the register window; 0 for a GART, which has configuration space alone."""
        size = ctypes.c_uint64()
        check(lib.iommu_unit_window_size(self._ref(), ctypes.byref(size)))
        return size.value

    def read(self, offset: int, width: int = 8) -> int:
        """A load of `width` bytes, 1 to 8, from a register."""
        value = ctypes.c_uint64()
        with self._turn:
            check(
                lib.iommu_unit_read(
                    self._ref(),
                    unsigned(offset, "offset"),
                    unsigned(width, "width", 32),
                    ctypes.byref(value),
                )
            )
        return value.value

    def write(self, offset: int, value: int, width: int = 8) -> None:
        """A store of `width` bytes, 1 to 8, to a register. Commands are done when it returns."""
        with self._turn:
            check(
                lib.iommu_unit_write(
                    self._ref(),
                    unsigned(offset, "offset"),
                    unsigned(width, "width", 32),
                    unsigned(value, "value"),
                )
            )

    def read_configuration(self, offset: int, width: int = 4, *, requester: int = 0) -> int:
        """A load from configuration space: of an AMD-Vi unit's function, or of the northbridge `requester`."""
        value = ctypes.c_uint64()
        with self._turn:
            check(
                lib.iommu_unit_read_configuration(
                    self._ref(),
                    unsigned(requester, "requester", 16),
                    unsigned(offset, "offset", 32),
                    unsigned(width, "width", 32),
                    ctypes.byref(value),
                )
            )
        return value.value

    def write_configuration(
        self, offset: int, value: int, width: int = 4, *, requester: int = 0
    ) -> None:
        """A store to configuration space."""
        with self._turn:
            check(
                lib.iommu_unit_write_configuration(
                    self._ref(),
                    unsigned(requester, "requester", 16),
                    unsigned(offset, "offset", 32),
                    unsigned(width, "width", 32),
                    unsigned(value, "value"),
                )
            )

    def port(self) -> Port:
        """Where devices' requests enter. A VT-d unit may have any number, each with caches of its own."""
        return Port(self)

    def remap_interrupt(self, device: DeviceLike, address: int, data: int) -> RemappedInterrupt:
        """A device's store to the interrupt address range, on its way to the processors."""
        found = _abi.Interrupt(size=ctypes.sizeof(_abi.Interrupt))
        with self._turn:
            check(
                lib.iommu_unit_remap_interrupt(
                    self._ref(),
                    device_number(device),
                    unsigned(address, "address"),
                    unsigned(data, "data", 32),
                    ctypes.byref(found),
                )
            )
        return RemappedInterrupt(
            InterruptKind(found.kind),
            None if found.vector < 0 else found.vector,
            None if found.destination < 0 else found.destination,
            None if found.fault < 0 else found.fault,
        )


class Port(Closable):
    """Where devices' requests enter a unit; one thread at a time, others wait."""

    _noun = "the port"

    def __init__(self, unit: Unit) -> None:
        place = ctypes.c_void_p()
        check(lib.iommu_port_create(reference(unit, Unit, "unit"), ctypes.byref(place)))
        self._take(place, lib.iommu_port_free)
        # Kept for its interrupts, which requests raise.
        self._unit = unit
        is_shared = unit.hardware in (Hardware.VTD, Hardware.AMDVI)
        self._turn = Turn("the port") if is_shared else unit._turn

    def translate(
        self,
        device: DeviceLike,
        iova: int,
        *,
        write: bool = False,
        size: int = 1,
        pasid: Optional[int] = None,
    ) -> Translation:
        """What becomes of a request, up to the end of its page. Faults are recorded, and A and D set."""
        found = new_translation()
        with self._turn:
            check(
                lib.iommu_port_translate(
                    self._ref(),
                    device_number(device),
                    pasid_number(pasid),
                    unsigned(iova, "iova"),
                    unsigned(size, "size"),
                    access_number(write),
                    ctypes.byref(found),
                )
            )
        return translation_of_c(found)

    @overload
    def translate_many(
        self, device: DeviceLike, iovas: BufferLike, out: Words, *, write: bool = False
    ) -> Words: ...

    @overload
    def translate_many(
        self, device: DeviceLike, iovas: Words, out: None = None, *, write: bool = False
    ) -> Words: ...

    def translate_many(
        self, device: DeviceLike, iovas: Any, out: Any = None, *, write: bool = False
    ) -> Any:
        """Requests of one device without PASID, one word for each answer, as `Translator.translate_many`."""
        number = device_number(device)
        access = access_number(write)

        def call(source: int, count: int, target: int) -> int:
            status: int = lib.iommu_port_translate_batch(
                self._ref(), number, source, count, access, target
            )
            return status

        with self._turn:
            return batch(iovas, out, call)

    def _dma(
        self, device: DeviceLike, pasid: Optional[int], iova: int, buffer: Buffer, access: int
    ) -> Tuple[int, Translation]:
        done = ctypes.c_size_t()
        found = new_translation()
        with self._turn:
            check(
                lib.iommu_port_dma(
                    self._ref(),
                    device_number(device),
                    pasid_number(pasid),
                    unsigned(iova, "iova"),
                    buffer.address,
                    buffer.byte_count,
                    access,
                    ctypes.byref(done),
                    ctypes.byref(found),
                )
            )
        return done.value, translation_of_c(found)

    def dma_read(
        self, device: DeviceLike, iova: int, size: int, *, pasid: Optional[int] = None
    ) -> ReadTransfer:
        """A device reads `size` bytes from memory, page by page, each as the unit answers."""
        place = bytearray(unsigned(size, "size", 40))
        with Buffer(place, "size", writable=True) as target:
            done, end = self._dma(device, pasid, iova, target, 0)
        return ReadTransfer(done, end, bytes(place[:done]))

    def dma_write(
        self, device: DeviceLike, iova: int, data: BufferLike, *, pasid: Optional[int] = None
    ) -> Transfer:
        """A device writes bytes to memory, page by page, each as the unit answers."""
        with Buffer(data, "data") as source:
            return Transfer(*self._dma(device, pasid, iova, source, 1))
