#!/usr/bin/env python3
"""Compares `iommu decode dmar` with what iasl makes of the same tables.

usage: dmar.py TOOL DIRECTORY
"""
import json, re, subprocess, sys
from pathlib import Path

iommu, directory = sys.argv[1], Path(sys.argv[2])
names = ["DRHD", "RMRR", "ATSR", "RHSA", "ANDD", "SATC", "SIDP"]
kinds = {1: "endpoint", 2: "sub-hierarchy", 3: "I/O APIC", 4: "HPET", 5: "ACPI device"}


def iasl(path):
    """The table as iasl takes it apart: header fields, structures, scopes."""
    subprocess.run(["iasl", "-d", path.name], cwd=path.parent, check=True, capture_output=True)
    header, structures, target = {}, [], None
    target = header
    for line in path.with_suffix(".dsl").read_text().splitlines():
        match = re.match(r"\[\w+h \w+\s+\w+\]\s+(.*?) : (.*)", line)
        if not match:
            continue
        field, value = match.group(1).strip(), match.group(2).strip()
        if field == "Subtable Type":
            target = {"type": names[int(value.split()[0], 16)], "scopes": []}
            structures.append(target)
        elif field == "Device Scope Type":
            target = {"type": kinds[int(value.split()[0], 16)], "path": []}
            structures[-1]["scopes"].append(target)
        elif field == "PCI Path":
            device, function = value.split(",")
            target["path"].append(f"{int(device, 16):02x}.{int(function, 16)}")
        else:
            target[field] = value
    return header, structures


def number(text):
    return int(text, 0)


def expected(structure):
    """What the tool should say of a structure, by iasl's fields."""
    hexadecimal = lambda name: int(structure[name], 16)
    kind = structure["type"]
    if kind == "DRHD":
        return {
            "base": hexadecimal("Register Base Address"),
            "segment": hexadecimal("PCI Segment Number"),
            "include_pci_all": hexadecimal("Flags") & 1,
        }
    if kind == "RMRR":
        return {
            "base": hexadecimal("Base Address"), "limit": hexadecimal("End Address (limit)"),
            "segment": hexadecimal("PCI Segment Number"),
        }
    if kind == "ATSR":
        return {
            "all_ports": hexadecimal("Flags") & 1, "segment": hexadecimal("PCI Segment Number"),
        }
    if kind == "RHSA":
        return {
            "base": hexadecimal("Base Address"),
            "proximity_domain": hexadecimal("Proximity Domain"),
        }
    if kind == "ANDD":
        return {"number": hexadecimal("Device Number"), "name": structure["Device Name"].strip('"')}
    return {
        "atc_required": hexadecimal("Flags") & 1, "segment": hexadecimal("PCI Segment Number"),
    }


def given(values):
    def value(name, text):
        if name == "name":
            return text
        return {"true": 1, "false": 0}.get(text) if text in ("true", "false") else number(text)
    return {name: value(name, text) for name, text in values.items() if name != "register_bytes"}


compared = 0
def same(path, what, ours, theirs):
    global compared
    compared += 1
    if ours != theirs:
        sys.exit(f"{path.name}: {what}: iommu says {ours!r}, iasl {theirs!r}")


paths = sorted(directory.glob("*.dat"))
for path in paths:
    answer = subprocess.run(
        [iommu, "decode", "dmar", str(path), "--format", "json"], capture_output=True, text=True)
    if answer.returncode not in (0, 1):
        sys.exit(f"{path.name}: {answer.stderr}")
    ours = json.loads(answer.stdout)
    header, structures = iasl(path)
    same(path, "length", ours["bytes"], int(header["Table Length"], 16))
    same(path, "revision", ours["revision"], int(header["Revision"], 16))
    same(path, "checksum", int(ours["checksum"], 16), int(header["Checksum"].split()[0], 16))
    same(path, "OEM id", ours["oem_id"], header["Oem ID"].strip('"').rstrip())
    same(path, "table id", ours["oem_table_id"], header["Oem Table ID"].strip('"').rstrip())
    same(path, "width", ours["host_address_width"], int(header["Host Address Width"], 16) + 1)
    flags = int(header["Flags"], 16)
    all_flags = ["INTR_REMAP", "X2APIC_OPT_OUT", "DMA_CTRL_PLATFORM_OPT_IN"]
    same(path, "flags", ours["flags"], [f for bit, f in enumerate(all_flags) if flags >> bit & 1])
    same(path, "structures", len(ours["structures"]), len(structures))
    for mine, theirs in zip(ours["structures"], structures):
        where = f"{mine['type']} at byte {mine['offset']}"
        same(path, where, mine["type"], theirs["type"])
        same(path, where + " length", mine["bytes"], int(theirs["Length"], 16))
        same(path, where, given(mine["values"]), expected(theirs))
        same(path, where + " scopes", len(mine["scopes"]), len(theirs["scopes"]))
        for scope, other in zip(mine["scopes"], theirs["scopes"]):
            same(path, where + " scope", scope["type"], other["type"])
            same(path, where + " bus", int(scope["start_bus"], 16), int(other["PCI Bus Number"], 16))
            same(path, where + " path", scope["path"], other["path"])
            if "number" in scope:
                same(path, where + " number", scope["number"], int(other["Enumeration ID"], 16))
print(f"{len(paths)} DMAR tables, {compared} fields: iommu and iasl agree")
