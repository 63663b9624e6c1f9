"""Translating."""

from __future__ import annotations

import array
import ctypes
import threading
from typing import Any, List

import pytest

from iommutables import (
    NO_ANSWER,
    NOT_MEMORY,
    ArgumentError,
    Device,
    Fault,
    HandleError,
    Hardware,
    InterruptMessage,
    Machine,
    Mapped,
    Memory,
    NotFoundError,
    Translator,
    VTdTables,
    is_memory,
    reasons,
    translation_of,
)


def test_one_request(translator: Translator) -> None:
    assert translator.translate(0xFFFFF040, write=True, size=64) == Mapped(0x9040, 64)
    # Up to the end of the page.
    assert translator.translate(0xFFFFFFF0, size=64) == Mapped(0x9FF0, 16)
    fault = translator.translate(0x4000, write=True)
    assert fault == Fault(
        Hardware.VTD, 5, "fault 0x5: write without write permission, or no mapping", True, False
    )
    assert translator.translate(0x4000) == Mapped(0xC000, 1)
    assert translator.translate(0xFEE00000, write=True) == InterruptMessage()
    assert str(InterruptMessage()) == "an interrupt message"


@pytest.mark.parametrize("kind", ["array", "memoryview", "ctypes", "numpy"])
def test_many_requests_answer_in_the_kind_of_array_that_asks(translator: Translator, kind: str) -> None:
    iovas = [0xFFFFE000, 0xFFFFF008, 0x4000, 0x5000]
    source: Any = array.array("Q", iovas)
    if kind == "memoryview":
        source = memoryview(source)
    elif kind == "ctypes":
        source = (ctypes.c_uint64 * 4)(*iovas)
    elif kind == "numpy":
        numpy = pytest.importorskip("numpy")
        source = numpy.array(iovas, dtype=numpy.uint64).reshape(2, 2)
    answers = translator.translate_many(source)
    assert type(answers) is type(source)
    if kind == "numpy":
        assert answers.shape == (2, 2)
        answers = answers.ravel().tolist()
    assert list(answers)[:3] == [0x8000, 0x9008, 0xC000]
    assert not is_memory(answers[3]) and is_memory(answers[0])
    assert translation_of(answers[3]) == translator.translate(0x5000)
    assert translation_of(answers[0]) == Mapped(0x8000, 1)


def test_answers_go_where_they_are_wanted(translator: Translator) -> None:
    iovas = array.array("Q", [0xFFFFE000, 0x5000])
    room = array.array("Q", [0, 0])
    assert translator.translate_many(iovas, room) is room
    assert room[0] == 0x8000 and room[1] >= NOT_MEMORY
    place = bytearray(16)
    view = memoryview(place).cast("Q")
    translator.translate_many(iovas, out=view, write=True)
    assert int.from_bytes(place[:8], "little") == 0x8000
    # Bytes that cannot be written are as good to read from.
    view = memoryview(bytes(iovas)).cast("Q")
    assert translator.translate_many(view)[0] == 0x8000


def test_no_requests_have_no_answers(translator: Translator) -> None:
    assert len(translator.translate_many(array.array("Q"))) == 0


def test_arrays_of_anything_else_are_refused(translator: Translator) -> None:
    good = array.array("Q", [1, 2])
    with pytest.raises(ArgumentError, match="items of 4 bytes and format 'I'"):
        translator.translate_many(array.array("I", [1]))
    with pytest.raises(ArgumentError, match="format 'q'"):
        translator.translate_many(array.array("q", [1]))
    with pytest.raises(ArgumentError, match="format 'd'"):
        translator.translate_many(array.array("d", [1]))
    with pytest.raises(ArgumentError, match="format 'B'"):
        translator.translate_many(bytes(16))
    with pytest.raises(TypeError, match="is a list: give words that lie side by side"):
        translator.translate_many([1, 2])  # type: ignore[type-var]
    with pytest.raises(TypeError, match="shows no bytes"):
        translator.translate_many(5)  # type: ignore[type-var]
    with pytest.raises(ArgumentError, match="out has room for 1 answers, and there are 2 addresses"):
        translator.translate_many(good, array.array("Q", [0]))
    with pytest.raises(ArgumentError, match="out has items of 4 bytes"):
        translator.translate_many(good, array.array("I", [0, 0, 0, 0]))
    with pytest.raises(ArgumentError, match="writable"):
        translator.translate_many(good, memoryview(bytes(16)).cast("Q"))
    with pytest.raises(ArgumentError, match="overlap"):
        translator.translate_many(good, good)
    with pytest.raises(ArgumentError, match="write is 2"):
        translator.translate_many(good, write=2)  # type: ignore[call-overload]


def test_numpy_arrays_of_anything_else_are_refused(translator: Translator) -> None:
    numpy = pytest.importorskip("numpy")
    with pytest.raises(ArgumentError, match="numpy.uint64"):
        translator.translate_many(numpy.arange(4))
    with pytest.raises(ArgumentError, match="format '>Q'"):
        translator.translate_many(numpy.zeros(4, dtype=">u8"))
    words = numpy.zeros(8, dtype=numpy.uint64)
    with pytest.raises(ArgumentError, match="follow each other"):
        translator.translate_many(words[::2])
    with pytest.raises(ArgumentError):
        translator.translate_many(words[:4], out=words[2:6])
    words.flags.writeable = False
    assert len(translator.translate_many(words)) == 8


def test_unaligned_words_are_refused(translator: Translator) -> None:
    numpy = pytest.importorskip("numpy")
    words = numpy.frombuffer(bytearray(17), dtype=numpy.uint64, offset=1, count=2)
    with pytest.raises(ArgumentError, match="multiples of 8"):
        translator.translate_many(words)


def test_a_buffer_cannot_change_its_size_while_it_is_translated(memory: Memory) -> None:
    tables = VTdTables(memory)
    tables.map("00:03.0", 0x1000, 0x8000, 0x1000)
    iovas = array.array("Q", [0x1000] * 8)
    caught: List[BaseException] = []
    is_asked = False

    def read(address: int, size: int) -> bytes:
        if is_asked:
            try:
                iovas.append(1)
            except BaseException as error:
                caught.append(error)
        return memory.read(address, size)

    called = Memory.from_calls(read=read, ranges=memory.ranges)
    translator = tables.machine().translator(called, "00:03.0")
    is_asked = True
    assert set(translator.translate_many(iovas)) == {0x8000}
    assert caught and all(isinstance(error, BufferError) for error in caught)


def test_what_a_callback_raises_comes_out_of_a_batch(memory: Memory) -> None:
    tables = VTdTables(memory)
    tables.map("00:03.0", 0x1000, 0x8000, 0x1000)
    is_broken = False
    calls = 0

    def read(address: int, size: int) -> bytes:
        nonlocal calls
        calls += 1
        if is_broken:
            raise OSError("gone")
        return memory.read(address, size)

    called = Memory.from_calls(read=read, ranges=memory.ranges)
    translator = tables.machine().translator(called, "00:03.0")
    is_broken = True
    calls = 0
    with pytest.raises(OSError, match="gone"):
        translator.translate_many(array.array("Q", [0x1000] * 10_000))
    # The first that fails is the last that is called.
    assert calls == 1
    with pytest.raises(OSError, match="gone"):
        translator.translate(0x1000)
    is_broken = False
    assert translator.translate(0x1000) == Mapped(0x8000, 1)


def test_the_thread_of_an_exception_is_the_one_that_called(memory: Memory) -> None:
    def read(address: int, size: int) -> bytes:
        raise OSError(threading.current_thread().name)

    called = Memory.from_calls(read=read, ranges=[(0, 1 << 20)])
    caught: List[str] = []

    def look() -> None:
        try:
            called.read(0, 8)
        except OSError as error:
            caught.append(str(error))

    thread = threading.Thread(target=look, name="another")
    thread.start()
    thread.join()
    assert caught == ["another"]
    assert memory.read(0, 8) == bytes(8)


def test_reasons_count_what_is_no_address(translator: Translator) -> None:
    iovas = array.array("Q", [0xFFFFE000, 0x4000, 0x5000, 0x6000, 0xFEE00000])
    answers = translator.translate_many(iovas, write=True)
    expected = {translator.translate(0x5000, write=True): 3, InterruptMessage(): 1}
    assert reasons(answers) == expected
    numpy = pytest.importorskip("numpy")
    assert reasons(numpy.array(answers, dtype=numpy.uint64)) == expected
    assert reasons([0x1000]) == {}


@pytest.mark.parametrize("word", [NO_ANSWER, NOT_MEMORY - 1, -1, 1 << 64])
def test_words_that_are_no_answers_are_refused(word: int) -> None:
    with pytest.raises(ArgumentError):
        translation_of(word)


def test_arguments_of_one_request_are_checked(translator: Translator) -> None:
    with pytest.raises(ArgumentError, match="iova is -0x1"):
        translator.translate(-1)
    with pytest.raises(ArgumentError, match="byte_count is 0"):
        translator.translate(0, size=0)
    with pytest.raises(TypeError, match="iova is of type str"):
        translator.translate("0x1000")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="write is 'yes'"):
        translator.translate(0x1000, write="yes")  # type: ignore[arg-type]
    translator.translate((1 << 64) - 1, size=(1 << 64) - 1)


def test_translators_are_made_of_what_they_are_made_of(memory: Memory) -> None:
    machine = Machine()
    with pytest.raises(TypeError, match="memory is of type Machine: give a Memory"):
        Translator(machine, machine, "00:03.0")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="machine is of type Memory: give a Machine"):
        Translator(memory, memory, "00:03.0")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="bus:device.function"):
        machine.translator(memory, "nobody")
    with pytest.raises(ArgumentError, match="a number is a requester-id"):
        machine.translator(memory, 1 << 16)
    with pytest.raises(TypeError, match="give a Device"):
        machine.translator(memory, 1.5)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="pasid is 0x100000"):
        machine.translator(memory, "00:03.0", pasid=1 << 20)
    machine.add_vtd(base=0xFED90000, root_table_address=0)
    with pytest.raises(NotFoundError):
        machine.translator(memory, Device(0, 3, 0, segment=7))


def test_a_machine_without_units_hands_addresses_on(memory: Memory) -> None:
    assert Machine().translator(memory, "00:03.0").translate(0x1234) == Mapped(0x1234, 1)


def test_a_closed_translator_says_so(translator: Translator) -> None:
    with translator:
        pass
    with pytest.raises(HandleError, match="the translator is closed"):
        translator.translate(0)
    with pytest.raises(HandleError, match="the translator is closed"):
        translator.translate_many(array.array("Q", [0]))


def test_a_translator_closed_by_another_thread_ends_its_call(translator: Translator) -> None:
    iovas = array.array("Q", [0xFFFFE000]) * 3_000_000
    started = threading.Event()
    answers: List[Any] = []

    def work() -> None:
        started.set()
        try:
            answers.append(translator.translate_many(iovas))
        except HandleError:
            pass

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    while not translator.closed:
        translator.close()
    thread.join()
    assert not answers or answers[0][-1] == 0x8000


def test_threads_share_a_translator(translator: Translator) -> None:
    iovas = array.array("Q", [0xFFFFE000 + 8 * index for index in range(1024)]) * 100
    wanted = translator.translate_many(iovas)
    results: List[bool] = []

    def work() -> None:
        results.append(translator.translate_many(iovas) == wanted)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 8
