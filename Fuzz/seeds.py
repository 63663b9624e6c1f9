#!/usr/bin/env python3
"""seeds.py [IOMMU]: writes Fuzz/Seeds from Examples, whose images real kernels wrote.

Each image is cut to the pages of a few tables and converted by `iommu image convert`.
"""
import os
import struct
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TOOL = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "../.build/release/iommu")
NAMES = ("vtd-crash", "calgary", "gart")


def save(target, name, data):
    folder = os.path.join(HERE, "Seeds", target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as file:
        file.write(data)


def sparse(data):
    """Quadwords to skip, a count, bytes; see SparseBytes."""
    runs, zeros = [], 0
    for start in range(0, len(data), 8):
        word = data[start:start + 8]
        if not any(word):
            zeros += 1
        elif runs and zeros == 0 and len(runs[-1][1]) < 248:
            runs[-1][1] += word
        else:
            runs.append([zeros, bytearray(word)])
            zeros = 0
    if zeros:
        runs.append([zeros - 1, bytearray(8)])
    return b"".join(struct.pack("<HB", skip, len(run)) + run for skip, run in runs)


def cut(path, pages):
    """An ELF core of the first PT_LOADs: (bytes, memory of their pages)."""
    data = open(path, "rb").read()
    table, count = struct.unpack_from("<Q", data, 32)[0], struct.unpack_from("<H", data, 56)[0]
    loads = []
    for index in range(count):
        kind, flags, offset, virtual, physical, size, memory, align = struct.unpack_from("<IIQQQQQQ", data, table + 56 * index)
        if kind == 1 and size and sum(l[3] for l in loads) < 4096 * pages:
            loads.append((flags, virtual, physical, min(size, 4096), memory, data[offset:offset + min(size, 4096)]))
    header = bytearray(data[:64])
    struct.pack_into("<QQ", header, 32, 64, 0)
    struct.pack_into("<HHHH", header, 56, len(loads), 0, 0, 0)
    table, body, start = b"", b"", 64 + 56 * len(loads)
    for flags, virtual, physical, size, memory, page in loads:
        table += struct.pack("<IIQQQQQQ", 1, flags, start + len(body), virtual, physical, size, min(memory, 8192), 0)
        body += page
    return bytes(header) + table + body


def walk(kind, registers, memory):
    words = [kind | 0x0018 << 16 | 8 << 52] + registers + [0] * 8
    return sparse(struct.pack("<8Q", *words[:6], 0xffffd000, 0x1000) + memory)


def tables(words):
    """Memory with quadwords at addresses."""
    memory = bytearray(max(words) + 8)
    for address, word in words.items():
        struct.pack_into("<Q", memory, address, word)
    return bytes(memory)


with tempfile.TemporaryDirectory() as work:
    for name in NAMES:
        core = cut(os.path.join(HERE, "../Examples", name, "image.elf"), 2)
        source = os.path.join(work, "source")
        open(source, "wb").write(core)
        save("elf", name, core[:9000])
        save("image", name, core[:9000])
        for target in ("kdump", "flattened"):
            path = os.path.join(work, target)
            subprocess.run([TOOL, "image", "convert", source, "--to", target, "-o", path], check=True, stdout=subprocess.DEVNULL)
            save(target, name, sparse(open(path, "rb").read()))
        machine = open(os.path.join(HERE, "../Examples", name, "machine.json"), "rb").read()
        save("machine", name, machine)
    # A flattened ELF core in three records.
    core = cut(os.path.join(HERE, "../Examples/gart/image.elf"), 1)
    stream = bytes(4096)
    for start, end in ((64, len(core)), (0, 64), (64, 72)):
        stream += struct.pack(">qq", start, end - start) + core[start:end]
    save("flattened", "core", sparse(stream + struct.pack(">qq", -1, -1)))

legacy = {0: 0x1001, 0x1000 + 16 * 0x18: 0x2001, 0x1008 + 16 * 0x18: 0x102, 0x2018: 0x3003, 0x2000: 0x3003,
          0x3ff8: 0x4003, 0x3000: 0x4003, 0x4ff8: 0x5003, 0x4008: 0x5003, 0x5fe8: 0x7003, 0x4010: 0x200083}
save("walk", "vtd-legacy", walk(0, [0xd2008c22260286, 0xf00f5e, 0xc0000000, 0, 0], tables(legacy)))
scalable = {0: 0x1001, 0x1000 + 32 * 0x18: 0x2001, 0x2000: 0x3001, 0x3000: 0x4089, 0x3008: 1, 0x4000: 0x5003, 0x5018: 0x6003,
            0x5000: 0x6003, 0x6ff8: 0x7003, 0x6000: 0x7003, 0x7008: 0x9003, 0x7fe8: 0x9003}
save("walk", "vtd-scalable", walk(1, [0xd2008c22260286, 0xffffffffffff, 0xc0000000, 0x400, 0], tables(scalable)))
save("walk", "calgary", walk(2, [0x0008, 0xffff, 0x1000000, 0, 0], struct.pack(">64Q", *(0x5003 + 4096 * i for i in range(64)))))
save("walk", "gart", walk(3, [0x3, 0x20, 0x0, 0, 0], struct.pack("<64I", *(0x5001 + 4096 * i for i in range(64)))))
