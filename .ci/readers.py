#!/usr/bin/env python3
"""readers.py IOMMU: dumps of three kernels in four formats, and dumps of guests, read by others' programs."""
import os
import struct
import subprocess
import sys
import tempfile

import drgn
import kdumpfile
import snappy
from volatility3.framework import contexts
from volatility3.framework.layers import avml, elf, lime, physical, vmware

TOOL = os.path.abspath(sys.argv[1])
PAGE = 4096
checks = 0


def must(fact, text):
    global checks
    checks += 1
    if not fact:
        sys.exit("readers.py: " + text)


def run(*args, **more):
    return subprocess.run(args, capture_output=True, text=True, **more)


def page(number):
    """4 KiB that no other page is."""
    return (b"page %9d " % number * 8).ljust(PAGE, b".")


# A kernel of 32 pages: its names in the third, then what makedumpfile looks for: page tables of 1 GiB pages
# for the kernel's text and the direct map, and one section of memory.
NAMES = ["Linux", "host", "6.1.0-sample", "#1 SMP sample", None, "(none)"]
COUNT = 32
TEXT = 0xffffffff80000000
SPARSE = {"LENGTH(mem_section)": 2048, "SIZE(mem_section)": 16, "OFFSET(mem_section.section_mem_map)": 0,
          "NUMBER(SECTION_SIZE_BITS)": 27, "NUMBER(MAX_PHYSMEM_BITS)": 46, "SIZE(page)": 64, "OFFSET(page.flags)": 0,
          "OFFSET(page._refcount)": 52, "OFFSET(page.mapping)": 24, "OFFSET(page.lru)": 8,
          "OFFSET(page._mapcount)": 48, "OFFSET(page.private)": 40}
KERNELS = {
    # name: machine, its name, the first physical byte, virtual minus physical
    "x86-64": (62, "x86_64", 0x1000000, 0xffff888000000000),
    "x86-64 with KASLR": (62, "x86_64", 0x7400000, 0xffff9b2c40000000),
    "arm64": (183, "aarch64", 0x1000000, 0xffff000000000000),
}


def kernel(name, path):
    """An ELF core as /proc/vmcore gives it; where its memory begins, and the memory."""
    machine, word, first, offset = KERNELS[name]
    memory = bytearray(b"".join(page(n) for n in range(COUNT)))
    info = {"OSRELEASE": NAMES[2], "PAGESIZE": PAGE, "OFFSET(uts_namespace.name)": 0}

    def put(number, place, *words):
        struct.pack_into("<%dQ" % len(words), memory, number * PAGE + place, *words)

    names = b"".join((n or word).encode().ljust(65, b"\0") for n in NAMES)
    memory[2 * PAGE:2 * PAGE + len(names)] = names
    if machine == 62:
        for number in range(3, 8):
            memory[number * PAGE:(number + 1) * PAGE] = bytes(PAGE)
        put(3, 8 * 511, first + 4 * PAGE | 0x63)
        put(3, 8 * (offset >> 39 & 511), first + 5 * PAGE | 0x63)
        put(4, 8 * 510, 0xe3)
        put(5, 8 * (offset >> 30 & 511), 0xe3)
        put(6, 0, offset + first + 7 * PAGE)
        put(7, 0, 0xffffea0000000003)
        info.update(SPARSE)
        info.update({"NUMBER(phys_base)": 0, "NUMBER(pgtable_l5_enabled)": 0, "KERNELOFFSET": "%x" % (first - 0x1000000),
                     "NUMBER(KERNEL_IMAGE_SIZE)": 1 << 30, "SYMBOL(_stext)": "%x" % (TEXT + first),
                     "SYMBOL(init_uts_ns)": "%x" % (TEXT + first + 2 * PAGE),
                     "SYMBOL(mem_section)": "%x" % (offset + first + 6 * PAGE)})
        for symbol in ("swapper_pg_dir", "init_top_pgt"):
            info["SYMBOL(%s)" % symbol] = "%x" % (TEXT + first + 3 * PAGE)
    else:
        info.update({"NUMBER(VA_BITS)": 48, "NUMBER(TCR_EL1_T1SZ)": "0x10", "NUMBER(PHYS_OFFSET)": "0x0",
                     "NUMBER(kimage_voffset)": "0xffff80000f000000", "SYMBOL(init_uts_ns)": "ffff800010002000",
                     "SYMBOL(swapper_pg_dir)": "ffff800010003000"})
    info = "".join("%s=%s\n" % line for line in info.items()).encode()
    note = struct.pack("<III", 11, len(info), 0) + b"VMCOREINFO\0\0" + info.ljust(-(-len(info) // 4) * 4, b"\0")
    head = b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 4, machine, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    head += struct.pack("<IIQQQQQQ", 4, 0, 176, 0, 0, len(note), len(note), 0)
    head += struct.pack("<IIQQQQQQ", 1, 7, PAGE, offset + first, first, len(memory), len(memory), 0)
    with open(path, "wb") as out:
        out.write((head + note).ljust(PAGE, b"\0") + memory)
    return first, bytes(memory)


def by_drgn(path, first, memory, name):
    program = drgn.Program()
    program.set_core_dump(path)
    wanted = drgn.Architecture.AARCH64 if name == "arm64" else drgn.Architecture.X86_64
    must(program.platform.arch == wanted, "%s: drgn takes %s for %s" % (name, path, program.platform))
    must(program.read(first, len(memory), physical=True) == memory, "%s: drgn reads other bytes of %s" % (name, path))


def by_libkdumpfile(path, first, memory, name):
    dump = kdumpfile.kdumpfile(path)
    must(bytes(dump.read(kdumpfile.KDUMP_MACHPHYSADDR, first, len(memory))) == memory,
         "%s: libkdumpfile reads other bytes of %s" % (name, path))
    must(dump.attr["linux.uts.release"] == NAMES[2] if "linux.uts.release" in dump.attr else True,
         "%s: libkdumpfile has another release of %s" % (name, path))


def by_crash(path, first, memory, name):
    # crash of another machine reads no dump of this one's.
    if name != "arm64":
        said = run("crash", "--osrelease", path).stdout
        must(said.strip().split("\n")[-1] == NAMES[2], "%s: crash says %r of %s" % (name, said, path))


def by_makedumpfile(path, first, memory, name):
    if name == "arm64" or not path.endswith(".elf"):
        return
    out = path + ".makedumpfile"
    got = run("makedumpfile", "-c", "-d", "0", path, out)
    must(got.returncode == 0, "%s: makedumpfile refuses %s: %s" % (name, path, got.stdout + got.stderr))
    by_libkdumpfile(out, first, memory, name)
    os.remove(out)


def layer(kind, path, **more):
    """A file as a layer of Volatility."""
    context = contexts.Context()
    context.config["file.location"] = "file://" + path
    context.layers.add_layer(physical.FileLayer(context, "file", "file"))
    if "meta" in more:
        context.config["meta.location"] = "file://" + more["meta"]
        context.layers.add_layer(physical.FileLayer(context, "meta", "meta"))
        context.config["top.meta_layer"] = "meta"
    context.config["top.base_layer"] = "file"
    return kind(context, "top", "top")


def by_volatility(path, first, memory, name):
    if path.endswith(".elf"):
        got = layer(elf.Elf64Layer, path).read(first, len(memory))
        must(got == memory, "%s: Volatility reads other bytes of %s" % (name, path))


def check_kernels(work):
    for name in KERNELS:
        source = os.path.join(work, "source.elf")
        first, memory = kernel(name, source)
        for origin in (source, None):
            # From the core itself, and from a packed dump that was made of it.
            if origin is None:
                origin = os.path.join(work, "middle.kdump")
                run(TOOL, "image", "convert", source, "--to", "kdump", "-o", origin, check=True)
            for target in ("elf", "kdump", "flattened", "raw"):
                out = os.path.join(work, "out." + target)
                run(TOOL, "image", "convert", origin, "--to", target, "-o", out, check=True)
                if target == "flattened":
                    # What others read of a stream is what makedumpfile makes of it.
                    with open(out, "rb") as stream:
                        run("makedumpfile", "-R", out + ".kdump", stdin=stream, check=True)
                    out += ".kdump"
                if target == "raw":
                    with open(out, "rb") as raw:
                        raw.seek(first)
                        must(raw.read() == memory, "%s: other bytes in raw" % name)
                    continue
                for reader in (by_drgn, by_crash, by_makedumpfile, by_libkdumpfile, by_volatility):
                    reader(out, first, memory, name)
                if target == "flattened":
                    os.remove(out)
        print("ok   %s: four formats, five readers" % name)


# Dumps of machines and guests: [(physical address, bytes)].
RANGES = [(0x1000, b"".join(page(n) for n in range(40))), (0x100000, page(7) + bytes(PAGE) + os.urandom(3 * PAGE)),
          (0x140000000, b"".join(page(n) for n in range(100, 120)))]


def lime_dump(path):
    with open(path, "wb") as out:
        for start, data in RANGES:
            out.write(struct.pack("<IIQQQ", 0x4C694D45, 1, start, start + len(data) - 1, 0) + data)
    return [path], lambda: layer(lime.LimeLayer, path)


def avml_dump(path):
    with open(path, "wb") as out:
        for start, data in RANGES:
            packed = snappy.StreamCompressor().compress(data)
            out.write(struct.pack("<IIQQQ", 0x4C4D5641, 2, start, start + len(data) - 1, 0) + packed
                      + struct.pack("<Q", len(packed)))
    return [path], lambda: layer(avml.AVMLLayer, path)


def vmware_dump(path):
    memory, state, tags = path + ".vmem", path + ".vmss", b""

    def tag(name, indices, value):
        return struct.pack("<BB", 4 | len(indices) << 6, len(name)) + name + struct.pack(
            "<%dI" % (len(indices) + 1), *indices, value)

    place = 0
    with open(memory, "wb") as out:
        for index, (start, data) in enumerate(RANGES):
            tags += tag(b"regionPageNum", [index], place) + tag(b"regionPPN", [index], start // PAGE)
            tags += tag(b"regionSize", [index], len(data) // PAGE)
            place += len(data) // PAGE
            out.write(data)
    tags = tag(b"regionsCount", [], len(RANGES)) + tags + bytes(2)
    with open(state, "wb") as out:
        out.write(struct.pack("<III", 0xBED2BED2, 8, 1) + b"memory".ljust(64, b"\0") + struct.pack("<QQ", 92, len(tags)))
        out.write(tags)
    return [memory], lambda: layer(vmware.VmwareLayer, memory, meta=state)


def check_guests(work):
    for make in (lime_dump, avml_dump, vmware_dump):
        name = make.__name__.split("_")[0]
        image, other = make(os.path.join(work, name))
        theirs = other()
        out = os.path.join(work, "guest.raw")
        run(TOOL, "image", "convert", *image, "--to", "raw", "-o", out, check=True)
        info = run(TOOL, "image", "info", *image, "--all", check=True).stdout
        with open(out, "rb") as raw:
            for start, data in RANGES:
                must("%#x..<%#x" % (start, start + len(data)) in info, "%s: %#x is no range of ours" % (name, start))
                raw.seek(start)
                must(raw.read(len(data)) == data, "%s: we read other bytes at %#x" % (name, start))
                must(theirs.read(start, len(data)) == data, "%s: Volatility reads other bytes at %#x" % (name, start))
                must(not theirs.is_valid(start + len(data)), "%s: Volatility has more at %#x" % (name, start))
        print("ok   %s: %d pages as Volatility 3 reads them" % (name, sum(len(d) for _, d in RANGES) // PAGE))


with tempfile.TemporaryDirectory() as work:
    check_kernels(work)
    check_guests(work)
print("%d checks" % checks)
