"""Memories of every kind."""

from __future__ import annotations

import array
import ctypes
import mmap
import os
import pickle
import signal
from pathlib import Path
from typing import Any, List

import pytest
from conftest import pages

from iommutables import (
    ArgumentError,
    HandleError,
    InputError,
    IOMMUError,
    Machine,
    Memory,
    MemoryAccessError,
    Range,
    Status,
    UnsupportedError,
    VTdTables,
)


def test_what_is_written_is_read_again(memory: Memory) -> None:
    memory.write(0x1FFE, b"across pages")
    assert memory.read(0x1FFE, 12) == b"across pages"
    memory.write_quadword(0x3000, 0x0102030405060708)
    assert memory.read(0x3000, 8) == bytes([8, 7, 6, 5, 4, 3, 2, 1])
    assert memory.read_quadword(0x3000) == 0x0102030405060708
    assert memory.read(0, 0) == b""
    memory.write(0, b"")
    target = array.array("Q", [0, 0])
    assert memory.readinto(0x3000, target) == 16
    assert target[0] == 0x0102030405060708


def test_memory_says_where_it_ends(memory: Memory) -> None:
    assert memory.ranges == (Range(0, 1 << 20),)
    with pytest.raises(MemoryAccessError, match="0xffffc has 4 bytes of the 8"):
        memory.read(0xFFFFC, 8)
    with pytest.raises(MemoryAccessError, match="of 8 bytes 4 were stored from 0xffffc"):
        memory.write(0xFFFFC, bytes(8))
    assert memory.readinto(0xFFFFC, bytearray(8)) == 4
    assert memory.readinto(1 << 40, bytearray(8)) == 0


@pytest.mark.parametrize("size", [0, 1, 1 << 63, (1 << 64) - 1])
def test_sizes_that_no_memory_has_are_refused(size: int) -> None:
    with pytest.raises(IOMMUError) as caught:
        Memory.create(size)
    assert caught.value.message and caught.value.status != Status.OK


@pytest.mark.parametrize("address", [-1, 1 << 64])
def test_addresses_are_64_bits(memory: Memory, address: int) -> None:
    with pytest.raises(ArgumentError, match="address is"):
        memory.read(address, 8)
    with pytest.raises(TypeError, match="give a whole number"):
        memory.read(1.5, 8)  # type: ignore[arg-type]


# Adopted buffers


def test_adopted_bytes_are_not_copied() -> None:
    ram = pages(256)
    memory = Memory.adopt(ram, address=0x100000)
    assert memory.ranges == (Range(0x100000, 1 << 20),)
    ram[8:16] = b"from the"
    assert memory.read(0x100008, 8) == b"from the"
    memory.write(0x100008, b"to them!")
    assert ram[8:16] == b"to them!"


def test_numpy_arrays_are_adopted() -> None:
    numpy = pytest.importorskip("numpy")
    words = numpy.frombuffer(pages(256), dtype=numpy.uint64)
    memory = Memory.adopt(words)
    tables = VTdTables(memory)
    tables.map("00:03.0", 0x1000, 0x8000, 0x1000)
    # The root table's first entry: a context table, present.
    root = tables.root
    assert int(words[root // 8]) & 1 == 1


def test_pieces_have_addresses_of_their_own() -> None:
    low, high = pages(1), pages(2)
    memory = Memory.adopt_pieces([(0, low), (1 << 32, high)])
    assert memory.ranges == (Range(0, 4096), Range(1 << 32, 8192))
    memory.write(1 << 32, b"high")
    assert high[:4] == b"high"


def test_a_buffer_at_the_wrong_place_is_refused_and_let_go() -> None:
    ram = bytearray(8192 + 1)
    view = memoryview(ram)
    start = -ctypes.addressof(ctypes.c_char.from_buffer(ram)) % 4096
    with pytest.raises(ArgumentError, match="have to be multiples of 4096, as with mmap"):
        Memory.adopt(view[start + 1 : start + 4097])
    memory = Memory.adopt(view[start : start + 4096])
    with pytest.raises(BufferError):
        ram.extend(b"more")
    memory.close()
    view.release()
    ram.extend(b"more")


@pytest.mark.parametrize("size", [0, 1, 4095])
def test_a_buffer_of_part_of_a_page_is_refused(size: int) -> None:
    with pytest.raises(ArgumentError, match="multiples of 4096"):
        Memory.adopt(memoryview(pages(1))[:size])


def test_a_buffer_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="writable"):
        Memory.adopt(bytes(4096))
    path = tmp_path / "ram"
    path.write_bytes(bytes(4096))
    with open(path, "rb") as file:
        readable = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        with pytest.raises(ArgumentError, match="writable"):
            Memory.adopt(readable)
    with pytest.raises(TypeError, match="shows no bytes"):
        Memory.adopt(7)  # type: ignore[arg-type]


def test_a_buffer_with_gaps_is_refused() -> None:
    view = memoryview(pages(4))[::2]
    with pytest.raises(ArgumentError, match="follow each other"):
        Memory.adopt(view)


def test_pieces_that_meet_are_refused_and_let_go() -> None:
    one, other = pages(2), pages(2)
    with pytest.raises(IOMMUError):
        Memory.adopt_pieces([(0, one), (0x1000, other)])
    with pytest.raises(IOMMUError):
        Memory.adopt_pieces([(1, one)])
    with pytest.raises(IOMMUError):
        Memory.adopt_pieces([])
    with pytest.raises(IOMMUError):
        Memory.adopt_pieces([((1 << 64) - 4096, one)])
    one.close()
    other.close()


def test_an_adopted_buffer_cannot_go_while_something_uses_it() -> None:
    ram = pages(256)
    memory = Memory.adopt(ram)
    tables = VTdTables(memory)
    tables.map("00:03.0", 0x1000, 0x8000, 0x1000)
    translator = tables.machine().translator(memory, "00:03.0")
    memory.close()
    tables.close()
    with pytest.raises(BufferError):
        ram.close()
    with pytest.raises(BufferError):
        ram.resize(4096)
    assert str(translator.translate(0x1000)) == "0x8000"
    translator.close()
    ram.close()


# Dumps


def test_a_dump_says_what_it_has(examples: Path) -> None:
    with Memory.open(examples / "calgary" / "image.elf") as memory:
        assert memory.ranges
        memory.check()
        with pytest.raises(UnsupportedError, match="dump"):
            memory.write(memory.ranges[0].address, b"x")
        with pytest.raises(UnsupportedError):
            VTdTables(memory)


def test_files_that_are_no_dumps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        Memory.open(tmp_path / "nowhere")
    with pytest.raises(InputError):
        Memory.open(tmp_path)
    broken = tmp_path / "broken.elf"
    broken.write_bytes(b"\x7fELF" + bytes(10))
    with pytest.raises(InputError):
        Memory.open(str(broken))
    with pytest.raises(ArgumentError):
        Memory.open()
    with pytest.raises(ArgumentError, match="NUL"):
        Memory.open("a\0b")
    with pytest.raises(TypeError):
        Memory.open(7)  # type: ignore[arg-type]


def test_a_dump_that_becomes_shorter_is_an_error(examples: Path, tmp_path: Path) -> None:
    path = tmp_path / "image.elf"
    path.write_bytes((examples / "vtd-crash" / "image.elf").read_bytes())
    memory = Memory.open(path)
    machine = Machine.find(memory)
    translator = machine.translator(memory, "00:03.0")
    words = array.array("Q", [0xFFEFD123] * 1000)
    assert set(translator.translate_many(words, write=True)) == {0x7663123}
    os.truncate(path, 8192)
    calls: List[Any] = [
        lambda: [memory.read(at.address, 8) for at in memory.ranges],
        lambda: translator.translate(0xFFEFD123),
        lambda: translator.translate_many(words),
        lambda: machine.walk(memory, "00:03.0", 0xFFEFD123),
        lambda: machine.maps(memory),
        memory.find,
        memory.check,
        lambda: Machine.find(memory),
    ]
    for call in calls:
        with pytest.raises(InputError):
            call()


# Memory that is asked for


def test_memory_of_calls_is_read_and_written() -> None:
    ram = bytearray(1 << 20)

    def read(address: int, size: int) -> memoryview:
        return memoryview(ram)[address : address + size]

    def write(address: int, data: bytes) -> None:
        ram[address : address + len(data)] = data

    memory = Memory.from_calls(read=read, write=write, ranges=[(0, len(ram))])
    tables = VTdTables(memory)
    tables.map("00:03.0", 0x1000, 0x8000, 0x1000)
    translator = tables.machine().translator(memory, "00:03.0")
    assert str(translator.translate(0x1040)) == "0x8040"
    assert any(ram)
    memory.write(0x10, b"seven")
    assert memory.read(0x10, 5) == b"seven"


def test_compare_exchange_is_asked_where_it_is_given() -> None:
    ram = bytearray(1 << 20)
    asked: List[int] = []

    def write(address: int, data: bytes) -> int:
        ram[address : address + len(data)] = data
        return len(data)

    def exchange(address: int, expected: int, desired: int) -> int:
        asked.append(address)
        found = int.from_bytes(ram[address : address + 8], "little")
        if found == expected:
            write(address, desired.to_bytes(8, "little"))
        return found

    memory = Memory.from_calls(
        read=lambda address, size: bytes(ram[address : address + size]),
        write=write,
        compare_exchange=exchange,
        ranges=[(0, len(ram))],
    )
    tables = VTdTables(memory, is_scalable=True)
    from iommutables import DomainKind

    process = tables.create_domain(DomainKind.PROCESS)
    tables.bind("00:03.0", process)
    process.map(0x1000, 0x8000, 0x1000)
    translator = tables.machine().translator(memory, "00:03.0")
    # Accessed and dirty bits are set with it, where the builder has not set them in advance.
    assert str(translator.translate(0x1000, write=True)) == "0x8000"


def test_what_a_callback_raises_comes_out_of_the_call() -> None:
    class Mine(Exception):
        pass

    def read(address: int, size: int) -> bytes:
        raise Mine(f"{address:#x}")

    memory = Memory.from_calls(read=read, ranges=[(0, 1 << 20)], is_dump=True)
    machine = Machine()
    machine.add_vtd(base=0xFED90000, root_table_address=0x1000)
    with pytest.raises(Mine, match="0x10"):
        memory.read(0x10, 8)
    with pytest.raises(Mine):
        machine.walk(memory, "00:03.0", 0x1000)
    with pytest.raises(Mine):
        machine.maps(memory)
    with pytest.raises(Mine):
        memory.find()
    with pytest.raises(Mine):
        Machine.find(memory)
    with pytest.raises(Mine):
        machine.translator(memory, "00:03.0")
    # And none of it comes later.
    assert machine.unit_count == 1


def test_what_a_store_raises_comes_out_of_the_call() -> None:
    ram = bytearray(1 << 20)
    is_broken = False

    def write(address: int, data: bytes) -> int:
        if is_broken:
            raise KeyboardInterrupt
        ram[address : address + len(data)] = data
        return len(data)

    memory = Memory.from_calls(
        read=lambda address, size: ram[address : address + size], write=write, ranges=[(0, len(ram))]
    )
    tables = VTdTables(memory)
    is_broken = True
    with pytest.raises(KeyboardInterrupt):
        tables.map("00:03.0", 0x1000, 0x8000, 0x1000)
    with pytest.raises(KeyboardInterrupt):
        memory.write(0, b"x")


def test_ctrl_c_at_any_moment_is_heard_and_nothing_is_made_up(examples: Path) -> None:
    """Also where it comes when a callback has been entered and nothing of it has run."""
    dump = Memory.open(examples / "vtd-crash/image.elf")
    machine = Machine.open(examples / "vtd-crash/machine.json")
    known = machine.maps(dump)
    held = [(part.address, dump.read(part.address, part.size)) for part in dump.ranges]

    def read(address: int, size: int) -> bytes:
        start, data = next(piece for piece in reversed(held) if piece[0] <= address)
        return data[address - start : address - start + size]

    memory = Memory.from_calls(read=read, ranges=dump.ranges, is_dump=True)
    way = machine.walk(dump, "00:03.0", 0xFFEFD123, write=True).end
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    heard = 0
    try:
        for turn in range(400):
            found: Any = None
            end: Any = None
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0003 + turn % 40 * 0.0002)
                if turn % 2:
                    found = machine.maps(dump)
                else:
                    for _ in range(8):
                        end = machine.walk(memory, "00:03.0", 0xFFEFD123, write=True).end
                        assert end == way
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                heard += 1
            assert found is None or found == known
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert heard > 20


def test_a_callback_that_answers_too_much_or_nothing_is_an_error() -> None:
    answers: List[Any] = [bytes(9), None, "text"]

    memory = Memory.from_calls(read=lambda address, size: answers[0], ranges=[(0, 4096)])
    with pytest.raises(ValueError, match="read answered 9 bytes at 0x0, where 8 were asked for"):
        memory.read(0, 8)
    for _ in range(2):
        del answers[0]
        with pytest.raises(TypeError):
            memory.read(0, 8)


@pytest.mark.parametrize("done", [-1, 9, 1 << 64])
def test_a_store_that_answers_too_much_is_an_error(done: int) -> None:
    memory = Memory.from_calls(
        read=lambda address, size: bytes(size), write=lambda address, data: done, ranges=[(0, 4096)]
    )
    with pytest.raises(ValueError, match="write answered"):
        memory.write(0, bytes(8))


def test_memory_that_answers_less_is_unanswered_or_an_error() -> None:
    ram = bytearray(1 << 20)
    held = len(ram)

    def read(address: int, size: int) -> bytes:
        return bytes(ram[address : min(address + size, held)])

    def write(address: int, data: bytes) -> int:
        count = max(0, min(len(data), held - address))
        ram[address : address + count] = data[:count]
        return count

    memory = Memory.from_calls(read=read, write=write, ranges=[(0, len(ram))])
    tables = VTdTables(memory)
    tables.map("00:03.0", 0x1000, 0x8000, 0x1000)
    machine = tables.machine()
    translator = machine.translator(memory, "00:03.0")
    held = 4096
    from iommutables import Fault

    fault = translator.translate(0x1000)
    assert isinstance(fault, Fault) and fault.is_unanswered
    assert not any(
        answer < 1 << 63 for answer in translator.translate_many(array.array("Q", [0x1000] * 100))
    )
    walk = machine.walk(memory, "00:03.0", 0x1000)
    assert isinstance(walk.end, Fault)
    with pytest.raises(MemoryAccessError):
        memory.read(4090, 8)
    with pytest.raises(IOMMUError):
        tables.map("00:04.0", 0x1000, 0x8000, 0x1000)


def test_a_store_that_is_not_taken_is_an_error() -> None:
    ram = bytearray(1 << 20)
    is_full = False

    def write(address: int, data: bytes) -> int:
        if is_full:
            return 0
        ram[address : address + len(data)] = data
        return len(data)

    memory = Memory.from_calls(
        read=lambda address, size: ram[address : address + size], write=write, ranges=[(0, len(ram))]
    )
    tables = VTdTables(memory)
    is_full = True
    with pytest.raises(MemoryAccessError, match="was not taken"):
        tables.map("00:04.0", 0x1000, 0x8000, 0x1000)


@pytest.mark.parametrize(
    "ranges",
    [[], [(0, 0)], [(4096, 4096), (0, 4096)], [(0, 4096), (4096, 4096)], [((1 << 64) - 1, 4096)]],
)
def test_ranges_ascend(ranges: Any) -> None:
    with pytest.raises(IOMMUError):
        Memory.from_calls(read=lambda address, size: b"", ranges=ranges)


def test_ranges_are_pairs() -> None:
    with pytest.raises(TypeError, match="pairs of address and size"):
        Memory.from_calls(read=lambda address, size: b"", ranges=[7])  # type: ignore[list-item]


def test_memory_without_write_takes_no_stores() -> None:
    memory = Memory.from_calls(read=lambda address, size: bytes(size), ranges=[(0, 1 << 20)])
    with pytest.raises(MemoryAccessError):
        memory.write(0, b"x")
    with pytest.raises(UnsupportedError, match="no write"):
        VTdTables(memory)


# Closing


def test_a_closed_memory_says_so(memory: Memory) -> None:
    assert not memory.closed
    memory.close()
    memory.close()
    assert memory.closed and "closed" in repr(memory)
    calls: List[Any] = [
        lambda: memory.read(0, 8),
        lambda: memory.write(0, b"x"),
        lambda: memory.ranges,
        memory.find,
        memory.check,
        lambda: VTdTables(memory),
        lambda: Machine.find(memory),
        memory.__enter__,
    ]
    for call in calls:
        with pytest.raises(HandleError, match="the memory is closed"):
            call()


def test_memory_closed_by_its_own_callback_lasts_as_long_as_the_call() -> None:
    def read(address: int, size: int) -> bytes:
        memory.close()
        return bytes(size)

    memory = Memory.from_calls(read=read, ranges=[(0, 4096)])
    assert memory.read(0, 8) == bytes(8)
    with pytest.raises(HandleError):
        memory.read(0, 8)


def test_a_memory_cannot_be_pickled_or_made_by_its_class(memory: Memory) -> None:
    with pytest.raises(TypeError):
        pickle.dumps(memory)
    with pytest.raises(TypeError, match="Memory.create"):
        Memory()


def test_many_memories_come_and_go() -> None:
    # More than there are handles, one after the other.
    for _ in range(70_000):
        Memory.from_calls(read=lambda address, size: b"", ranges=[(0, 4096)])


def test_too_many_objects_are_an_error_and_no_more() -> None:
    machines = []
    with pytest.raises(MemoryAccessError, match="65,535"):
        while True:
            machines.append(Machine())
    assert len(machines) > 60_000
