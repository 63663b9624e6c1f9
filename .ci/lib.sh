# What the check scripts share. Each begins with
#
#   . "$(dirname "$0")/lib.sh"
#
# and then works in the repository's own directory.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export IOMMU_STRICT=1

check=${0##*/}
# Recorded data, real dumps and their truth are kept outside this project.
data=${IOMMU_DATA:-../shared}
tool=$PWD/.build/release/iommu

# Builds the tool when it is older than its sources.
build_tool() {
  if [ ! -x "$tool" ] || [ -n "$(find Package.swift Sources -newer "$tool" -print -quit)" ]; then
    make --silent build
  fi
}

# need PACKAGE...
#
# Debian packages that a check cannot do without. Stands at the start of a line of its own, where
# .ci/install finds it.
need() {
  command -v dpkg-query >/dev/null || return 0
  local package missing=
  for package; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
      missing+=" $package"
  done
  [ -z "$missing" ] || { echo "$check: not installed:$missing; .ci/install does it" >&2; exit 1; }
}

# has_data PATH...
#
# Whether these are below $data. With IOMMU_REQUIRE_DATA=1 their absence ends the check, otherwise it
# is told, and IOMMU_SKIPPED names a file that remembers it.
has_data() {
  local path
  for path; do
    [ ! -e "$data/$path" ] || continue
    if [ "${IOMMU_REQUIRE_DATA:-0}" = 1 ]; then
      echo "$check: no $data/$path, and IOMMU_REQUIRE_DATA is 1" >&2
      exit 1
    fi
    echo "$check: left out, there is no $data/$path" | tee -a "${IOMMU_SKIPPED:-/dev/null}"
    return 1
  done
}
