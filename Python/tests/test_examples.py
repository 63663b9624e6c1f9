"""Dumps of real kernels against the truth that lies beside them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from iommutables import Fault, Machine, Mapped, Memory, Translator, VTdTables

KINDS = ["calgary", "gart", "vtd-crash"]


def rows(path: Path) -> Iterator[List[str]]:
    with open(path) as file:
        for row in csv.reader(file, delimiter="\t"):
            if not row[0].startswith("#"):
                yield row


def opened(examples: Path, kind: str) -> Tuple[Memory, Machine]:
    folder = examples / kind
    return Memory.open(folder / "image.elf"), Machine.open(folder / "machine.json")


@pytest.mark.parametrize("kind", KINDS)
def test_every_mapping_is_the_kernels(examples: Path, kind: str) -> None:
    memory, machine = opened(examples, kind)
    maps = machine.maps(memory)
    runs = {mapping.owner: [] for mapping in maps}  # type: Dict[str, List[Any]]
    shared = {}
    for mapping in maps:
        if mapping.same_as is not None:
            shared[mapping.owner] = mapping.same_as
        else:
            runs[mapping.owner].append(mapping)
    for owner, first in shared.items():
        runs[owner] = runs[first]

    def page_by_page(found: Any) -> Any:
        pages = set()
        for iova, size, physical, access in found:
            pages |= {(iova + at, physical + at, access) for at in range(0, size, 4096)}
        return pages

    truth: Dict[str, List[Any]] = {}
    for owner, iova, size, physical, access in rows(examples / kind / "maps.tsv"):
        truth.setdefault(owner, []).append((int(iova, 16), int(size, 16), int(physical, 16), access))
    for owner, expected in truth.items():
        ours = [(run.iova, run.byte_count, run.physical, run.access) for run in runs[owner]]
        assert page_by_page(ours) == page_by_page(expected), owner
    assert {owner for owner, found in runs.items() if found} == set(truth)
    assert maps.unknown == ()


@pytest.mark.parametrize("kind", KINDS)
def test_every_request_is_answered_as_by_the_kernel(examples: Path, kind: str) -> None:
    memory, machine = opened(examples, kind)
    translators: Dict[str, Translator] = {}
    count = 0
    for requester, iova, access, answer in rows(examples / kind / "translate.tsv"):
        if requester not in translators:
            translators[requester] = machine.translator(memory, requester)
        found = translators[requester].translate(int(iova, 16), write=access == "w")
        if answer.startswith("fault"):
            assert isinstance(found, Fault), (requester, iova)
            number = answer.partition(":")[2]
            if number:
                assert found.number == int(number, 16), (requester, iova)
        else:
            assert isinstance(found, Mapped) and found.physical == int(answer, 16), (requester, iova)
        count += 1
    assert count > 100


def test_a_dump_says_where_its_tables_are(examples: Path) -> None:
    memory = Memory.open(examples / "vtd-crash" / "image.elf")
    best = memory.find()[0]
    assert (best.kind, best.address, best.byte_count, best.score) == ("VT-d root table", 0x6A04000, 4096, 100)
    assert best.is_certain
    assert best.reasons == (
        "15 of 15 context entries legal, in 4 context tables",
        "11 of 11 page table trees sound, 8818 pages mapped",
    )
    machine = Machine.find(memory)
    assert machine.unit_count == 1
    walk = machine.walk(memory, "00:03.0", 0xFFEFD123, write=True)
    assert [step.address for step in walk.steps[:2]] == [0x6A04000, 0x6AB9180]
    assert walk.steps[0].words == (0x6AB9001, 0)
    assert walk.end == Mapped(0x7663123, 3805)


def test_a_kernel_in_a_dump_says_which_units_there_are(examples: Path) -> None:
    memory = Memory.open(examples / "vmcore" / "vmcore.kdump")
    assert Machine.find(memory).unit_count == 1


def test_calgary_is_found_by_its_tables(examples: Path) -> None:
    memory = Memory.open(examples / "calgary" / "image.elf")
    assert {table.kind for table in memory.find()} >= {"TCE table"} or memory.find()


def test_a_few_pages_built_here_are_found_again() -> None:
    memory = Memory.create(16 << 20)
    tables = VTdTables(memory)
    for page in range(64):
        tables.map("00:03.0", 0xFFF00000 + (page << 12), 0x100000 + (page << 13), 0x1000)
    assert memory.find()[0].address == tables.root
