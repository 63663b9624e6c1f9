"""PCI functions: who sends requests."""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from typing import Union

from ._abi import lib
from ._objects import c_text, check, unsigned
from .errors import ArgumentError

_PLAIN = re.compile(r"([0-9a-f]{2}):([01][0-9a-f])\.([0-7])")


@dataclass(frozen=True, order=True)
class Device:
    """A PCI function.

    >>> Device(0x00, 0x1f, 2)
    Device(bus=0, device=31, function=2, segment=0)
    >>> str(Device.parse("0001:3a:00.0"))
    '0001:3a:00.0'
    >>> Device.parse("00:03.0").requester
    24
    """

    bus: int
    device: int
    function: int
    segment: int = 0

    def __post_init__(self) -> None:
        unsigned(self.bus, "bus", 8)
        unsigned(self.device, "device", 5)
        unsigned(self.function, "function", 3)
        unsigned(self.segment, "segment", 32)

    @classmethod
    def parse(cls, text: str) -> Device:
        """Reads "00:1f.2", "0001:00:1f.2" and the other forms in which logs name a function.

        Raises:
            ArgumentError: It is no name of a function.
        """
        if not isinstance(text, str):
            raise TypeError(f"a device is of type {type(text).__name__}: give text such as '00:1f.2'")
        plain = _PLAIN.fullmatch(text)
        if plain:
            return cls(int(plain[1], 16), int(plain[2], 16), int(plain[3]))
        number = ctypes.c_uint64()
        check(lib.iommu_parse_device(c_text(text, "device"), ctypes.byref(number)))
        return cls._of_number(number.value)

    @classmethod
    def _of_number(cls, number: int) -> Device:
        return cls(number >> 8 & 0xFF, number >> 3 & 31, number & 7, number >> 16)

    @classmethod
    def of_requester(cls, requester: int, segment: int = 0) -> Device:
        """The function whose requests carry a requester-id."""
        unsigned(segment, "segment", 32)
        return cls._of_number(segment << 16 | unsigned(requester, "requester", 16))

    @property
    def requester(self) -> int:
        """The 16 bits that its requests carry."""
        return self.bus << 8 | self.device << 3 | self.function

    def __int__(self) -> int:
        return self.segment << 16 | self.requester

    def __str__(self) -> str:
        segment = f"{self.segment:04x}:" if self.segment else ""
        return f"{segment}{self.bus:02x}:{self.device:02x}.{self.function:x}"


#: A device as arguments take it: itself, its name, or its requester-id in segment 0.
DeviceLike = Union[Device, str, int]


def device_number(device: DeviceLike) -> int:
    """A device as the library has it."""
    if isinstance(device, Device):
        return int(device)
    if isinstance(device, str):
        return int(Device.parse(device))
    try:
        return unsigned(device, "device", 16)
    except TypeError:
        raise TypeError(
            f"device is of type {type(device).__name__}: give a Device, text such as '00:1f.2', or a requester-id"
        ) from None
    except ArgumentError:
        raise ArgumentError(
            f"device is {device:#x}: a number is a requester-id, 0 to 0xffff; Device(...) has a segment too"
        ) from None
