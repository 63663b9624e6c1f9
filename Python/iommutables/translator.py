"""Translating, one address and a million."""

from __future__ import annotations

import array
import ctypes
import sys
from typing import TYPE_CHECKING, Any, Callable, Optional, TypeVar, overload

from ._abi import lib
from ._buffers import Buffer
from ._objects import Closable, Owned, check, pasid_number, reference, unsigned
from .devices import DeviceLike, device_number
from .errors import ArgumentError
from .memory import Memory
from .values import Translation, access_number, new_translation, translation_of_c

if TYPE_CHECKING:
    from typing_extensions import Buffer as BufferLike

    from .machine import Machine

    Words = TypeVar("Words", bound=BufferLike)


def room_for(iovas: Any, count: int) -> Any:
    """Room for answers, of the kind that the addresses are of."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(iovas, numpy.ndarray):
        return numpy.empty(iovas.shape, dtype=numpy.uint64)
    if isinstance(iovas, ctypes.Array):
        return type(iovas)()
    words = array.array("Q", (0,)) * count
    if isinstance(iovas, array.array):
        return words
    if isinstance(iovas, memoryview):
        return memoryview(words)
    raise TypeError(
        f"iovas is of type {type(iovas).__name__}: give a NumPy array of uint64, array('Q', ...), or a "
        "memoryview, or say where answers go with out="
    )


def batch(iovas: Any, out: Any, call: Callable[[int, int, int], int]) -> Any:
    """Runs a batch over the words of one object into those of another."""
    if isinstance(iovas, (list, tuple, range)):
        raise TypeError(
            f"iovas is a {type(iovas).__name__}: give words that lie side by side, array('Q', iovas) or "
            "numpy.array(iovas, dtype=numpy.uint64)"
        )
    with Buffer.of_words(iovas, "iovas") as source:
        answers = room_for(iovas, source.word_count) if out is None else out
        with Buffer.of_words(answers, "out", writable=True) as target:
            if target.word_count != source.word_count:
                raise ArgumentError(
                    f"out has room for {target.word_count} answers, and there are {source.word_count} addresses: "
                    "give as many"
                )
            check(call(source.address, source.word_count, target.address))
    return answers


class Translator(Closable):
    """The tables of one device in a memory: made once, used for millions of requests, by any thread.

    It goes stale when registers or the device's root, context or device table entry change; page tables are
    read anew by each call.
    """

    _noun = "the translator"

    def __init__(
        self, machine: Machine, memory: Memory, device: DeviceLike, *, pasid: Optional[int] = None
    ) -> None:
        """
        Raises:
            NotFoundError: No unit serves the device's segment.
        """
        from .machine import Machine

        place = ctypes.c_void_p()
        check(
            lib.iommu_translator_create(
                reference(machine, Machine, "machine"),
                reference(memory, Memory, "memory"),
                device_number(device),
                pasid_number(pasid),
                ctypes.byref(place),
            )
        )
        self._take(place, lib.iommu_translator_free)
        # Its file is asked whether it is still whole. A closed memory lives on in the library.
        self._memory: Optional[Owned] = memory._ref() if memory._is_dump_file else None

    def close(self) -> None:
        """Gives it back. Closing twice is no error."""
        super().close()
        self._memory = None

    def _check_file(self) -> None:
        memory = self._memory
        if memory is not None:
            check(lib.iommu_memory_check(memory))

    def translate(self, iova: int, *, write: bool = False, size: int = 1) -> Translation:
        """What becomes of a request of `size` bytes, up to the end of its page."""
        found = new_translation()
        check(
            lib.iommu_translate_request(
                self._ref(),
                unsigned(iova, "iova"),
                unsigned(size, "size"),
                access_number(write),
                ctypes.byref(found),
            )
        )
        return translation_of_c(found)

    @overload
    def translate_many(self, iovas: BufferLike, out: Words, *, write: bool = False) -> Words: ...

    @overload
    def translate_many(self, iovas: Words, out: None = None, *, write: bool = False) -> Words: ...

    def translate_many(self, iovas: Any, out: Any = None, *, write: bool = False) -> Any:
        """What becomes of many requests, one word for each answer; nothing is copied.

        An answer below `NOT_MEMORY` is the physical address; `translation_of` and `reasons` take the others
        apart. Other threads of the interpreter go on meanwhile.

        Args:
            iovas: Unsigned words of 64 bits side by side: a NumPy array, array('Q', ...), a memoryview.
            out: Where answers go; without it room of the kind of `iovas` is made.
            write: Devices write, instead of read.

        Returns:
            What answers are in.
        """
        access = access_number(write)

        def call(source: int, count: int, target: int) -> int:
            status: int = lib.iommu_translate_batch(self._ref(), source, count, access, target)
            return status

        answers = batch(iovas, out, call)
        self._check_file()
        return answers
