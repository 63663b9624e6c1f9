"""Physical memory: where tables lie."""

from __future__ import annotations

import ctypes
import itertools
import os
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, List, Optional, Tuple, Union

from . import _abi
from ._abi import lib
from ._buffers import Buffer
from ._objects import Closable, c_text, check, guarded, raise_pending, text, unsigned
from .errors import ArgumentError, MemoryAccessError
from .values import Candidate, Range, RangeLike, c_ranges

if TYPE_CHECKING:
    from typing_extensions import Buffer as BufferLike

    #: Reads up to `size` bytes from an address on; fewer, or none, where the rest is not there.
    Read = Callable[[int, int], BufferLike]
    #: Stores bytes at an address, and returns how many; None for all of them.
    Write = Callable[[int, bytes], Optional[int]]
    #: Stores the last in the quadword at an address when it holds the second, and returns what it held.
    CompareExchange = Callable[[int, int, int], int]

PAGE = 4096

# What the library's memories are made over, by the number that the library hands back when it is done.
_kept: Dict[int, Any] = {}
_numbers = itertools.count(1)


def _let_go(number: Optional[int]) -> None:
    kept = _kept.pop(number or 0, ())
    for item in kept:
        if isinstance(item, Buffer):
            item.release()


_release = _abi.RELEASE(_let_go)


class Memory(Closable):
    """The physical memory of a machine.

    >>> with Memory.create(1 << 20) as memory:
    ...     memory.write(0x8000, b"sixteen bytes...")
    ...     memory.read(0x8008, 8)
    b'bytes...'
    """

    _noun = "the memory"
    _is_dump_file = False

    def __init__(self) -> None:
        raise TypeError("make a memory with Memory.create, .adopt, .adopt_pieces, .open or .from_calls")

    @classmethod
    def _made(cls, place: ctypes.c_void_p) -> Memory:
        memory = cls.__new__(cls)
        memory._take(place, lib.iommu_memory_free)
        return memory

    @classmethod
    def create(cls, size: int) -> Memory:
        """`size` bytes of RAM from address 0 on, zeros, which cost what is touched."""
        place = ctypes.c_void_p()
        check(lib.iommu_memory_create(unsigned(size, "size"), ctypes.byref(place)))
        return cls._made(place)

    @classmethod
    def adopt(cls, buffer: BufferLike, *, address: int = 0) -> Memory:
        """The bytes of an object as RAM from `address` on, without a copy.

        The buffer must be writable, whole pages of 4 KiB long and lie at a multiple of 4 KiB, as mmap.mmap
        does. It is held, so that it cannot change its size, until the memory and all that was made over it
        are gone. A file below a mapping must not become shorter.

        Raises:
            ArgumentError: The buffer is of no use so; the message says what is.
        """
        return cls.adopt_pieces([(address, buffer)])

    @classmethod
    def adopt_pieces(cls, pieces: Iterable[Tuple[int, BufferLike]]) -> Memory:
        """The bytes of several objects, each from an address of its own on; otherwise as `adopt`."""
        held: List[Buffer] = []
        ram: List[_abi.Ram] = []
        try:
            for address, holder in pieces:
                buffer = Buffer(holder, "the buffer", writable=True)
                held.append(buffer)
                if not buffer.byte_count or buffer.byte_count % PAGE or buffer.address % PAGE:
                    raise ArgumentError(
                        f"the buffer lies at {buffer.address:#x} and is {buffer.byte_count} bytes long: both "
                        "have to be multiples of 4096, as with mmap.mmap(-1, size) and what is made over it "
                        "with numpy.frombuffer"
                    )
                ram.append(
                    _abi.Ram(unsigned(address, "address"), buffer.address, buffer.byte_count)
                )
            number = next(_numbers)
            _kept[number] = held
            place = ctypes.c_void_p()
            try:
                check(
                    lib.iommu_memory_adopt(
                        (_abi.Ram * len(ram))(*ram),
                        len(ram),
                        _release,
                        ctypes.c_void_p(number),
                        ctypes.byref(place),
                    )
                )
            except BaseException:
                del _kept[number]
                raise
        except BaseException:
            for buffer in held:
                buffer.release()
            raise
        return cls._made(place)

    @classmethod
    def open(cls, *paths: Union[str, os.PathLike[str]]) -> Memory:
        """A memory dump: ELF core, kdump-compressed, flattened, LiME, raw; several files are the parts of one.

        Nothing can be written. A file that becomes shorter raises InputError at the next call that looks
        at it.

        Raises:
            InputError: A file cannot be read, or is no dump.
        """
        names = [c_text(os.fspath(path), "path") for path in paths]
        place = ctypes.c_void_p()
        array = (ctypes.c_char_p * len(names))(*names)
        check(lib.iommu_memory_open(array, len(names), ctypes.byref(place)))
        memory = cls._made(place)
        memory._is_dump_file = True
        return memory

    @classmethod
    def from_calls(
        cls,
        *,
        read: Read,
        write: Optional[Write] = None,
        compare_exchange: Optional[CompareExchange] = None,
        ranges: Iterable[RangeLike],
        is_dump: bool = False,
    ) -> Memory:
        """Memory that functions answer for. What they raise comes out of the call that asked.

        Args:
            read: Is given an address and a size; returns so many bytes, or fewer where the rest is not
                there. Aligned words of 4 and 8 bytes are asked for whole.
            write: Is given an address and bytes; returns how many it has stored, or None for all of them.
            compare_exchange: Is given an address, what is expected of the little-endian quadword there,
                and what to store if it is so; returns what was there. Without it a read and a write take
                its place.
            ranges: Where memory answers: pairs of address and size, ascending, not touching each other.
            is_dump: What does not answer is unknown, instead of not there.
        """

        def c_read(context: int, address: int, place: int, size: int) -> int:
            data = read(address, size)
            view = memoryview(data)
            if view.nbytes > size:
                raise ValueError(f"read answered {view.nbytes} bytes at {address:#x}, where {size} were asked for")
            if isinstance(data, bytes):
                ctypes.memmove(place, data, len(data))
            else:
                target = memoryview((ctypes.c_ubyte * size).from_address(place)).cast("B")
                target[: view.nbytes] = view.cast("B")
            return view.nbytes

        def c_write(context: int, address: int, place: int, size: int) -> int:
            assert write is not None
            done = write(address, ctypes.string_at(place, size))
            if done is None:
                return size
            if not 0 <= done <= size:
                raise ValueError(f"write answered {done} for {size} bytes at {address:#x}")
            return done

        def c_exchange(context: int, address: int, expected: Any, desired: int) -> int:
            assert compare_exchange is not None
            wanted = expected[0]
            found = unsigned(compare_exchange(address, wanted, desired), "what compare_exchange found")
            expected[0] = found
            return int(found == wanted)

        where = c_ranges(ranges, "ranges")
        number = next(_numbers)
        calls = _abi.MemoryCalls(
            size=ctypes.sizeof(_abi.MemoryCalls),
            context=number,
            ranges=where,
            range_count=len(where),
            read=_abi.READ(guarded(0, c_read)),
            release=_release,
            is_dump=int(bool(is_dump)),
        )
        if write is not None:
            calls.write = _abi.READ(guarded(0, c_write))
        if compare_exchange is not None:
            calls.compare_exchange = _abi.COMPARE_EXCHANGE(guarded(0, c_exchange))
        # The structure holds the functions, for as long as the library may call them.
        _kept[number] = [calls]
        place = ctypes.c_void_p()
        try:
            check(lib.iommu_memory_create_with_calls(ctypes.byref(calls), ctypes.byref(place)))
        except BaseException:
            _kept.pop(number, None)
            raise
        return cls._made(place)

    def check(self) -> None:
        """Raises InputError when something of a dump could not be read since it was opened."""
        check(lib.iommu_memory_check(self._ref()))

    def _check_file(self) -> None:
        raise_pending()
        if self._is_dump_file:
            self.check()

    def readinto(self, address: int, buffer: BufferLike) -> int:
        """Copies bytes from `address` on into a buffer; returns how many are there in one run."""
        done = ctypes.c_size_t()
        with Buffer(buffer, "buffer", writable=True) as target:
            check(
                lib.iommu_memory_read(
                    self._ref(),
                    unsigned(address, "address"),
                    target.address,
                    target.byte_count,
                    ctypes.byref(done),
                )
            )
        self._check_file()
        return done.value

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes from `address` on.

        Raises:
            MemoryAccessError: They are not all there.
        """
        size = unsigned(size, "size", 40)
        buffer = bytearray(size)
        done = self.readinto(address, buffer)
        if done != size:
            raise MemoryAccessError(
                f"{address:#x} has {done} bytes of the {size} that were asked for: `ranges` says where memory "
                "answers, `readinto` takes what is there"
            )
        return bytes(buffer)

    def write(self, address: int, data: BufferLike) -> None:
        """Stores bytes from `address` on.

        Raises:
            MemoryAccessError: They were not all stored.
            UnsupportedError: Nothing can be written to a dump.
        """
        done = ctypes.c_size_t()
        with Buffer(data, "data") as source:
            check(
                lib.iommu_memory_write(
                    self._ref(),
                    unsigned(address, "address"),
                    source.address,
                    source.byte_count,
                    ctypes.byref(done),
                )
            )
            if done.value != source.byte_count:
                raise MemoryAccessError(
                    f"of {source.byte_count} bytes {done.value} were stored from {address:#x} on: `ranges` says "
                    "where memory answers"
                )

    def read_quadword(self, address: int) -> int:
        """The little-endian quadword at an address: an entry of most tables."""
        return int.from_bytes(self.read(address, 8), "little")

    def write_quadword(self, address: int, value: int) -> None:
        """Stores a little-endian quadword."""
        self.write(address, unsigned(value, "value").to_bytes(8, "little"))

    @property
    def ranges(self) -> Tuple[Range, ...]:
        """Where memory answers, ascending."""
        count = ctypes.c_size_t()
        check(lib.iommu_memory_ranges(self._ref(), None, 0, ctypes.byref(count)))
        found = (_abi.Range * count.value)()
        check(lib.iommu_memory_ranges(self._ref(), found, len(found), ctypes.byref(count)))
        return tuple(Range(item.address, item.size) for item in found)

    def find(self) -> List[Candidate]:
        """Looks for tables by their structure alone; what is likeliest comes first."""
        found: List[Candidate] = []

        def add(entry: Any, context: object) -> int:
            told = entry.contents
            found.append(
                Candidate(
                    text(told.kind),
                    told.address,
                    told.byte_count,
                    told.score,
                    bool(told.is_certain),
                    tuple(text(told.reasons).splitlines()),
                )
            )
            return 0

        check(lib.iommu_find(self._ref(), _abi.CANDIDATE(guarded(1, add)), None))
        return found
