#!/usr/bin/env python3
"""images.py IOMMU DATA EXAMPLES: converts dumps and reads the results page by page with others' readers; cuts dumps."""
import glob
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile

import kdumpfile

PAGE = 4096
TOOL, DATA, EXAMPLES = sys.argv[1:4]
ORACLE, FIELD = DATA + "/oracle", DATA + "/field"
checks = 0


def run(*args, **more):
    return subprocess.run(args, check=True, capture_output=True, text=True, **more).stdout


def must(fact, text):
    global checks
    checks += 1
    if not fact:
        sys.exit("images.py: " + text)


class Reader:
    """A dump through libkdumpfile."""

    def __init__(self, path):
        self.path, self.dump = path, kdumpfile.kdumpfile(path)

    def page(self, frame):
        """Bytes, or None where the dump has no page."""
        try:
            return bytes(self.dump.read(kdumpfile.KDUMP_MACHPHYSADDR, frame * PAGE, PAGE))
        except kdumpfile.exceptions.NoDataException:
            return None

    def held(self, frame):
        """A page that is there. Zero fill of an ELF core is no page to libkdumpfile."""
        data = self.page(frame)
        return bytes(PAGE) if data is None and self.dump.attr["file.format"] == "elf" else data

    def lacks(self, frame):
        """Whether the page is not there. Of ELF cores libkdumpfile 0.5.1 gives zeros for the page below a segment."""
        data = self.page(frame)
        return data is None or self.dump.attr["file.format"] == "elf" and not any(data)


def loads(path):
    """[(address, file offset, file size, memory size)] of the PT_LOADs, as readelf prints them."""
    rows = re.findall(r"^\s*LOAD\s+(0x\w+)\s+0x\w+\s+(0x\w+)\s+(0x\w+)\s+(0x\w+)", run("readelf", "-lW", path), re.M)
    return [(int(a, 16), int(o, 16), int(f, 16), int(m, 16)) for o, a, f, m in rows]


def frames(ranges):
    """The whole pages of half-open address ranges."""
    return sorted({f for a, b in ranges for f in range(-(-a // PAGE), b // PAGE)})


def ranges_of(image):
    info = json.loads(run(TOOL, "image", "info", "--all", "--format", "json", *image))
    return [tuple(int(x, 16) for x in r) for r in info["ranges"]], info


def convert(image, target, output):
    run(TOOL, "image", "convert", *image, "--to", target, "-o", output)


def check_source(image, reference, work):
    """One dump in all formats against `reference`, the same dump in a form that libkdumpfile reads."""
    ranges, info = ranges_of(image)
    present = frames(ranges)
    outside = sorted({f for a, b in ranges for f in (a // PAGE - 1, -(-b // PAGE)) if f >= 0} - set(present))
    outside = [f for f in outside if not any(a < (f + 1) * PAGE and f * PAGE < b for a, b in ranges)]
    truth = Reader(reference)
    pages = {f: truth.held(f) for f in present}
    must(None not in pages.values(), "%s: libkdumpfile lacks a page that we list" % image)
    for frame in outside:
        must(truth.lacks(frame), "%s: libkdumpfile has page %#x, which we do not" % (image, frame))

    out = {t: os.path.join(work, "out." + t) for t in ("raw", "elf", "kdump", "flattened")}
    for target, path in out.items():
        convert(image, target, path)
    run("/bin/sh", "-c", 'makedumpfile -R "$1" < "$2"', "sh", out["flattened"] + ".R", out["flattened"])
    for path in (out["kdump"], out["elf"], out["flattened"] + ".R"):
        reader = Reader(path)
        for frame, data in pages.items():
            must(reader.held(frame) == data, "%s: page %#x differs in %s" % (image, frame, path))
        for frame in outside:
            must(reader.lacks(frame), "%s: page %#x is in %s" % (image, frame, path))
    with open(out["raw"], "rb") as raw:
        for frame, data in pages.items():
            raw.seek(frame * PAGE)
            must(raw.read(PAGE) == data, "%s: page %#x differs in raw" % (image, frame))
    with open(out["elf"], "rb") as elf:
        segments = loads(out["elf"])
        merged = []
        for address, offset, size, memory in segments:
            must(size == 0 or offset % PAGE == address % PAGE, "%s: a segment cannot be mapped" % image)
            if merged and merged[-1][1] == address:
                merged[-1] = (merged[-1][0], address + memory)
            else:
                merged.append((address, address + memory))
            for frame in frames([(address, address + size)]):
                elf.seek(offset + frame * PAGE - address)
                must(elf.read(PAGE) == pages[frame], "%s: page %#x differs in ELF" % (image, frame))
        must(merged == ranges, "%s: readelf's segments are not our ranges" % image)
    must(run("readelf", "-hW", out["elf"]).count("CORE (Core file)") == 1, "%s: no core" % image)
    release = [l["value"] for l in info["vmcoreinfo"] if l["key"] == "OSRELEASE"]
    if release:
        must("VMCOREINFO" in run("readelf", "-nW", out["elf"]), "%s: no VMCOREINFO in ELF" % image)
        for path in (out["kdump"], out["elf"]):
            got = Reader(path).dump.attr["linux.vmcoreinfo.lines.OSRELEASE"]
            must(got == release[0], "%s: OSRELEASE is %s in %s" % (image, got, path))
    # And back: the same bytes of memory again.
    convert([out["flattened"]], "raw", out["raw"] + "2")
    must(os.path.getsize(out["raw"]) == os.path.getsize(out["raw"] + "2"), "%s: raw has another length" % image)
    with open(out["raw"] + "2", "rb") as raw:
        for frame, data in pages.items():
            raw.seek(frame * PAGE)
            must(raw.read(PAGE) == data, "%s: page %#x differs in raw from flattened" % (image, frame))
    print("ok   %s: %d pages, %d neighbours" % (" ".join(image), len(pages), len(outside)))


def clear(folder):
    """makedumpfile writes over nothing."""
    for name in os.listdir(folder):
        os.unlink(os.path.join(folder, name))


def split(path, work, cut):
    """The two parts that makedumpfile --split would make of a kdump-compressed file."""
    data = open(path, "rb").read()
    block, sub, bitmap = struct.unpack_from("<iiI", data, 428)
    frames = struct.unpack_from("<Q", data, block + 96)[0]
    second = (1 + sub) * block + bitmap // 2 * block
    table = (1 + sub + bitmap) * block
    dumped = [f for f in range(frames) if data[second + f // 8] >> f % 8 & 1]
    parts = []
    for number, (start, end) in enumerate(((0, cut), (cut, frames))):
        here = [i for i, f in enumerate(dumped) if start <= f < end]
        head = bytearray(data[:table])
        struct.pack_into("<I", head, block + 12, 1)
        struct.pack_into("<QQ", head, block + 16, start, end)
        struct.pack_into("<QQ", head, block + 80, start, end)
        descriptors, pages = b"", b""
        for index in here:
            offset, size, flags, page = struct.unpack_from("<QIIQ", data, table + 24 * index)
            descriptors += struct.pack("<QIIQ", table + 24 * len(here) + len(pages), size, flags, page)
            pages += data[offset:offset + size]
        parts.append(os.path.join(work, "part%d" % number))
        open(parts[-1], "wb").write(bytes(head) + descriptors + pages)
    return parts


def check_split(path, work):
    ranges, _ = ranges_of([path])
    middle = frames(ranges)[len(frames(ranges)) // 2]
    parts = split(path, work, middle)
    # makedumpfile itself takes them for parts of a split dump.
    whole = os.path.join(work, "whole")
    run("makedumpfile", "--reassemble", *parts, whole)
    for files in parts, [whole]:
        must(ranges_of(files)[0] == ranges, "%s: the parts have other ranges" % path)
    check_source(parts[::-1], path, work)


def left(path, size):
    """The pages that a file of `size` bytes still has, by its own lists; None for a stream."""
    data = open(path, "rb").read()
    if data[:12] == b"makedumpfile":
        return None
    if data[:4] == b"\x7fELF":
        there = []
        for address, offset, stored, memory in loads(path):
            had = min(stored, max(0, size - offset))
            # Zero fill needs no bytes of the file.
            there += [(address, address + memory)] if had == stored else [
                (address, address + had), (address + stored, address + memory)]
        return set(frames(there))
    block, sub, bitmap = struct.unpack_from("<iiI", data, 428)
    table = (1 + sub + bitmap) * block
    second = (1 + sub) * block + bitmap // 2 * block
    dumped = [f for f in range(bitmap // 2 * block * 8) if data[second + f // 8] >> f % 8 & 1]
    def whole(index):
        offset, length = struct.unpack_from("<QI", data, table + 24 * index)
        return table + 24 * index + 24 <= size and offset + length <= size
    return {f for i, f in enumerate(dumped) if whole(i)}


def check_cut(path, reference, work):
    """A copy that stopped: what is left is read, and what is missing is told."""
    truth = Reader(reference)
    data = open(path, "rb").read()
    places = random.Random(path).sample(range(len(data) // 8, len(data)), 8)
    for size in places:
        cut, out = os.path.join(work, "cut"), os.path.join(work, "cut.elf")
        open(cut, "wb").write(data[:size])
        told = subprocess.run([TOOL, "image", "info", "--all", "--format", "json", cut], capture_output=True, text=True)
        if told.returncode == 2:
            must(size < 1 << 13 or left(path, size) is None, "%s cut at %d is not opened" % (path, size))
            continue
        info = json.loads(told.stdout)
        there = set(frames([tuple(int(x, 16) for x in r) for r in info["ranges"]]))
        expected = left(path, size)
        must(expected is None or there == expected, "%s cut at %d has other pages" % (path, size))
        must(info["incomplete"] and "incomplete" in told.stderr or "end mark" in told.stderr,
             "%s cut at %d passes for whole" % (path, size))
        if not there:
            continue
        convert([cut], "elf", out)
        reader = Reader(out)
        for frame in there:
            must(reader.held(frame) == truth.held(frame), "%s cut at %d: page %#x differs" % (path, size, frame))
    print("ok   %s: cut at %d places" % (path, len(places)))


def check_field():
    """Files that a full disk has cut, as people had them."""
    for name, ranges, missing in (
        ("containers/elf-incomplete-flag.core", [(0x100000, 0x101000), (0x200000, 0x201000)], (8192, "0x300000")),
        ("discovery/full-disk.core", [(0x100000, 0x10ff38)], (98504, "0x10ff38")),
    ):
        found, info = ranges_of([FIELD + "/" + name])
        must(found == ranges, "%s: ranges" % name)
        must(info["missing"][0]["disk_full"], "%s: a full disk" % name)
        must((info["missing"][0]["bytes"], info["missing"][0]["from"]) == missing, "%s: what is missing" % name)
    parts = sorted(glob.glob(FIELD + "/discovery/split.part*"))
    found, info = ranges_of(parts[::-1])
    must(found == [(0x100000, 0x10c000)] and not info["incomplete"], "split.part*: twelve pages, none missing")
    print("ok   %s: what full disks left" % FIELD)


with tempfile.TemporaryDirectory() as work:
    vtd = os.path.join(ORACLE, "linux-vtd")
    for path in sorted(glob.glob(vtd + "/crash48/vmcore.makedumpfile-*.trim") + glob.glob(vtd + "/*/*.elf")
                       + glob.glob(EXAMPLES + "/*/*.elf") + glob.glob(vtd + "/*/trim.kdump-zlib*")):
        reference = path
        if open(path, "rb").read(12) == b"makedumpfile":
            reference = os.path.join(work, "reference")
            run("/bin/sh", "-c", 'makedumpfile -R "$1" < "$2"', "sh", reference, path)
        check_source([path], reference, work)
        check_cut(path, reference, work)
        clear(work)
    check_field()
    for path in sorted(glob.glob(vtd + "/crash48/vmcore.makedumpfile-[lpsz]*.trim")):
        check_split(path, work)
        clear(work)
print("%d checks passed" % checks)
