#!/usr/bin/env python3
"""What Python adds to a batch: translate_many on a million addresses against C's iommu_translate_batch.

usage: python3 Benchmarks/python.py [--rounds N]

The same translator, the same arrays, the same process, taken in turns, in time of the processor; nanoseconds are those
of the fastest round, ratios the median of what rounds have. C is timed in C. Needs the package (PYTHONPATH=Python or the wheel), a C compiler and, for one line, NumPy. Exits with 1
when Python takes more than 1.2 of C's time.
"""
import argparse
import array
import ctypes
import importlib.util
import random
import statistics
import subprocess
import sys
import tempfile
import time

from iommutables import Memory, VTdTables
from iommutables import _abi

GOAL = 1.2
COUNT = 1_000_000
SOURCE = r"""
#include <stddef.h>
#include <stdint.h>
#include <time.h>
typedef int32_t batch(void *, const uint64_t *, size_t, int32_t, uint64_t *);
double timed(batch *call, void *translator, const uint64_t *iovas, size_t count, uint64_t *answers) {
  struct timespec start, end;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
  if (call(translator, iovas, count, 0, answers) != 0) return -1;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
  return (double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec);
}
"""


def c_timer(folder):
    """C's batch, timed in C."""
    source, library = f"{folder}/timed.c", f"{folder}/timed.so"
    with open(source, "w") as file:
        file.write(SOURCE)
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", source, "-o", library], check=True)
    timed = ctypes.CDLL(library).timed
    timed.restype = ctypes.c_double
    timed.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    call = ctypes.cast(_abi.lib.iommu_translate_batch, ctypes.c_void_p)

    def seconds(translator, iovas, answers):
        took = timed(call, translator._ref(), iovas.buffer_info()[0], len(iovas), answers.buffer_info()[0])
        assert took > 0
        return took

    return seconds


def seconds_of(call):
    start = time.thread_time()
    call()
    return time.thread_time() - start


def measure(name, iovas, translator, timed, rounds):
    # The same bytes for all: where arrays lie makes more of a difference than who asks.
    answers = array.array("Q", bytes(8 * len(iovas)))
    ways = {
        "C": lambda: timed(translator, iovas, answers),
        "array, out=": lambda: seconds_of(lambda: translator.translate_many(iovas, answers)),
        "array": lambda: seconds_of(lambda: translator.translate_many(iovas)),
    }
    if importlib.util.find_spec("numpy") is not None:
        import numpy

        words = numpy.frombuffer(iovas, dtype=numpy.uint64)
        room = numpy.frombuffer(answers, dtype=numpy.uint64)
        ways["numpy, out="] = lambda: seconds_of(lambda: translator.translate_many(words, room))
        ways["numpy"] = lambda: seconds_of(lambda: translator.translate_many(words))
    took = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            took[way].append(run())
    worst = 0.0
    for way, times in took.items():
        ratio = statistics.median(one / of_c for one, of_c in zip(times, took["C"]))
        print(f"{name:22} {way:12} {min(times) / len(iovas) * 1e9:7.2f} ns {ratio:6.3f}")
        worst = max(worst, ratio) if way.endswith("out=") else worst
    return worst


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    memory = Memory.create(64 << 20)
    tables = VTdTables(memory)
    # 4 GiB of pages that name the same memory: 8 MiB of leaf tables.
    for start in range(0, 4 << 30, 16 << 20):
        tables.map("00:03.0", start, 0, 16 << 20)
    translator = tables.machine().translator(memory, "00:03.0")
    chance = random.Random(1)
    print(f"{'addresses':22} {'how':12} {'each':>10} {'of C':>6}")
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        timed = c_timer(folder)
        for name, pages in (("one hot page", 1), ("random, 64 MiB", 1 << 14), ("random, 4 GiB", 1 << 20)):
            iovas = array.array("Q", [(chance.randrange(pages) << 12) + 8 for _ in range(COUNT)])
            worst = max(worst, measure(name, iovas, translator, timed, options.rounds))
    print(f"worst with out=: {worst:.3f}, goal {GOAL}")
    return 0 if worst <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
