#!/usr/bin/env python3
"""Compares `iommu decode ivrs` and `decode iort` with what iasl makes of the same tables.

usage: ivrs.py TOOL DIRECTORY (with ivrs/*.dat, iort/*.dat, and built/*.dat, which iasl compiles again)
"""
import json, re, subprocess, sys
from pathlib import Path

iommu, directory = sys.argv[1], Path(sys.argv[2])
# Our name of a field, and iasl's at places counted from the structure's start.
fields = {
    "ivrs": {
        "type": [(0, "Subtable Type"), (0, "Entry Type")], "length": [(2, "Length")],
        "deviceid": [(4, "DeviceId"), (1, "Device ID")],
        "capability_offset": [(6, "Capability Offset")],
        "iommu_base_address": [(8, "Base Address")], "pci_segment_group": [(16, "PCI Segment Group")],
        "efr_image": [(24, "EFR Image")], "ivmd_start_address": [(16, "Start Address")],
        "ivmd_memory_block_length": [(24, "Memory Length")], "handle": [(4, "Handle")],
        "source_deviceid": [(5, "Source Used Device ID")], "variety": [(7, "Variety")],
    },
    "iort": {
        "type": [(0, "Type")], "length": [(1, "Length")], "revision": [(3, "Revision")],
        "number_of_id_mappings": [(8, "Mapping Count")],
        "reference_to_id_array": [(12, "Mapping Offset")], "base_address": [(16, "Base Address")],
        "span": [(24, "Span")], "number_of_itss": [(16, "ItsCount")],
        "global_interrupt_array_offset": [(40, "Global Interrupt Offset")],
        "number_of_context_interrupts": [(44, "Context Interrupt Count")],
        "vatos_address": [(32, "VATOS Address")], "event_gsiv": [(44, "Event GSIV")],
        "gerr_gsiv": [(52, "GERR GSIV")], "sync_gsiv": [(56, "Sync GSIV")],
        "cache_coherent_attribute": [(20, "Cache Coherency"), (16, "Cache Coherency")],
        "pci_segment_number": [(28, "PCI Segment Number")],
        "overflow_interrupt_gsiv": [(24, "Overflow Interrupt GSIV")],
        "node_reference": [(28, "Node Reference")], "page_1_base_address": [(32, "Page 1 Base Address")],
        "input_base": [(0, "Input base")], "number_of_ids": [(4, "ID Count")],
        "output_base": [(8, "Output Base")], "output_reference": [(12, "Output Reference")],
    },
}
compared = tables = 0


def fail(path, what):
    sys.exit(f"{path.name}: {what}")


def iasl(path):
    """Numbers by place and name, and where structures start, as iasl takes the table apart."""
    subprocess.run(["iasl", "-d", path.name], cwd=path.parent, check=True, capture_output=True)
    numbers, unknown = {}, []
    dsl = path.with_suffix(".dsl")
    for line in dsl.read_text().split("Raw Table Data")[0].splitlines():
        match = re.match(r"\[(\w+)h \w+\s+\w+\]\s+(.*?)(?: \(decoded below\))? : ([0-9A-F]+)\b", line)
        if match:
            numbers[int(match[1], 16), match[2].strip()] = int(match[3], 16)
        if "Unknown" in line and match:
            unknown.append(int(match[1], 16))
    return numbers, unknown, dsl


def ours(kind, *words, **options):
    answer = subprocess.run(
        [iommu, "decode", kind, *map(str, words), "--format", "json"], capture_output=True, **options)
    if answer.returncode not in (0, 1):
        fail(Path(str(words[0])), answer.stderr.decode())
    return json.loads(answer.stdout)


def number(text):
    return {"true": 1, "false": 0}[text] if text in ("true", "false") else int(text, 16)


def compare(kind, path):
    global compared, tables
    tables += 1
    mine = ours(kind, path)
    theirs, unknown, dsl = iasl(path)
    if mine["bytes"] != theirs[4, "Table Length"] or mine["revision"] != theirs[8, "Revision"]:
        fail(path, "another length or revision")
    starts = set()
    for structure in mine["structures"]:
        for item in [structure] + structure.get("parts", []):
            starts.add(item["offset"])
            for name, value in item["values"].items():
                for offset, other in fields[kind].get(name, []):
                    key = item["offset"] + offset, other
                    if key in theirs:
                        compared += 1
                        if number(value) != theirs[key]:
                            fail(path, f"byte {key[0]}: {name} {value}, iasl {theirs[key]:#x}")
    kinds = {"ivrs": ["Subtable Type", "Entry Type"], "iort": ["Type", "Input base"]}[kind]
    for place, name in theirs:
        if name in kinds and place not in starts:
            fail(path, f"iasl has a structure at byte {place}")
    # What nobody takes apart there is compared by its place alone.
    if any(place not in starts for place in unknown):
        fail(path, "iasl has a structure that is not there")
    # The same table as text, in the forms in which people have it.
    text = subprocess.run(["xxd", path.name], cwd=path.parent, capture_output=True).stdout
    for form, data in [("xxd", text), ("iasl", dsl.read_bytes())]:
        if ours(kind, "-", input=data) != mine:
            fail(path, f"another answer for the text of {form}")


def compile_again(path):
    """iasl's text of a table gives iasl the same table."""
    subprocess.run(["iasl", path.with_suffix(".dsl").name], cwd=path.parent, capture_output=True)
    compiled = path.with_suffix(".aml")
    if not compiled.exists() or compiled.read_bytes() != path.read_bytes():
        fail(path, "iasl compiles its own text of it to other bytes")


for kind in fields:
    for path in sorted((directory / kind).glob("*.dat")):
        compare(kind, path)
built = sorted((directory / "built").glob("*.dat"))
for path in built:
    compare("ivrs", path)
    if ours("ivrs", path)["violations"]:
        fail(path, "iommu complains")
    compile_again(path)
print(f"{len(built)} tables of the library's: iasl compiles them to the same bytes")
print(f"{tables} IVRS and IORT tables, {compared} fields: iommu and iasl agree")
