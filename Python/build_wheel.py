#!/usr/bin/env python3
"""Makes the wheel of iommutables: the package, and libiommu inside of it.

    build_wheel.py [--library DIR] [--output DIR]

Needs nothing but Python, and is a build backend as well: `pip wheel Python/` comes here. The same library and
the same sources give the same bytes; SOURCE_DATE_EPOCH says which time files carry.
"""

from __future__ import annotations

import argparse
import base64
import ctypes
import hashlib
import io
import os
import re
import struct
import sys
import time
import zipfile
from pathlib import Path
from typing import Dict, List, Optional, Set, Tuple

HERE = Path(__file__).resolve().parent
NAME = "iommutables"
LIBRARY = "libiommu.so.1"

# What every Linux has that calls itself manylinux (PEP 600), of what libiommu may need.
EVERYWHERE = {
    "libc.so.6",
    "libm.so.6",
    "libdl.so.2",
    "librt.so.1",
    "libpthread.so.0",
    "libgcc_s.so.1",
    "libstdc++.so.6",
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
}


class Unfit(Exception):
    """The library is not what a wheel can carry."""


def needs(library: bytes) -> Tuple[str, Set[str], Set[Tuple[int, int]]]:
    """The machine of a shared library, the libraries and the versions of glibc that it needs."""
    if library[:6] != b"\x7fELF\x02\x01":
        raise Unfit("it is no 64-bit little-endian ELF file")
    machines = {62: "x86_64", 183: "aarch64"}
    machine = machines.get(struct.unpack_from("<H", library, 18)[0])
    if machine is None:
        raise Unfit("it is for a machine that has no manylinux here: x86-64 and aarch64 have")
    (table,) = struct.unpack_from("<Q", library, 40)
    size, count = struct.unpack_from("<HH", library, 58)
    # Type, offset, bytes, linked section, information.
    sections = [
        struct.unpack_from("<4xI16xQQII", library, table + index * size) for index in range(count)
    ]

    def name(strings: int, at: int) -> str:
        start = sections[strings][1] + at
        return library[start : library.index(b"\0", start)].decode("ascii")

    needed: Set[str] = set()
    versions: Set[Tuple[int, int]] = set()
    for kind, offset, length, link, entries in sections:
        if kind == 6:  # SHT_DYNAMIC
            for at in range(offset, offset + length, 16):
                tag, value = struct.unpack_from("<QQ", library, at)
                if tag == 1:  # DT_NEEDED
                    needed.add(name(link, value))
        elif kind == 0x6FFFFFFE:  # SHT_GNU_verneed
            at = offset
            for _ in range(entries):
                parts, _, first, following = struct.unpack_from("<2xHIII", library, at)
                part = at + first
                for _ in range(parts):
                    text, after = struct.unpack_from("<8xII", library, part)
                    found = re.fullmatch(r"GLIBC_(\d+)\.(\d+)(\.\d+)?", name(link, text))
                    if found:
                        versions.add((int(found[1]), int(found[2])))
                    part += after
                at += following
    return machine, needed, versions


def platform_tag(library: bytes) -> str:
    """The tag that is true of a library: manylinux by the newest version of glibc that it asks for."""
    machine, needed, versions = needs(library)
    others = sorted(needed - EVERYWHERE)
    if others:
        raise Unfit(f"it needs {', '.join(others)}, which not every Linux has")
    if not versions:
        raise Unfit("it asks for no version of glibc: is it a library at all?")
    newest = max(versions)
    return f"manylinux_{newest[0]}_{newest[1]}_{machine}"


def version_of(library: Path) -> str:
    """The version that a library says it has."""
    loaded = ctypes.CDLL(str(library))
    loaded.iommu_version.restype = ctypes.c_char_p
    version: bytes = loaded.iommu_version()
    return version.decode("ascii")


def project() -> Dict[str, List[str]]:
    """What pyproject.toml says, as far as metadata wants it: Python before 3.11 reads no TOML."""
    text = (HERE / "pyproject.toml").read_text()
    found: Dict[str, List[str]] = {}
    for key, value in re.findall(r"^([a-z-]+) = (\[.*?\]|\".*?\")$", text, re.M | re.S):
        found[key] = re.findall(r'"(.*?)"', value)
    return found


def metadata(version: str) -> str:
    """METADATA, of the version 2.4."""
    said = project()
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {NAME}",
        f"Version: {version}",
        f"Summary: {said['description'][0]}",
        f"Requires-Python: {said['requires-python'][0]}",
        f"License-Expression: {said['license'][0]}",
        *(f"License-File: {name}" for name in said["license-files"]),
        f"Keywords: {','.join(said['keywords'])}",
        *(f"Classifier: {name}" for name in said["classifiers"]),
        "Description-Content-Type: text/markdown",
        "",
        (HERE / said["readme"][0]).read_text(),
    ]
    return "\n".join(lines)


def date() -> Tuple[int, int, int, int, int, int]:
    """The time that all files carry: ZIP begins in 1980."""
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    moment = time.gmtime(max(seconds, 315532800))
    return (moment.tm_year, moment.tm_mon, moment.tm_mday, moment.tm_hour, moment.tm_min, moment.tm_sec)


def build(library: Path, output: Path) -> Path:
    """Makes the wheel, and returns where it is."""
    content = library.read_bytes()
    try:
        tag = f"py3-none-{platform_tag(content)}"
    except Unfit as error:
        raise SystemExit(f"{library}: {error}") from None
    version = version_of(library)
    about = f"{NAME}-{version}.dist-info"
    files: Dict[str, bytes] = {
        f"{NAME}/{path.name}": path.read_bytes()
        for path in sorted((HERE / NAME).iterdir())
        if path.suffix == ".py" or path.name == "py.typed"
    }
    files[f"{NAME}/{LIBRARY}"] = content
    files[f"{about}/METADATA"] = metadata(version).encode()
    files[f"{about}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: build_wheel.py\nRoot-Is-Purelib: false\nTag: {tag}\n"
    ).encode()
    files[f"{about}/entry_points.txt"] = (
        f"[drgn.plugins]\n{NAME} = {project()[NAME][0]}\n"
    ).encode()
    files[f"{about}/licenses/LICENSE"] = (HERE.parent / "LICENSE").read_bytes()
    record = io.StringIO()
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record.write(f"{name},sha256={digest},{len(data)}\n")
    record.write(f"{about}/RECORD,,\n")
    files[f"{about}/RECORD"] = record.getvalue().encode()

    output.mkdir(parents=True, exist_ok=True)
    wheel = output / f"{NAME}-{version}-{tag}.whl"
    part = wheel.with_suffix(".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, date())
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = (0o100755 if name.endswith(LIBRARY) else 0o100644) << 16
            archive.writestr(entry, data)
    part.replace(wheel)
    return wheel


def default_library() -> Path:
    return Path(os.environ.get("IOMMU_LIBRARY_DIR", HERE.parent / ".build" / "library"))


def found(directory: Path) -> Path:
    library = directory / LIBRARY
    if not library.exists():
        raise SystemExit(f"there is no {library}: `make library` makes it")
    return library


# A build backend (PEP 517).


def build_wheel(
    wheel_directory: str,
    config_settings: Optional[Dict[str, str]] = None,
    metadata_directory: Optional[str] = None,
) -> str:
    return build(found(default_library()), Path(wheel_directory)).name


def build_sdist(sdist_directory: str, config_settings: Optional[Dict[str, str]] = None) -> str:
    raise SystemExit("iommutables has no source distribution: its library is built by `make library`")


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes the wheel of iommutables.")
    parser.add_argument("--library", type=Path, default=default_library(), metavar="DIR")
    parser.add_argument("--output", type=Path, default=HERE.parent / ".build" / "wheel", metavar="DIR")
    options = parser.parse_args()
    print(build(found(options.library), options.output))


if __name__ == "__main__":
    sys.exit(main())
