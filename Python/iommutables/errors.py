"""What goes wrong, as exceptions.

A fault of the modelled hardware is a value and never an exception: see :class:`iommutables.Fault`.
"""

from __future__ import annotations

import enum
from typing import Dict, Type


class Status(enum.IntEnum):
    """Numbers of ``iommu.h``."""

    OK = 0
    ARGUMENT = 1
    HANDLE = 2
    MEMORY = 3
    INPUT = 4
    TABLES = 5
    UNSUPPORTED = 6
    NOT_FOUND = 7
    STOPPED = 8


class IOMMUError(Exception):
    """All that this package raises of its own: ``message`` says what was found and the way out."""

    status: Status = Status.ARGUMENT

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class LibraryError(IOMMUError, ImportError):
    """libiommu is not there, or is another than this package knows."""

    status = Status.UNSUPPORTED


class ArgumentError(IOMMUError, ValueError):
    """An argument is out of range, unaligned or of a form that is none."""

    status = Status.ARGUMENT


class HandleError(IOMMUError, ValueError):
    """An object is closed, or in the middle of a call."""

    status = Status.HANDLE


class MemoryAccessError(IOMMUError):
    """Memory is not granted, takes no stores, or does not hold what it said."""

    status = Status.MEMORY


class InputError(IOMMUError):
    """A file cannot be read, is not what it should be, or has become shorter."""

    status = Status.INPUT


class TablesError(IOMMUError):
    """The tables refuse: mapped already, not mapped, no room, no such domain."""

    status = Status.TABLES


class UnsupportedError(IOMMUError):
    """This hardware, mode or kind of memory has no such thing."""

    status = Status.UNSUPPORTED


class NotFoundError(IOMMUError, LookupError):
    """What was looked for is not there, or not for certain."""

    status = Status.NOT_FOUND


_CLASSES: Dict[int, Type[IOMMUError]] = {
    Status.ARGUMENT: ArgumentError,
    Status.HANDLE: HandleError,
    Status.MEMORY: MemoryAccessError,
    Status.INPUT: InputError,
    Status.TABLES: TablesError,
    Status.UNSUPPORTED: UnsupportedError,
    Status.NOT_FOUND: NotFoundError,
}


def error_of(status: int, message: str) -> IOMMUError:
    """The exception for a status of the library."""
    return _CLASSES.get(status, IOMMUError)(message)
