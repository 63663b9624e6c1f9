#!/usr/bin/env bash
# drgn 0.3.0 (PyPI) and the names in the header of a kdump-compressed dump.
#
# The header has the six names of uname. A dump without a node or domain name is opened. Without system,
# release, version or machine it is not, and the reason given is that the architecture has no value, though
# the machine's name is there: the library below takes a header with an empty name for none.
set -euo pipefail
. "$(dirname "$0")/core.inc"

python3 -m venv "$work/env"
"$work/env/bin/pip" install -q --disable-pip-version-check drgn==0.3.0
seen() { # NUMBER OF THE NAME THAT IS MISSING
  "$work/env/bin/python" - "$work/dump" "$1" <<'PYTHON'
import struct
import sys

import drgn

path, missing = sys.argv[1], int(sys.argv[2])
PAGE = 4096
info = (b"OSRELEASE=6.1.0-sample\nPAGESIZE=4096\nNUMBER(phys_base)=0\nNUMBER(pgtable_l5_enabled)=0\n"
        b"KERNELOFFSET=0\nSYMBOL(swapper_pg_dir)=ffffffff80001000\n")
names = ["Linux", "host", "6.1.0-sample", "#1 SMP sample", "x86_64", "(none)"]
header = bytearray(PAGE)
header[0:12] = b"KDUMP   " + struct.pack("<i", 6)
for index, name in enumerate(names):
    if index != missing:
        header[12 + 65 * index:12 + 65 * index + len(name)] = name.encode()
# Status, block size, blocks of the sub header and of the bitmaps, page frames; processors.
struct.pack_into("<IIIII", header, 424, 0, PAGE, 1, 2, 2)
struct.pack_into("<I", header, 460, 1)
sub = bytearray(PAGE)
note = struct.pack("<III", 11, len(info), 0) + b"VMCOREINFO\0\0" + info.ljust(-(-len(info) // 4) * 4, b"\0")
struct.pack_into("<QQQQ", sub, 32, PAGE + 1024 + 24, len(info), PAGE + 1024, len(note))
struct.pack_into("<Q", sub, 96, 2)
sub[1024:1024 + len(note)] = note
# Page frame 1 alone, as it is.
bitmap = bytearray(PAGE)
bitmap[0] = 2
start = 4 * PAGE
descriptor = struct.pack("<QIIQ", start + 24, PAGE, 0, 0)
with open(path, "wb") as out:
    out.write(header + sub + bitmap + bitmap + descriptor + bytes(range(256)) * 16)
program = drgn.Program()
try:
    program.set_core_dump(path)
    print("opened")
except Exception as error:
    print(error)
PYTHON
}
refused="kdump_get_string_attr(KDUMP_ATTR_ARCH_NAME): Key has no value"
expect "all names" "$(seen 9)" opened
expect "no system" "$(seen 0)" "$refused"
expect "no node" "$(seen 1)" opened
expect "no release" "$(seen 2)" "$refused"
expect "no version" "$(seen 3)" "$refused"
expect "no machine" "$(seen 4)" "$refused"
expect "no domain" "$(seen 5)" opened
