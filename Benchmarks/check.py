"""Counts what the hot functions do under callgrind and compares it with what they used to do.

usage: python3 check.py [--record] COUNTS-PROGRAM

Instructions, heap allocations, retains and releases, and exclusivity checks, each for one
translation: counts repeat to the last digit on any machine, times do not. Exits with 1 when a count
is more than it was (instructions: 2 % more). --record writes the counts of now to
Thresholds/counts.tsv.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

THRESHOLDS = pathlib.Path(__file__).parent / "Thresholds" / "counts.tsv"
TRANSLATIONS = 65536
TOLERANCE = 1.02
COLUMNS = ["instructions", "allocations", "retains and releases", "exclusivity checks"]
CALLS = [
    re.compile(r"(malloc|calloc|realloc|posix_memalign|aligned_alloc|memalign|mmap)$"),
    re.compile(r"swift_\w*(retain|release)\w*$", re.IGNORECASE),
    re.compile(r"swift_(beginAccess|endAccess)\w*$"),
]


def run(program, directory):
    """The names of the passes in order, and callgrind's file for each of them."""
    out = pathlib.Path(directory) / "out"
    done = subprocess.run(
        ["valgrind", "--quiet", "--tool=callgrind", "--compress-strings=no",
         "--toggle-collect=*hotTranslate*", "--dump-after=*passEnded*",
         f"--callgrind-out-file={out}", program],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "LD_BIND_NOW": "1"})
    if done.returncode != 0:
        sys.exit(f"bench-check: {program} ended with {done.returncode}\n{done.stderr}")
    names = done.stdout.split("\n")[:-1]
    return [(name, pathlib.Path(f"{out}.{number}")) for number, name in enumerate(names, 1)]


def counts(path):
    """Instructions and calls of each kind in one dump, for one translation."""
    numbers = [0.0] * len(COLUMNS)
    called = None
    for line in path.read_text().splitlines():
        if line.startswith("totals: "):
            numbers[0] = int(line.split()[1])
        elif line.startswith("cfn="):
            called = line[4:]
        elif line.startswith("calls="):
            for column, pattern in enumerate(CALLS, 1):
                if pattern.match(called):
                    numbers[column] += int(line[6:].split()[0])
    return [number / TRANSLATIONS for number in numbers]


def thresholds():
    lines = THRESHOLDS.read_text().splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return {row[0]: [float(number) for number in row[1:]] for row in rows}


def record(measured):
    with THRESHOLDS.open("w") as file:
        print("# What one translation takes; written by `check.py --record`.", file=file)
        print("# workload", *COLUMNS, sep="\t", file=file)
        for name, numbers in measured.items():
            print(name, *(f"{number:.2f}" for number in numbers), sep="\t", file=file)


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--record"]
    with tempfile.TemporaryDirectory() as directory:
        passes = run(arguments[0], directory)
        measured = {name: counts(path) for name, path in passes if name != "first pass"}
    if "--record" in sys.argv:
        record(measured)
    bounds = thresholds()
    if bounds.keys() != measured.keys():
        odd = ", ".join(sorted(bounds.keys() ^ measured.keys()))
        sys.exit(f"bench-check: not both counted and in {THRESHOLDS}: {odd}")
    status = 0
    print(f"{'one translation':20}{'instructions':>14}{'at most':>9}", *COLUMNS[1:], sep="  ")
    for name, numbers in measured.items():
        allowed = bounds[name]
        grown = [
            column for column, number, bound in zip(COLUMNS, numbers, allowed)
            if number > bound * (TOLERANCE if column == "instructions" else 1) + 0.005]
        if numbers[0] == 0:
            grown = ["nothing was counted"]
        elif grown:
            grown = ["more " + ", ".join(grown)]
        status |= bool(grown)
        print(
            f"{name:20}{numbers[0]:14.2f}{allowed[0] * TOLERANCE:9.2f}",
            *(f"{number:{len(column)}.2f}" for column, number in zip(COLUMNS[1:], numbers[1:])),
            *grown, sep="  ")
    sys.exit(status)


main()
