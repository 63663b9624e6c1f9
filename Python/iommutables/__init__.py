"""Tables and units of Intel VT-d, AMD-Vi, AMD GART and IBM Calgary: libiommu for Python.

>>> memory = Memory.create(1 << 20)
>>> tables = VTdTables(memory)
>>> tables.map("00:03.0", 0xfffff000, 0x8000, 0x1000)
>>> translator = tables.machine().translator(memory, "00:03.0")
>>> translator.translate(0xfffff040, write=True, size=64)
Mapped(physical=32832, byte_count=64)
>>> print(translator.translate(0x1000, write=True))
fault 0x5: write without write permission, or no mapping
"""

from ._abi import lib as _lib
from .devices import Device, DeviceLike
from .errors import (
    ArgumentError,
    HandleError,
    InputError,
    IOMMUError,
    LibraryError,
    MemoryAccessError,
    NotFoundError,
    Status,
    TablesError,
    UnsupportedError,
)
from .machine import Machine
from .memory import Memory
from .tables import (
    AMDViTables,
    CalgaryTables,
    Domain,
    DomainKind,
    DomainTables,
    GARTTables,
    Tables,
    VTdTables,
)
from .translator import Translator
from .units import InterruptCall, Port, Unit
from .values import (
    NO_ANSWER,
    NOT_MEMORY,
    Bridge,
    Candidate,
    Fault,
    Hardware,
    InterruptKind,
    InterruptMessage,
    Mapped,
    Mapping,
    Maps,
    Outcome,
    Range,
    RangeLike,
    ReadTransfer,
    RemappedInterrupt,
    Transfer,
    Translation,
    Verdict,
    Verification,
    Walk,
    WalkStep,
    is_memory,
    reasons,
    translation_of,
)

#: The version of the library below, which is this package's.
__version__: str = _lib.iommu_version().decode("ascii")

__all__ = [
    "AMDViTables",
    "ArgumentError",
    "Bridge",
    "CalgaryTables",
    "Candidate",
    "Device",
    "DeviceLike",
    "Domain",
    "DomainKind",
    "DomainTables",
    "Fault",
    "GARTTables",
    "HandleError",
    "Hardware",
    "IOMMUError",
    "InputError",
    "InterruptCall",
    "InterruptKind",
    "InterruptMessage",
    "LibraryError",
    "Machine",
    "Mapped",
    "Mapping",
    "Maps",
    "Memory",
    "MemoryAccessError",
    "NOT_MEMORY",
    "NO_ANSWER",
    "NotFoundError",
    "Outcome",
    "Port",
    "Range",
    "RangeLike",
    "ReadTransfer",
    "RemappedInterrupt",
    "Status",
    "Tables",
    "TablesError",
    "Transfer",
    "Translation",
    "Translator",
    "Unit",
    "UnsupportedError",
    "VTdTables",
    "Verdict",
    "Verification",
    "Walk",
    "WalkStep",
    "is_memory",
    "reasons",
    "translation_of",
]
