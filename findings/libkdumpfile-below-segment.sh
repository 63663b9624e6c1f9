#!/usr/bin/env bash
# libkdumpfile 0.5.1 (Debian 12) and what lies below a segment of an ELF core.
#
# A page that no PT_LOAD has is "not found". The page right below a segment is not: it reads as zeros, as
# if the dump held it. Whoever tells absent pages from zeros by this library takes it for memory.
set -euo pipefail
. "$(dirname "$0")/core.inc"

package python3-libkdumpfile=0.5.1-1 libkdumpfile10=0.5.1-1
core "$work/core" 0
seen() { # ADDRESS
  LD_LIBRARY_PATH=$work/root/usr/lib/x86_64-linux-gnu PYTHONPATH=$work/root/usr/lib/python3/dist-packages \
    /usr/bin/python3 - "$work/core" "$1" <<'PYTHON'
import sys

import kdumpfile

dump = kdumpfile.kdumpfile(sys.argv[1])
try:
    page = bytes(dump.read(kdumpfile.KDUMP_MACHPHYSADDR, int(sys.argv[2], 16), 4096))
    print("bytes" if any(page) else "zeros")
except kdumpfile.exceptions.NoDataException:
    print("not found")
PYTHON
}
expect "the segment, 0x1000000" "$(seen 1000000)" bytes
expect "the page above it" "$(seen 1001000)" "not found"
expect "two pages below it" "$(seen ffe000)" "not found"
expect "the page below it" "$(seen fff000)" zeros
