#!/usr/bin/env bash
# crash 8.0.2 (Debian 12) and the alignment of segments in an ELF core.
#
# `crash --osrelease` prints the release that VMCOREINFO has. It does for a core whose PT_LOADs have
# p_align 0, as /proc/vmcore has them. When they say 4096, which is true of them, and lie at a multiple of
# that in the file, it prints "unknown": the notes are not found. The ELF specification gives p_align no
# such meaning, and the notes are the same bytes.
set -euo pipefail
. "$(dirname "$0")/core.inc"

package crash=8.0.2-1
core "$work/plain" 0
core "$work/aligned" 4096
expect "p_align 0" "$("$work/root/usr/bin/crash" --osrelease "$work/plain")" 6.1.0-sample
expect "p_align 4096" "$("$work/root/usr/bin/crash" --osrelease "$work/aligned" || true)" unknown
