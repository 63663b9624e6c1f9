"""What the library answers, as values."""

from __future__ import annotations

import ctypes
import enum
from dataclasses import dataclass
from typing import Dict, Iterable, Iterator, NamedTuple, Optional, Sequence, Tuple, Union, overload

from . import _abi
from ._abi import lib
from ._objects import check, text, unsigned
from .errors import ArgumentError


class Hardware(enum.IntEnum):
    """A kind of hardware."""

    PLATFORM = 0
    VTD = 1
    GART = 2
    CALGARY = 3
    AMDVI = 4


class Range(NamedTuple):
    """`size` bytes from `address` on."""

    address: int
    size: int


#: A range as arguments take it.
RangeLike = Tuple[int, int]


def c_ranges(ranges: Iterable[RangeLike], name: str) -> ctypes.Array[_abi.Range]:
    """Ranges for the library."""
    found = []
    for item in ranges:
        try:
            address, size = item
        except (TypeError, ValueError):
            raise TypeError(f"{name} has {item!r}: give pairs of address and size") from None
        found.append(
            _abi.Range(unsigned(address, f"an address of {name}"), unsigned(size, f"a size of {name}"))
        )
    return (_abi.Range * len(found))(*found)


# Translations


@dataclass(frozen=True)
class Mapped:
    """The request goes to memory: its first byte to `physical`, and `byte_count` bytes follow in one run."""

    physical: int
    byte_count: int

    def __str__(self) -> str:
        return f"{self.physical:#x}"


@dataclass(frozen=True)
class Fault:
    """The hardware blocks the request."""

    hardware: Hardware
    #: The manual's number; None where the hardware has none.
    number: Optional[int]
    #: In words.
    text: str
    #: Hardware keeps something that tells software of it.
    is_recorded: bool
    #: No memory answered where a table should be, or nothing is known of the unit. Of a dump that is no answer.
    is_unanswered: bool

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class InterruptMessage:
    """The request is an interrupt message, not for memory."""

    def __str__(self) -> str:
        return "an interrupt message"


#: What becomes of a request.
Translation = Union[Mapped, Fault, InterruptMessage]


def new_translation() -> _abi.Translation:
    """A structure for the library to fill."""
    return _abi.Translation(size=ctypes.sizeof(_abi.Translation))


def translation_of_c(found: _abi.Translation) -> Translation:
    """What the library has filled."""
    if found.kind == 0:
        return Mapped(found.physical, found.byte_count)
    if found.kind == 2:
        return InterruptMessage()
    words = text(lib.iommu_translation_text(ctypes.byref(found)))
    return Fault(
        Hardware(found.hardware),
        None if found.fault < 0 else found.fault,
        words,
        bool(found.is_recorded),
        bool(found.is_unanswered),
    )


# Answers in one word

#: The answer to what was no request.
NO_ANSWER = (1 << 64) - 1

#: Answers from this one on are no address. With NumPy, `answers < NOT_MEMORY` is True where memory answers.
NOT_MEMORY = 1 << 63


def is_memory(answer: int) -> bool:
    """Whether an answer in one word is a physical address.

    >>> is_memory(0x8040), is_memory(NO_ANSWER), is_memory(1 << 60)
    (True, False, False)
    """
    return 0 <= answer < 1 << 52


def translation_of(answer: int) -> Translation:
    """An answer in one word, taken apart; `byte_count` is 1 then.

    >>> translation_of(0x8040)
    Mapped(physical=32832, byte_count=1)

    Raises:
        ArgumentError: The word is no answer.
    """
    found = new_translation()
    word = unsigned(answer, "answer")
    if 1 << 52 <= word < NOT_MEMORY:
        raise ArgumentError(f"{word:#x} is no answer: addresses have 52 bits")
    check(lib.iommu_answer(word, ctypes.byref(found)))
    return translation_of_c(found)


def reasons(answers: Iterable[int]) -> Dict[Translation, int]:
    """Why answers are no addresses, and how many are so; what answers with memory is not counted.

    Answers are those of `translate_many`: of a large array only the words that differ are taken apart.
    """
    counts: Dict[int, int] = {}
    # NumPy's own way is the faster one by far, where the array has it.
    words: Iterable[int] = answers
    select = getattr(answers, "__ge__", None)
    if hasattr(answers, "dtype") and select is not None:
        words = answers[select(NOT_MEMORY)].tolist()  # type: ignore[index]
    for word in words:
        if word >= NOT_MEMORY:
            counts[word] = counts.get(word, 0) + 1
    found: Dict[Translation, int] = {}
    for word, count in counts.items():
        reason = translation_of(word)
        found[reason] = found.get(reason, 0) + count
    return found


# Looking


@dataclass(frozen=True)
class WalkStep:
    """An entry that a walk read."""

    #: Its name in the manual, as "SS-PTE".
    name: str
    #: Where it lies.
    address: int
    #: Its number in its table.
    index: int
    #: The level of page tables, from 1; None for tables above them.
    level: Optional[int]
    #: Its words of 8 bytes, lowest first.
    words: Tuple[int, ...]
    #: Its fields, as "ADDR=0x7663000 W=0x1 R=0x1".
    fields: str
    #: What they say.
    meaning: str
    #: Its section in the manual.
    specification: str

    def __str__(self) -> str:
        words = " ".join(f"{word:#018x}" for word in self.words)
        return f"{self.name} [{self.index:#x}] at {self.address:#x}, {words}: {self.meaning}"


@dataclass(frozen=True)
class Walk:
    """A request, followed entry by entry."""

    steps: Tuple[WalkStep, ...]
    end: Translation

    @property
    def is_unknown(self) -> bool:
        """Whether where the request ends depends on what a dump lacks, or on registers that nobody knows."""
        return isinstance(self.end, Fault) and self.end.is_unanswered

    def __str__(self) -> str:
        end = f"unknown: where no memory answers, {self.end}" if self.is_unknown else str(self.end)
        return "\n".join([*(str(step) for step in self.steps), end])


@dataclass(frozen=True)
class Mapping:
    """Pages in a row that are mapped alike."""

    #: Whose: "00:03.0", "00:03.0/5" with a PASID, "bus:02", "gart".
    owner: str
    iova: int
    physical: int
    byte_count: int
    can_read: bool
    can_write: bool
    #: The first owner with the very same table, whose mappings are this owner's too; None otherwise.
    same_as: Optional[str]
    #: There is no table: the device reaches all of memory by its own addresses.
    is_pass_through: bool

    @property
    def access(self) -> str:
        """ "rw", "r-", "-w"."""
        return ("r" if self.can_read else "-") + ("w" if self.can_write else "-")


@dataclass(frozen=True)
class Maps(Sequence[Mapping]):
    """Every mapping of every table."""

    mappings: Tuple[Mapping, ...]
    #: What of the tables is not known, a text each.
    unknown: Tuple[str, ...]
    #: False when `limit` cut it short.
    is_complete: bool = True

    def __len__(self) -> int:
        return len(self.mappings)

    def __iter__(self) -> Iterator[Mapping]:
        return iter(self.mappings)

    @overload
    def __getitem__(self, index: int) -> Mapping: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping]: ...

    def __getitem__(self, index: Union[int, slice]) -> Union[Mapping, Sequence[Mapping]]:
        return self.mappings[index]


@dataclass(frozen=True)
class Candidate:
    """Something in memory that looks like a table."""

    #: "VT-d root table".
    kind: str
    address: int
    byte_count: int
    #: 0 to 100.
    score: int
    #: Nothing else is known to look like that.
    is_certain: bool
    #: What speaks for it and what against.
    reasons: Tuple[str, ...]


class Outcome(enum.IntEnum):
    """What a check of the Rule comes to."""

    HOLDS = 0
    BROKEN = 1
    UNKNOWN = 2
    NOT_APPLICABLE = 3


@dataclass(frozen=True)
class Verdict:
    """What one of the thirteen checks of the Kdump IO Rule came to."""

    #: 1 to 13.
    rule: int
    outcome: Outcome
    #: What must hold.
    statement: str
    findings: Tuple[str, ...]


@dataclass(frozen=True)
class Verification:
    """What the Rule says of a machine."""

    conclusion: Outcome
    verdicts: Tuple[Verdict, ...]


# Units


@dataclass(frozen=True)
class Bridge:
    """A PCI host bridge of a Calgary or CalIOC2 chip: the buses below it, and what its registers hold."""

    first_bus: int
    last_bus: int
    #: TAR.
    table_address: int = 0
    #: PHB configuration register; 0: translation is on.
    configuration: int = 0


def c_bridges(bridges: Iterable[Bridge]) -> ctypes.Array[_abi.CalgaryBridge]:
    """Bridges for the library."""
    found = []
    for bridge in bridges:
        if not isinstance(bridge, Bridge):
            raise TypeError(f"bridges has {bridge!r}: give Bridge(first_bus, last_bus)")
        found.append(
            _abi.CalgaryBridge(
                first_bus=unsigned(bridge.first_bus, "first_bus", 8),
                last_bus=unsigned(bridge.last_bus, "last_bus", 8),
                table_address=unsigned(bridge.table_address, "table_address"),
                configuration=unsigned(bridge.configuration, "configuration", 32),
            )
        )
    return (_abi.CalgaryBridge * len(found))(*found)


@dataclass(frozen=True)
class Transfer:
    """What became of a device's DMA."""

    #: Bytes that went before the first that did not.
    done: int
    #: What stopped it, or the last piece's.
    end: Translation


@dataclass(frozen=True)
class ReadTransfer(Transfer):
    """What a device has read."""

    data: bytes


class InterruptKind(enum.IntEnum):
    """What becomes of an interrupt message."""

    #: Goes on as it stands.
    PASSED = 0
    #: To `destination` with `vector`.
    DELIVERED = 1
    #: Posted in memory, or a guest's.
    POSTED = 2
    BLOCKED = 3


@dataclass(frozen=True)
class RemappedInterrupt:
    """What becomes of an interrupt message."""

    kind: InterruptKind
    vector: Optional[int]
    destination: Optional[int]
    #: Blocked: the manual's number.
    fault: Optional[int]


def access_number(write: bool) -> int:
    """An access as the library has it."""
    if write not in (False, True):
        raise ArgumentError(f"write is {write!r}: True or False are possible")
    return int(write)
