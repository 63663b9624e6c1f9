"""The bytes of other objects, in place.

ctypes alone reaches only buffers that can be written; this asks the interpreter itself.
"""

from __future__ import annotations

import ctypes
from types import TracebackType
from typing import Any, Optional, Type

from .errors import ArgumentError

_SIMPLE_FORMATS = {"Q", "@Q", "=Q", "<Q"} | ({"L", "@L"} if ctypes.sizeof(ctypes.c_ulong) == 8 else set())

_WRITABLE = 0x001
_FORMAT = 0x004
# Shape and strides, and each byte behind the one before it.
_C_CONTIGUOUS = 0x020 | 0x018


class _View(ctypes.Structure):
    """Py_buffer."""

    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


_get = ctypes.pythonapi.PyObject_GetBuffer
_get.argtypes = [ctypes.py_object, ctypes.POINTER(_View), ctypes.c_int]
_get.restype = ctypes.c_int
_release = ctypes.pythonapi.PyBuffer_Release
_release.argtypes = [ctypes.POINTER(_View)]
_release.restype = None


class Buffer:
    """The bytes of an object, held: it can neither move nor go while this is there."""

    _view: Optional[_View] = None

    def __init__(self, holder: Any, name: str, *, writable: bool = False) -> None:
        view = _View()
        try:
            _get(holder, ctypes.byref(view), _C_CONTIGUOUS | _FORMAT | (_WRITABLE if writable else 0))
        except TypeError:
            raise TypeError(
                f"{name} is of type {type(holder).__name__}, which shows no bytes: give an array, a bytearray, "
                "a memoryview"
            ) from None
        except (BufferError, ValueError) as error:
            raise ArgumentError(
                f"{name} is of no use as it is: {error}; its bytes have to follow each other"
                + (", and to be writable" if writable else "")
            ) from None
        self._view = view
        self.address: int = view.buf or 0
        self.byte_count: int = view.len
        self.is_word = (
            view.itemsize == 8 and (view.format or b"B").decode("ascii", "replace") in _SIMPLE_FORMATS
        )
        self._format = (view.format or b"B").decode("ascii", "replace")
        self._item_size: int = view.itemsize
        self._name = name

    @classmethod
    def of_words(cls, holder: Any, name: str, *, writable: bool = False) -> Buffer:
        """A buffer of unsigned words of 64 bits.

        Raises:
            ArgumentError: It has other items.
        """
        buffer = cls(holder, name, writable=writable)
        if not buffer.is_word:
            form, size = buffer._format, buffer._item_size
            buffer.release()
            raise ArgumentError(
                f"{name} has items of {size} bytes and format '{form}': give unsigned words of 64 bits, "
                "numpy.uint64 or array('Q')"
            )
        return buffer

    @property
    def word_count(self) -> int:
        return self.byte_count // 8

    def release(self, _release: Any = _release, _byref: Any = ctypes.byref) -> None:
        """Lets go; once is enough."""
        view, self._view = self._view, None
        if view is not None:
            _release(_byref(view))

    def __del__(self) -> None:
        self.release()

    def __enter__(self) -> Buffer:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.release()
