#!/usr/bin/env bash
# iasl 20200925 (Debian 12) and IVHD blocks of type 40h in IVRS tables.
#
# Firmware of machines with ACPI devices names an AMD-Vi unit once more in a block of type 40h. iasl takes
# blocks of type 10h and 11h apart. One of type 40h it calls unknown, in a comment: neither the unit's
# address nor its devices are shown, the exit status is 0 all the same, and what it has written it does not
# compile. The block behind is shown again.
set -euo pipefail
. "$(dirname "$0")/core.inc"

package acpica-tools=20200925-8
iasl=$work/root/usr/bin/iasl
# An IVRS table with a unit in a block of this type, and behind it memory that devices use.
table() { # TYPE
  python3 - "$work/$1.bin" "$1" <<'PYTHON'
import struct
import sys

path, kind = sys.argv[1], int(sys.argv[2], 16)
entries = bytes.fromhex("03000000 04ffff00")
unit = struct.pack("<HHQHHI", 2, 0x40, 0xfd300000, 0, 0, 0)
unit += (struct.pack("<QQ", 0x29d3, 0) if kind > 0x10 else b"") + entries
memory = struct.pack("<BBHHHQQQ", 0x22, 7, 32, 0x300, 0x3ff, 0, 0x7e000000, 0x100000)
body = struct.pack("<I8x", 0x203041) + struct.pack("<BBH", kind, 0, 4 + len(unit)) + unit + memory
table = bytearray(b"IVRS" + struct.pack("<IBB", 36 + len(body), 2, 0) + b"SAMPLE" + b"SAMPLE  "
                  + struct.pack("<I4sI", 1, b"TEST", 1) + body)
table[9] = -sum(table) & 255
open(path, "wb").write(table)
PYTHON
  status=0
  (cd "$work" && "$iasl" -d "$1.bin") >/dev/null 2>&1 || status=$?
  memory=$(grep -c "Hardware Definition Block\|Memory Definition" "$work/$1.dsl" || true)
  compiles=yes
  (cd "$work" && "$iasl" "$1.dsl") >/dev/null 2>&1 || compiles=no
  echo "exit $status, $memory blocks by name, compiles: $compiles"
}
expect "type 10h" "$(table 10)" "exit 0, 2 blocks by name, compiles: yes"
expect "type 11h" "$(table 11)" "exit 0, 2 blocks by name, compiles: yes"
expect "type 40h" "$(table 40)" "exit 0, 1 blocks by name, compiles: no"
