#!/usr/bin/env python3
"""The binary interface of iommu.h: what a program that was compiled with it relies on.

Usage: abi.py print                 what the header has: functions, layouts, types, numbers
       abi.py check [LIBRARY...]    against what is recorded of its number, and of what libraries export

The record of a number is iommu-NUMBER.txt beside this file. As long as nobody has a release with the number,
`make abi-record` writes it anew; afterwards a change takes a new IOMMU_ABI_VERSION and a new record, and what
is taken away or changes its layout takes a new soname too.

The compiler tells what the header declares; sizes, offsets and numbers come out of a C program that is made
of it, compiled and run. Needs the toolchain's clang, and nm for libraries.
IOMMU_HEADER names another header.
"""
import difflib
import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
HEADER = os.environ.get("IOMMU_HEADER", os.path.join(HERE, "../../Sources/CIOMMU/include/iommu.h"))
COMPILER = os.environ.get("CC", "clang")


def run(*command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def declarations():
    """Top-level declarations of the header itself, in its order."""
    tree = json.loads(run(COMPILER, "-std=c99", "-fsyntax-only", "-Xclang", "-ast-dump=json", "-x", "c", HEADER))
    file = None
    for node in tree["inner"]:
        place = node.get("loc", {})
        # A place names its file where that is another than the one before.
        place = place.get("expansionLoc", place)
        file = place.get("file", file)
        if file and os.path.samefile(file, HEADER):
            yield node


def macros():
    """Names of those that stand for a number."""
    named = run(COMPILER, "-std=c99", "-dM", "-E", "-x", "c", HEADER)
    # The value goes through the compiler: what is none is left out here.
    return sorted(m[1] for m in re.finditer(r"^#define (IOMMU_\w+) +\S", named, re.M))


def literal(text):
    return json.dumps(text)


def interface():
    """A line for each thing a program relies on, sorted by kind and then as the header has them."""
    functions, types, numbers, records, last = [], [], macros(), [], None
    for node in declarations():
        kind = node["kind"]
        if kind == "FunctionDecl":
            # A static inline function is compiled into the program, and calls nothing of the library.
            if node.get("storageClass") != "static":
                functions.append(f"function {node['name']}: {node['type']['qualType']}")
        elif kind == "EnumDecl":
            numbers += [n["name"] for n in node["inner"] if n["kind"] == "EnumConstantDecl"]
        elif kind == "RecordDecl":
            last = node
            if node.get("completeDefinition"):
                records.append((node["tagUsed"], node["name"],
                                [(f["name"], f["type"]["qualType"]) for f in node["inner"]
                                 if f["kind"] == "FieldDecl"]))
        elif kind == "TypedefDecl":
            type_ = node["type"]["qualType"]
            if type_ != f"struct {node['name']}":
                types.append((node["name"], type_))
            elif not last or not last.get("completeDefinition"):
                types.append((node["name"], "opaque"))
    lines = []
    for tag, name, fields in records:
        lines.append(f'printf("struct {name}: %zu bytes, aligned to %zu\\n", '
                     f"sizeof({tag} {name}), _Alignof({tag} {name}));")
        for field, type_ in fields:
            lines.append(f'printf("  %zu: %zu bytes, %s: %s\\n", offsetof({tag} {name}, {field}), '
                         f"sizeof((({tag} {name} *)0)->{field}), {literal(field)}, {literal(type_)});")
    for name, type_ in types:
        if type_ == "opaque":
            lines.append(f'puts("type {name}: opaque");')
        else:
            lines.append(f'printf("type {name}: %s, %zu bytes\\n", {literal(type_)}, sizeof({name}));')
    for name in numbers:
        # Function-like macros and guards are no numbers.
        lines.append(f'printf("number {name}: %lld, %zu bytes\\n", (long long){name}, sizeof({name}));')
    program = "#include <stddef.h>\n#include <stdio.h>\n#include \"iommu.h\"\nint main(void) {\n" \
        + "\n".join(lines) + "\nreturn 0;\n}\n"
    with tempfile.TemporaryDirectory() as directory:
        source, binary = os.path.join(directory, "abi.c"), os.path.join(directory, "abi")
        with open(source, "w") as file:
            file.write(program)
        run(COMPILER, "-std=c11", "-w", "-I", os.path.dirname(HEADER), "-o", binary, source)
        return functions + run(binary).splitlines()


def exported(library):
    """What a program can link with, of a shared library or an archive."""
    shared = ".so" in os.path.basename(library)
    rows = run("nm", "--defined-only", "--extern-only", *(["--dynamic"] if shared else []), library)
    names = {row.split()[2].split("@")[0] for row in rows.splitlines() if len(row.split()) == 3}
    return names - {"IOMMU_1"}


def check(libraries):
    found = interface()
    number = next(re.search(r": (\d+),", line)[1] for line in found if line.startswith("number IOMMU_ABI_VERSION:"))
    record = os.path.join(HERE, f"iommu-{number}.txt")
    name = os.path.relpath(record)
    if not os.path.exists(record):
        sys.exit(f"WRONG nothing is recorded of ABI {number}: 'make abi-record' writes {name}")
    with open(record) as file:
        known = file.read().splitlines()
    if found != known:
        print("\n".join(difflib.unified_diff(known, found, name, "iommu.h", lineterm="", n=0)))
        sys.exit(f"WRONG iommu.h is not ABI {number} any more: raise IOMMU_ABI_VERSION and record it with 'make "
                 f"abi-record'; while no release has {number}, 'make abi-record' alone will do")
    functions = {line.split(":")[0].split()[1] for line in found if line.startswith("function ")}
    for library in libraries:
        names = exported(library)
        for what, these in [("lacks", functions - names), ("shows", names - functions)]:
            if these:
                sys.exit(f"WRONG {library} {what} {', '.join(sorted(these))}")
    structs = sum(line.startswith("struct ") for line in found)
    print(f"ok    iommu.h is ABI {number}: {len(functions)} functions, {structs} structures"
          + "".join(f"; {os.path.basename(l)} exports those functions and nothing else" for l in libraries))


if sys.argv[1:] == ["print"]:
    print("\n".join(interface()))
elif sys.argv[1:2] == ["check"]:
    check(sys.argv[2:])
else:
    sys.exit(__doc__)
