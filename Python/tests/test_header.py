"""The declarations for ctypes against iommu.h."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from iommutables import _abi
from iommutables.errors import Status

HEADER = "Sources/CIOMMU/include/iommu.h"

STRUCTURES = {
    "iommu_range": _abi.Range,
    "iommu_ram": _abi.Ram,
    "iommu_memory_calls": _abi.MemoryCalls,
    "iommu_vtd_registers": _abi.VTdRegisters,
    "iommu_amdvi_registers": _abi.AMDViRegisters,
    "iommu_calgary_bridge": _abi.CalgaryBridge,
    "iommu_calgary_registers": _abi.CalgaryRegisters,
    "iommu_gart_registers": _abi.GARTRegisters,
    "iommu_translation": _abi.Translation,
    "iommu_walk_step": _abi.WalkStep,
    "iommu_mapping": _abi.Mapping,
    "iommu_candidate": _abi.Candidate,
    "iommu_verdict": _abi.Verdict,
    "iommu_vtd_options": _abi.VTdOptions,
    "iommu_amdvi_options": _abi.AMDViOptions,
    "iommu_calgary_options": _abi.CalgaryOptions,
    "iommu_gart_options": _abi.GARTOptions,
    "iommu_unit_options": _abi.UnitOptions,
    "iommu_interrupt": _abi.Interrupt,
}


def header(root: Path) -> str:
    text = (root / HEADER).read_text()
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    return re.sub(r"^static inline .*?^}", "", text, flags=re.S | re.M)


def test_every_function_of_the_header_is_declared_with_as_many_arguments(root: Path) -> None:
    found = {}
    # Function pointers among the arguments have parentheses and commas of their own.
    for name, rest in re.findall(r"^[a-z_0-9 ]+[ *](iommu_[a-z_0-9]+)\((.*?)\);", header(root), re.M | re.S):
        while "(" in rest:
            rest = re.sub(r"\([^()]*\)", "", rest)
        arguments = [part.strip() for part in rest.split(",")]
        found[name] = 0 if arguments == ["void"] else len(arguments)
    declared = {name: len(arguments) for name, (_, arguments) in _abi.FUNCTIONS.items()}
    assert found == declared


def test_every_structure_of_the_header_is_declared(root: Path) -> None:
    found = re.findall(r"^typedef struct (iommu_\w+) \{", header(root), re.M)
    assert sorted(found) == sorted(STRUCTURES)


def test_statuses_are_those_of_the_header(root: Path) -> None:
    found = {
        name.replace("ERROR_", ""): int(number)
        for name, number in re.findall(r"IOMMU_(OK|ERROR_\w+|STOPPED) = (\d)", header(root))
    }
    assert found == {status.name: int(status) for status in Status}


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_members_lie_where_the_compiler_lays_them(root: Path, tmp_path: Path) -> None:
    lines = []
    for name, structure in STRUCTURES.items():
        lines.append(f'printf("{name} %zu\\n", sizeof({name}));')
        for member, *_ in structure._fields_:
            lines.append(f'printf("{name}.{member} %zu\\n", offsetof({name}, {member}));')
    source = tmp_path / "layout.c"
    source.write_text('#include <stdio.h>\n#include "iommu.h"\nint main(void) {\n' + "\n".join(lines) + "\n}\n")
    program = tmp_path / "layout"
    subprocess.run(["cc", "-I", str(root / HEADER).rsplit("/", 1)[0], str(source), "-o", str(program)], check=True)
    told = dict(
        line.split()
        for line in subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()
    )
    ours = {}
    for name, structure in STRUCTURES.items():
        ours[name] = str(ctypes.sizeof(structure))
        for member, *_ in structure._fields_:
            ours[f"{name}.{member}"] = str(getattr(structure, member).offset)
    assert told == ours
