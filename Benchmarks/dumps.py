#!/usr/bin/env python3
"""Wall clock and CPU time of the tool on dumps, against an older build of it and other programs.

Usage: dumps.py TOOL [--before OLDER] [--rounds N] [--mebibytes N] [DUMP ...]

Makes a kdump-compressed dump of pages that are half random, and a sparse file of 64 times its size with
the same pages in it; DUMPs are kdump-compressed ones that are there already. Each line is a command, its
reference, and the median of their ratios over rounds in which both take turns, first on one processor,
then on all. makedumpfile takes part where it is installed. Prints goals, and never fails for them: times
decide nothing by themselves.
"""
import argparse
import os
import random
import shutil
import statistics
import tempfile
import time


def half_random(path, count):
    """Pages of 2 KiB of random bytes and 2 KiB of forty words."""
    source = random.Random(20081129)
    words = [source.randbytes(source.randrange(4, 12)) for _ in range(40)]
    with open(path, "wb") as file:
        for _ in range(count):
            text = b"".join(source.choices(words, k=300))[:2048]
            file.write(source.randbytes(2048) + text.ljust(2048, b"x"))


def scatter(source, path, size):
    """The bytes of a file in 64 parts, each at the start of one of 64 equal parts of a sparse file."""
    with open(source, "rb") as data, open(path, "wb") as file:
        file.truncate(64 * size)
        for part in range(64):
            file.seek(part * size)
            file.write(data.read(size // 64))


def run(command, processors):
    """Wall clock and CPU time in seconds."""
    if command[0] == "rm":
        for name in command[1:]:
            if os.path.exists(name):
                os.unlink(name)
        return 0, 0
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        os.sched_setaffinity(0, processors)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in 0, 1, 2:
            os.dup2(null, stream)
        os.execvp(command[0], command)
    _, status, usage = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, 1):
        raise SystemExit(f"{' '.join(command)}: exit status {code}")
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime


def compare(name, command, reference, rounds, goal=None, clean=()):
    processors = os.sched_getaffinity(0)
    for where in [{min(processors)}] + ([processors] if len(processors) > 1 else []):
        times = []
        for number in range(rounds + 1):
            pair = {}
            for which in (0, 1) if number % 2 else (1, 0):
                run(["rm", *clean], where)
                pair[which] = run([command, reference][which], where)
            if number > 0:  # the first brings files into memory
                times.append((pair[0], pair[1]))
        wall = statistics.median(a[0] / b[0] for a, b in times)
        cpu = statistics.median(a[1] / max(b[1], 1e-4) for a, b in times)
        mine = statistics.median(a[0] for a, _ in times)
        other = statistics.median(b[0] for _, b in times)
        verdict = "" if goal is None or len(where) == 1 else f"  <= {goal}  " + (
            "met" if wall <= goal else "missed")
        print(f"{name:44} {len(where)} cpu  {mine:8.4f} s / {other:8.4f} s  "
              f"wall {wall:6.3f}  cpu {cpu:6.3f}{verdict}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tool")
    parser.add_argument("dumps", nargs="*")
    parser.add_argument("--before")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mebibytes", type=int, default=1024)
    options = parser.parse_intermixed_args()
    tool, before, rounds = options.tool, options.before, options.rounds
    size = options.mebibytes << 20
    with tempfile.TemporaryDirectory() as directory:
        def path(name):
            return os.path.join(directory, name)
        half_random(path("raw"), size // 4096)
        scatter(path("raw"), path("sparse"), size)
        processors = os.sched_getaffinity(0)
        run([tool, "image", "convert", path("raw"), "--to", "kdump", "-o", path("half")], processors)
        dumps = [("half-random", path("half"))] + [(os.path.basename(d), d) for d in options.dumps]
        if before:
            for name, dump in dumps:
                compare(f"find {name} / before", [tool, "find", dump], [before, "find", dump], rounds, 0.3)
        compare("find sparse / cat", [tool, "find", path("sparse")], ["cat", path("raw")], rounds, 2)
        for name, dump in dumps:
            core, out, peer = path("core"), path("out"), path("peer")
            run([tool, "image", "convert", dump, "--to", "elf", "-o", core], processors)
            convert = [tool, "image", "convert", core, "--to", "kdump", "-o", out]
            if before:
                other = [before, "image", "convert", core, "--to", "kdump", "-o", peer]
                compare(f"convert {name} / before", convert, other, rounds, clean=(out, peer))
            # It refuses what has no VMCOREINFO.
            if shutil.which("makedumpfile") and dump in options.dumps:
                other = ["makedumpfile", "-c", "-d", "0", core, peer]
                compare(f"convert {name} / makedumpfile", convert, other, rounds, 0.3, (out, peer))
                # Whatever was timed last, the other's file is gone.
                for command in ["rm", out, peer], convert, other:
                    run(command, processors)
                sizes = os.path.getsize(out), os.path.getsize(peer)
                print(f"{'  bytes':44} {sizes[0]:,} / {sizes[1]:,} = {sizes[0] / sizes[1]:.3f}")
            os.unlink(core)
        compare("decode tce 0 / true", [tool, "decode", "tce", "0"], ["true"], 4 * rounds)
        if before:
            compare("decode tce 0 / before", [tool, "decode", "tce", "0"], [before, "decode", "tce", "0"],
                    4 * rounds)


if __name__ == "__main__":
    main()
