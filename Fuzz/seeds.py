#!/usr/bin/env python3
"""seeds.py [IOMMU]: writes Fuzz/Seeds from Examples, whose images real kernels wrote.

Each image is cut to the pages of a few tables and converted by `iommu image convert`.
"""
import bz2
import gzip
import lzma
import json
import os
import random
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
    # A dump in two files: their sub headers say whose pages they have.
    dump = bytearray(open(os.path.join(work, "kdump"), "rb").read())
    parts = []
    for start, end in ((0, 1 << 18), (1 << 18, 1 << 30)):
        struct.pack_into("<iQQ", dump, 4096 + 12, 1, start, end)
        struct.pack_into("<QQ", dump, 4096 + 80, start, end)
        parts.append(sparse(bytes(dump)))
    save("split", "two", bytes([1]) + b"".join(struct.pack("<H", len(part)) for part in parts) + b"".join(parts))
    # A flattened ELF core in three records.
    core = cut(os.path.join(HERE, "../Examples/gart/image.elf"), 1)
    stream = bytes(4096)
    for start, end in ((64, len(core)), (0, 64), (64, 72)):
        stream += struct.pack(">qq", start, end - start) + core[start:end]
    save("flattened", "core", sparse(stream + struct.pack(">qq", -1, -1)))
    # Records whose offsets claim what no disk holds: the core's page, and a bitmap in the gap before it.
    for name, place in (("vast", 1 << 61), ("last", (1 << 63) - 4096)):
        stream = bytes(4096)
        for start, data in ((0, core[:512]), (place, core[512:1024])):
            stream += struct.pack(">qq", start, len(data)) + data
        save("flattened", name, sparse(stream + struct.pack(">qq", -1, -1)))
    dump = open(os.path.join(work, "kdump"), "rb").read()
    stream = bytes(4096)
    for start, data in ((0, dump[:8192]), (1 << 62, dump[8192:8704])):
        stream += struct.pack(">qq", start, len(data)) + data
    save("flattened", "bitmap-in-gap", sparse(stream + struct.pack(">qq", -1, -1)))
    # Results of shards.
    trace = os.path.join(work, "trace")
    open(trace, "w").write("".join(f"00:03.0,{0x1000 * (i * 7 % 13):#x},64,{'rwu'[i % 3]}\n" for i in range(60)))
    shards = []
    for index in (1, 2):
        run = [TOOL, "replay", trace, "--shard", f"{index}/2", "--sweep", "entries=1:4", "--format", "json"]
        shards.append(json.dumps(json.loads(subprocess.run(run, check=True, capture_output=True).stdout)).encode())
    save("merge", "two-shards", b"\0" + b"\x1e".join(shards))
    save("merge", "fields", b"\3" + bytes(range(1, 200)))

legacy = {0: 0x1001, 0x1000 + 16 * 0x18: 0x2001, 0x1008 + 16 * 0x18: 0x102, 0x2018: 0x3003, 0x2000: 0x3003,
          0x3ff8: 0x4003, 0x3000: 0x4003, 0x4ff8: 0x5003, 0x4008: 0x5003, 0x5fe8: 0x7003, 0x4010: 0x200083}
save("walk", "vtd-legacy", walk(0, [0xd2008c22260286, 0xf00f5e, 0xc0000000, 0, 0], tables(legacy)))
scalable = {0: 0x1001, 0x1000 + 32 * 0x18: 0x2001, 0x2000: 0x3001, 0x3000: 0x4089, 0x3008: 1, 0x4000: 0x5003, 0x5018: 0x6003,
            0x5000: 0x6003, 0x6ff8: 0x7003, 0x6000: 0x7003, 0x7008: 0x9003, 0x7fe8: 0x9003}
save("walk", "vtd-scalable", walk(1, [0xd2008c22260286, 0xffffffffffff, 0xc0000000, 0x400, 0], tables(scalable)))
save("walk", "calgary", walk(2, [0x0008, 0xffff, 0x1000000, 0, 0], struct.pack(">64Q", *(0x5003 + 4096 * i for i in range(64)))))
save("walk", "gart", walk(3, [0x3, 0x20, 0x0, 0, 0], struct.pack("<64I", *(0x5001 + 4096 * i for i in range(64)))))


# Other people's dumps: LiME, AVML with a chunk that is stored, and a VMware guest's state with memory inside.
def range_header(mark, version, first, last):
    return mark + struct.pack("<IQQQ", version, first, last, 0)


ones, twos = b"\1" * 64, b"\2" * 128
lime = range_header(b"EMiL", 1, 0x1000, 0x103f) + ones + range_header(b"EMiL", 1, 0x100000, 0x10007f) + twos
save("image", "lime", lime)
save("lime", "two-ranges", lime)
# The second begins inside the first; the third is cut off.
save("lime", "overlap", range_header(b"EMiL", 1, 0x1000, 0x107f) + twos + range_header(b"EMiL", 1, 0x1040, 0x10bf) + twos
     + range_header(b"EMiL", 1, 0x2000, 0x2fff) + ones)
chunks = b"\xff\6\0\0sNaPpY" + b"\1" + struct.pack("<I", 4 + len(twos))[:3] + b"\0\0\0\0" + twos
avml = range_header(b"AVML", 2, 0x1000, 0x107f) + chunks + struct.pack("<Q", len(chunks))
save("image", "avml", avml)
save("avml", "stored", avml)


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def frame(kind, packed, data):
    mask = (crc32c(data) >> 15 | crc32c(data) << 17) + 0xa282ead8 & 0xffffffff
    return bytes([kind]) + struct.pack("<I", 4 + len(packed))[:3] + struct.pack("<I", mask) + packed


# A frame that is packed, 4 bytes and a copy of 60 of them, one that is stored, and padding between.
packed = b"\x40\x0cabcd" + bytes([59 << 2 | 2, 4, 0])
chunks = b"\xff\6\0\0sNaPpY" + frame(0, packed, b"abcd" * 16) + b"\xfe\3\0\0\0\0\0" + frame(1, ones, ones)
save("avml", "packed", range_header(b"AVML", 2, 0x1000, 0x107f) + chunks + struct.pack("<Q", len(chunks)))


def tag(name, indices, value):
    return bytes([4 | len(indices) << 6, len(name)]) + name + struct.pack(f"<{len(indices) + 1}I", *indices, value)


def group(name, start):
    return name.ljust(64, b"\0") + struct.pack("<QQ", start, 0)


block = bytes([63 | 2 << 6, 6]) + b"Memory" + struct.pack("<QQQ", 0, len(twos), len(twos)) + b"\3\0" + b"\xaa" * 3 + twos
state = tag(b"align_mask", [0], 0xffff) + tag(b"regionsCount", [], 1) + tag(b"regionPageNum", [0], 0) + tag(b"regionPPN", [0], 0) + tag(
    b"regionSize", [0], 1) + block
groups = struct.pack("<III", 0xbed2bed2, 8, 2) + group(b"cpu", 172) + group(b"memory", 174) + b"\0\0"
save("image", "vmware", groups + state + b"\0\0")
save("vmware", "inside", b"\0" + sparse(groups + state + b"\0\0"))
# Two regions of a file of its own, with the hole below 4 GiB between them.
state = tag(b"regionsCount", [], 2)
for number, (guest, place) in enumerate(((0, 0), (0x100000, 4))):
    state += tag(b"regionPPN", [number], guest) + tag(b"regionPageNum", [number], place) + tag(b"regionSize", [number], 4)
save("vmware", "beside", bytes([1 | 127 << 1]) + sparse(groups + state + b"\0\0"))


def xen(numbers, pages, table=b".xen_pfn"):
    """What xl dump-core writes: pages and their numbers in sections, the sections' names behind them."""
    names, places = b"\0", []
    for name in (b".shstrtab", b".note.Xen", table, b".xen_pages"):
        places.append(len(names))
        names += name + b"\0"
    start = 64 + 64 * 5
    rows = [(places[0], start, len(names), 0), (places[1], 0, 0, 0), (places[2], start + len(names), 8 * len(numbers), 8),
            (places[3], start + len(names) + 8 * len(numbers), len(pages), 4096)]
    header = b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, 0, 64, 0, 64, 56, 0, 64, 5, 1)
    sections = bytes(64) + b"".join(struct.pack("<IIQQQQIIQQ", name, 1, 0, 0, at, size, 0, 0, 1, entry) for name, at, size, entry in rows)
    return header + sections + names + struct.pack(f"<{len(numbers)}Q", *numbers) + pages


pages = b"".join(bytes([number]) * 64 + bytes(4032) for number in (1, 2, 3, 4))
save("xen", "four-pages", sparse(xen((0x10, 0x11, 2**64 - 1, 0x100000), pages)))
save("xen", "paravirtualised", sparse(xen((0x10, 0, 0x11, 0), pages, b".xen_p2m")))


# A DMAR table with every structure that there is, and one of a later revision.
def structure(kind, body):
    return struct.pack("<HH", kind, 4 + len(body)) + body


def scope(kind, path, enumeration=0, bus=0):
    return struct.pack("<BBHBB", kind, 6 + 2 * len(path), 0, enumeration, bus) + bytes(x for step in path for x in step)


def dmar(*structures):
    body = struct.pack("<BB10x", 38, 3) + b"".join(structures)
    table = bytearray(b"DMAR" + struct.pack("<IBB6s8sI4sI", 36 + len(body), 1, 0, b"FUZZED", b"TABLE   ", 1, b"FUZZ", 1) + body)
    table[9] = -sum(table) & 0xff
    return bytes(table)


every = dmar(
    structure(0, struct.pack("<BBHQ", 0, 0, 0, 0xfed90000) + scope(1, [(2, 0)])),
    structure(0, struct.pack("<BBHQ", 1, 0, 0, 0xfed91000) + scope(3, [(0x1e, 7)], 2, 0xf0) + scope(4, [(0x1e, 6)])),
    structure(1, struct.pack("<HHQQ", 0, 0, 0x7e000000, 0x7e0fffff) + scope(1, [(0x1c, 0), (0, 0), (3, 0)])),
    structure(2, struct.pack("<BBH", 0, 0, 0) + scope(2, [(0x1c, 0)])),
    structure(3, struct.pack("<IQI", 0, 0xfed90000, 1)),
    structure(4, struct.pack("<3xB", 1) + b"\\_SB.PCI0.I2C0\0"),
    structure(5, struct.pack("<BBH", 1, 0, 0) + scope(1, [(2, 0)])),
    structure(6, struct.pack("<HH", 0, 0) + scope(1, [(2, 0)])),
    structure(9, bytes(12)))
save("dmar", "every-structure", every)
ivrs = bytes.fromhex(
    "495652537800000002ca414d44202020416d645461626c6501000000414d442001000000413020000000000000000000"
    "10b0280002004000000030fd00000000000000006f8f04800303000004ffff004800000021a00001220720000003ff03"
    "00000000000000000000007e000000000000100000000000")
save("dmar", "ivrs", ivrs)
save("ivrs", "unit-and-memory", ivrs)
save("dmar", "iort", bytes.fromhex(
    "494f5254ec0000000357424f434853204258504320202020010000004258504301000000030000003000000000000000"
    "001800010000000000000000000000000100000000000000045800040100000001000000440000000000050900000000"
    "01000000000000000000000000000000000000006a0000006b0000006d0000006c000000000000000000000000000000"
    "ffff0000000000003000000000000000024c000302000000020000002400000001000000000000030000000000000000"
    "4000000000000000ff00000000000000480000000000000000010000fffe0000000100003000000000000000"))
save("dmar", "text", b"""DMAR @ 0x0
    0000: 44 4D 41 52 24 00 00 00 01 00 46 55 5A 5A 45 44  DMAR$.....FUZZED
    0010: 54 41 42 4C 45 20 20 20 01 00 00 00 46 55 5A 5A  TABLE   ....FUZZ
    0020: 01 00 00 00                                      ....
> 00000000  41 50 49 43 24 00 00 00  01 00 46 55 5a 5a 45 44  |APIC$.....FUZZED|
*
0000040 5a46
{ 0x44, 0x4d }
""")
save("dmar", "one-unit", dmar(structure(0, struct.pack("<BBHQ", 1, 0, 0, 0xfed90000))))

save("log", "vtd", b"""DMAR: [DMA Write] Request device [00:03.0] fault addr 7f000000
DMAR:[fault reason 05] PTE Write access is not set
[ 1.0] DMAR: [DMA Read PASID 5] Request device [00:1f.2] fault addr 1000 [fault reason 06] PTE
DMAR: [DMA Write NO_PASID] Request device [0x03:0x00.1] fault addr 0xfffc0000 [fault reason 0x02] x
DMAR: INTR-REMAP: Request device [00:1f.0] fault index 1b [fault reason 0x22] Present field
""")
save("log", "others", b"""pci 0000:01:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0010 address=0xfffff000 flags=0x0020]
AMD-Vi: Event logged [
IO_PAGE_FAULT device=01:00.0 domain=0x0010 address=0x00000000fffff000 flags=0x0070]
Calgary: DMA error on Calgary PHB 0x6, 0x10010000@CSR 0x04000000@PLSSR
""")

save("trace", "table", b"\0requester,iova,bytes,access\n" + b"".join(
    f"00:0{i % 3}.0,{i * 0x800:#x},{64 << i % 8},{'rwru'[i % 4]}\n".encode() for i in range(24)))
qemu = open(os.path.join(HERE, "../Examples/dma-trace/qemu.log"), "rb").read().splitlines()
kinds = {}
for line in qemu:
    kinds.setdefault(line.split(b":")[1].split(b" ")[0], []).append(line)
save("trace", "qemu", b"\x1d" + b"\n".join(line for lines in kinds.values() for line in lines[:4]) + b"\n")
tracers = b"""# entries-in-buffer/entries-written: 2/12   #P:2
version = 6
CPU:1 [LOST 1234 EVENTS]
CPU:7 [20 EVENTS DROPPED]
   dd  2312 [001] 12345.678901:   iommu:map: IOMMU: iova=0xfff36000 - 0xfff37000 paddr=0x5000 size=4096
   dd  2312 [001] 12345.678904: PERF_RECORD_LOST lost 17
   dd-2312  [001] 12345.678910: dma_map_phys:         fe800000.usb dir=TO_DEVICE dma_addr=ffffffffffffffff size=64 attrs=
   dd-2312  [001] ..... 1.2: dma_alloc: 0000:01:00.0 dma_addr=1000 size=64 virt_addr=(null) flags=GFP_KERNEL attrs=
   dd-2312  [001] ..... 1.3: dma_map_sg: 0000:01:00.0 dir=TO_DEVICE [TRUNCATED] dma_addrs={0x1000} sizes={0x40} phys_addrs={0x9000} attrs=
   dd-2312  [001] ..... 1.4: dma_unmap_sg: 0000:01:00.0 dir=TO_DEVICE phys_addrs={0x9000} attrs=
"""
save("trace", "tracers", b"\x03" + tracers)
for name, packed in (("gzip", gzip.compress(tracers, mtime=0)), ("xz", lzma.compress(tracers)), ("bzip2", bz2.compress(tracers))):
    save("trace", name, b"\x03" + packed)
# What the kernel and its tools put before an event, a mark of UTF-8, a hole, and a line that is cut.
save("trace", "forms", b"\x02\xef\xbb\xbf" + b"""      dd-2312      1d..1. 12345690us+: dma_map_page: 0000:01:00.0 dir=TO_DEVICE dma_addr=fff36000 size=4096 phys_addr=1164d8000 attrs=
              dd    2312   1 1 00000001 [00005c3a] 47.123ms (+0.012ms): map: IOMMU: iova=0x1000 - 0x2000 paddr=0x5000 size=4096
[   12.345680][ T2312]       dd-2312      1d..1. 12345690us : unmap: IOMMU: iova=0x1000 - 0x2000 size=4096 unmapped_size=4096
[   12.345678] CPU:1 [LOST EVENTS]
 12345.678901 |   1)    dd-2312    |               |  /* map: IOMMU: iova=0x1000 - 0x2000 paddr=0x5000 size=4096 */
dd-2312 [001] 1.000001: map: iova=0xfff36000 (4294139904) paddr=0x1164d8000 (4669145088) size=0x1000 (4096)
dd-2312 [001] 1.000002: dma_unmap_page: device=0000:01:00.0 addr=4294139904 size=4096 dir=1 attrs=0x0
0.000 dd/2312 iommu:map(iova: 4294139904, paddr: 4669145088, size: 4096)
dd-1 [000] ....\0\0\0\0\0\0\0: map: IOMMU: iova=0x1000 - 0x2000 paddr=0x5000 size=4096
7@1.5:vtd_dmar_translate dev 00:03.00 iova 0x1000 -> gpa 0x5000 mask 0xfff
dd-1 [000] ..... 1.000000: dma_sync_single_for_device: 0000:01:00.0 dir=TO_DEVICE dma_addr=1000 size=6""")
save("trace", "pasid", b"""\x03char device redirected
7@1.1:vtd_reg_dmar_root addr 0x1000 scalable 1
7@1.2:vtd_iotlb_page_update IOTLB page update sid 0x18 iova 0x1000 slpte 0x5003 domain 0x1
vtd_dmar_translate dev 00:03.00 iova 0x1000 -> gpa 0x5000 mask 0xfff
vtd_inv_desc_iotlb_pasid_pages iotlb invalidate domain 0x1 addr 0x1000 mask 0x0 pasid 0x5
vtd_inv_desc_iotlb_pasid iotlb invalidate domain 0x1 pasid 0x5
""")
save("trace", "ftrace", b"\x92" + b"""  kworker/0:1-12 [000] d..1. 3.141: map: IOMMU: iova=0x00000000fffff000 - 0x0000000100000000 paddr=0x1000 size=4096
  nvme-7 [001] ..... 3.2: dma_map_page: nvme 0000:01:00.0 dir=TO_DEVICE dma_addr=fffff000 size=512 phys_addr=1000 attrs=
  nvme-7 [001] ..... 3.3: dma_map_sg: nvme 0000:01:00.0 dir=FROM_DEVICE dma_addrs={0xff000000,0xff001000} sizes={4096,512} attrs=
  kworker/0:1-12 [000] d..1. 3.5: unmap: IOMMU: iova=0x00000000fffff000 - 0x0000000100000000 size=4096 unmapped_size=4096
""")

case = {
    "id": "a", "family": "f", "seed": 1, "config": {"aw_bits": 48}, "cap": "0xd2008c222f0606", "ecap": "0xf42",
    "memory": [["0x1000", "0120000000000000"], ["0x2020", "01300000000000000205000000000000"], ["0x3000", "0340000000000000"],
               ["0x4000", "0350000000000000"], ["0x5000", "0360000000000000"], ["0x6000", "0300100000000000"]],
    "registers": {"RTADDR": "0x1000", "TE": 1},
    "ops": [{"op": "probe", "sid": "0x2", "iova": "0x123", "size": 8, "write": False},
            {"op": "mem", "pa": "0x2020", "hex": "03"}, {"op": "peek", "pa": "0x2020", "len": 8},
            {"op": "inval", "kind": "cc_global", "regs": {"CCMD": "0xa000000000000000"}},
            {"op": "probe", "sid": "0x2", "iova": "0xffc", "size": 8, "write": True, "keep": True},
            {"op": "clear"}, {"op": "srtp", "rtaddr": "0x1000"}, {"op": "te", "on": False}]}
save("conform", "vtd", b"\0" + json.dumps(case).encode())
with open(os.path.join(HERE, "../Examples/amdvi-cases/cases.jsonl")) as lines:
    save("conform", "amdvi", b"\4" + lines.readline().encode())


def files(*pairs):
    return "".join(f"=== {name}\n{text.rstrip()}\n" for name, text in pairs).encode()


example = os.path.join(HERE, "../Examples/gart-trace")
truth = json.load(open(os.path.join(example, "truth.json")))
truth["mappings"] = truth["mappings"][:6]
save("conform", "gart", b"\x0e" + files(
    ("trace.jsonl", "".join(open(os.path.join(example, "trace.jsonl")).readlines()[:60])), ("truth.json", json.dumps(truth)),
    ("northbridges.json", open(os.path.join(example, "northbridges.json")).read())))


def register(operation, offset, name, value):
    cpu = bytes.fromhex(value)[::-1].hex()
    return {"ev": "mmio", "op": operation, "chip": 0, "bbar": "0xfe000000", "offset": offset, "reg": name, "width": len(value) // 2,
            "cpu_value": "0x" + cpu, "bus_bytes": value, "be_value": "0x" + value}


life = [
    {"ev": "phase", "name": "detect_calgary"},
    {"ev": "pci", "op": "read", "how": "cf8", "bdf": "0000:02:00.0", "offset": "0x00", "width": 4, "value": "0x02a11014"},
    register("readl", "0x4020", "PHB0.DEBUG_STUFF", "5a020311"),
    {"ev": "mem", "pa": "0x100000", "width": 8, "count": 8192, "all_zero": True},
    register("readq", "0x580", "TAR0", "00a0000000000010"), register("writeq", "0x580", "TAR0", "00a0000000100010"),
    register("readl", "0x8160", "PHB0.CONFIG_RW", "00000000"), register("writel", "0x8160", "PHB0.CONFIG_RW", "21100000"),
    {"ev": "call", "fn": "map_page", "dev": "0000:03:04.1", "pa": "0x45ff8", "len": 16, "dir": "to_device"},
    {"ev": "mem", "pa": "0x100100", "width": 8, "count": 2, "bytes": "00000000000450010000000000046001"},
    {"ev": "ret", "fn": "map_page", "iova": "0x20ff8"},
    {"ev": "call", "fn": "unmap_page", "dev": "0000:03:04.1", "iova": "0x20ff8", "len": 16, "dir": "to_device"},
    {"ev": "mem", "pa": "0x100100", "width": 8, "count": 2, "all_zero": True}, {"ev": "ret", "fn": "unmap"}]
lived = {
    "scenario": "small", "kernel": 1, "driver": "Linux 4.4.60 pci-calgary_64.c", "calgary_option": "64k", "ram": [["0x0", "0x400000", "ram"]],
    "tables": [{"bus": 2, "chip": 0, "phb": 0, "tar_be_value": "0x00a0000000100010", "config_rw_be": "0x21100000", "translated": True,
                "kernel_table_pa": "0x100000", "hw_table_pa": "0x100000", "entries": 8192, "table_bytes": 65536, "size_code": 0,
                "nonzero_tces": 1, "it_hint": 35}],
    "devices": [{"bdf": "0000:02:00.0", "vendor": "1014", "device": "02a1", "root_bus": 2}],
    "counts": {"mappings": 1, "live": 0, "freed": 1},
    "mappings": [{"id": 1, "kernel": 1, "dev": "03:04.1", "table_bus": 2, "api": "map_page", "iova": "0x20ff8", "pa": "0x45ff8", "len": 16,
                  "pages": 2, "dir": "to_device", "state": "freed", "seq_map": 8, "seq_unmap": 11}]}
save("conform", "calgary", b"\x15" + files(
    ("trace.jsonl", "\n".join(json.dumps({"seq": n, **event}) for n, event in enumerate(life))), ("truth.json", json.dumps(lived))))

# What is known beside a log: its faults, a list of what lies where, a trace of mappings.
log = b"""[   12.345678] DMAR: [DMA Write NO_PASID] Request device [00:03.0] fault addr 0xffe00000 [fault reason 0x05] PTE Write access is not set
[   12.400000] DMAR: [DMA Read] Request device [02:00.0] fault addr 7f583000 [fault reason 06] PTE Read access is not set
"""
iomem = b"""00000000-00000fff : Reserved
00001000-0009fbff : System RAM
00100000-7ffdffff : System RAM
  01000000-01e0187f : Kernel code
  15000000-1effffff : Crash kernel
7ffe0000-7fffffff : reserved
fec00000-fec003ff : IOAPIC 0
"""
ftrace = b"""     kworker/0:1-12    [000] ....    12.340000: map: IOMMU: iova=0x00000000ffe00000 - 0x00000000ffe01000 paddr=0x0000000007600000 size=4096
     kworker/0:1-12    [000] ....    12.345000: unmap: IOMMU: iova=0x00000000ffe00000 - 0x00000000ffe01000 size=4096 unmapped_size=4096
"""
table = b"00:03.0,0xffe00000,4096,w\n02:00.0,0x7f583000,64,r\n00:03.0,0xffe00000,4096,u\n"
for name, documents in (("ftrace", (log, iomem, ftrace)), ("table", (log, iomem, table)), ("no-trace", (log, iomem, b"")),
                        ("no-addresses", (log, b"00000000-00000000 : System RAM\n", table))):
    save("context", name, b"\x1e".join(documents))

# Machines of every kind: which, which seed, how many edits, what is behind them. Few, for `make test`
# plays all seeds, and the fuzzer finds the other kinds by itself.
for target, kinds in (("rule", (0, 2, 6)), ("writers", (1, 3, 6)), ("agree", range(7)), ("search", (2, 5))):
    for kind in kinds:
        dice = random.Random(f"{target} {kind}")
        prefix = b"\0" if target == "search" else b""
        save(target, f"machine-{kind}", prefix + bytes([kind, dice.randrange(32), 12]) + dice.randbytes(16 * 12 + 40))
save("search", "dmar", b"\x03" + sparse(bytes(0x100) + every))
for name in NAMES:
    core = cut(os.path.join(HERE, "../Examples", name, "image.elf"), 2)
    page = core[len(core) - len(core) // 4096 * 4096:]
    save("search", name, b"\x05" + sparse(page[:8192]))
    save("search", name + "-at-the-top", b"\x09" + sparse(page[:8192]))

# What guests do: any bytes are some operations. With tables set up first, and without.
for target, heads in (
        ("registers", [0x20, 0x24, 0x28, 0x61, 0x62, 0x66, 0x6a, 0x00, 0x06]),
        ("amdvi", [0x20, 0x21, 0x22, 0x24, 0x28, 0x29, 0x2a, 0x00, 0x06]), ("calgary", [0, 0x11]), ("gart", [0, 0x10, 0x63])):
    for head in heads:
        dice = random.Random(f"{target} {head}")
        save(target, f"any-{head:02x}", bytes([head]) + dice.randbytes(400))
# Translation on, a table at 1 MiB, TCEs and DMA; and a GATT for an aperture at 64 MiB.
choices = b"\0\0\0\0"
save("calgary", "tables", choices + b"\x02\x02\x80\x05\0" + bytes([0x82, 0x80, 0x05, 0, 7]) + bytes(range(60)))

# A kernel's own words: VMCOREINFO with a log behind it, symbols, types, and logs in each of their buffers.
KERNEL = 0xffffffff80000000


def memory(*parts):
    """Bytes at places, from 0 on."""
    data = bytearray(max(place + len(part) for place, part in parts))
    for place, part in parts:
        data[place:place + len(part)] = part
    return sparse(bytes(data))


def quads(*words):
    return struct.pack(f"<{len(words)}Q", *(word & (1 << 64) - 1 for word in words))


message = b"DMAR: DRHD: handling fault status reg 2"
ring = (
    (0, quads(2, KERNEL + 0x100, KERNEL + 0x200, 5, 4)), (48, quads(8, KERNEL + 0x400)),
    (0x100, quads(2 << 62 | 4, 0x100, 0x140)), (0x118, quads(1 << 62 | 5, 0x140, 0x180)),
    (0x200, quads(0, 1234567890) + struct.pack("<HBBI", len(message), 0, 6 << 5, 0x80000000) + b"pci"),
    (0x258, quads(1, 2234567890) + struct.pack("<HBBI", 4, 1, 3 << 5 | 1, 7)),
    (0x400, quads(4) + message), (0x440, quads(5) + b"two\n"))
save("printk", "ring", b"\0" + memory(*ring))
record = quads(1500000000) + struct.pack("<HHHBB", 40, 5, 18, 0, 4 << 5) + b"firstSUBSYSTEM=pci\0\0\0\0\0\0"
save("printk", "records", b"\1" + memory(
    (0, quads(KERNEL + 0x100, 128, 56, 24)), (0x138, record[:40]), (0x138 + 40, bytes(16)),
    (0x100, quads(2000000000) + struct.pack("<HHHBB", 24, 6, 0, 1, 6 << 5) + b"second\0\0")))
save("printk", "characters", b"\2" + memory(
    (0, quads(KERNEL + 0x100, 64, 64 + 30, 50)), (0x100, b"<4>[    1.500000] Calgary: DMA\n"), (0x100 + 44, b"old\n<6>older\n")))
# The same logs by other numbers: none changed; a size, an offset and a place; a struct page and a kernel of arm64.
save("numbers", "ring", b"\0\0" + memory(*ring))
save("numbers", "ring-changed", b"\0\3" + bytes([13, 2, 96, 9, 4, 24, 20, 0x86, 8]) + memory(*ring))
save("numbers", "records", b"\1\1" + bytes([10, 3, 0, 32]) + memory((0, quads(KERNEL + 0x100, 128, 56, 24)), (0x138, record[:40])))
save("numbers", "characters", b"\2\1" + bytes([6, 4, 26]) + memory(
    (0, quads(KERNEL + 0x100, 64, 64 + 30, 50)), (0x100, b"<4>[    1.500000] Calgary: DMA\n")))
page = lambda number, bits=0, order=0, kind=-1, held=1: (64 * number, quads(bits, 0, 0, 0, 0, order) + struct.pack("<iI", kind, held))
save("numbers", "pages", b"\3\0" + memory(*(page(n) for n in range(4)), page(4, 0, 1, -129, 0), page(5, held=0), page(6, 1 << 9)))
save("numbers", "pages-changed", b"\3\2" + bytes([6, 2, 32, 13, 0x84, 21]) + memory(page(0), page(1, 1 << 4)))
save("numbers", "symbols", b"\4\1" + bytes([5, 6, 8]) + memory((0, quads(3, KERNEL)), (0x10, bytes(512)), (0x1000, b"\2tX")))
save("numbers", "arm64", b"\5\1" + bytes([4, 2, 52]) + memory((0, quads(0xffff800080000100, 64, 30, 30)), (0x100, b"<4>one\n")))
save("vmcoreinfo", "x86-64", b"""OSRELEASE=6.1.0
PAGESIZE=4096
SYMBOL(init_uts_ns)=ffffffff80000600
OFFSET(uts_namespace.name)=0
SYMBOL(swapper_pg_dir)=ffffffff80001000
SYMBOL(_stext)=ffffffff81000000
SYMBOL(prb)=ffffffff80000000
NUMBER(phys_base)=0
NUMBER(pgtable_l5_enabled)=0
NUMBER(sme_mask)=0
KERNELOFFSET=3000000
\0""" + memory(*ring, (0x600 + 2 * 65, b"6.1.0"), (0x1000 + 511 * 8, quads(0x2003)), (0x2000 + 510 * 8, quads(0x83))))
save("vmcoreinfo", "arm64", b"""OSRELEASE=6.12.0
PAGESIZE=65536
SYMBOL(swapper_pg_dir)=ffff800080001000
SYMBOL(_stext)=ffff800080010000
NUMBER(VA_BITS)=52
NUMBER(kimage_voffset)=0xffff800080000000
NUMBER(PHYS_OFFSET)=0x40000000
NUMBER(TCR_EL1_T1SZ)=0xc
\0""" + memory((0x1000, quads(0x2003)), (0x2000, b"OSRELEASE=5\nSYMBOL(_stext)=1\n\0")))
tokens = [bytes([letter]) if 0x21 <= letter < 0x7f else b"" for letter in range(256)]
tokens[0xe0], tokens[0xdc] = b"ma", b"_d"
table, index = b"", b""
for token in tokens:
    index += struct.pack("<H", len(table))
    table += token + b"\0"
names = b"".join(bytes([len(name)]) + name for name in (b"Acpu_number", b"T_stext", b"Ddrhd\xe0\xdc"))
for name, head, base, offsets in (
        ("per-cpu", 2, 0xffffffff81000000, struct.pack("<3i", 0x199e0, -1, -0x1bbfde1)),
        ("relative", 2, 0xffffffff80ff0000, struct.pack("<3I", 0x199e0, 0x10000, 0x20000)),
        ("self", 0, 0, struct.pack("<3i", 0, 0x1000000 - 0x3004, 16)),
        ("absolute", 1, 0, quads(0x199e0, 0xffffffff81000000, 0xffffffff85bbfde0))):
    save("kallsyms", name, bytes([head]) + memory(
        (0, quads(3, base)), (0x10, index), (0x400, table), (0x1000, names), (0x3000, offsets)))


def btf(types, strings):
    return struct.pack("<HBBIIIII", 0xeb9f, 1, 0, 24, 0, len(types), len(types), len(strings)) + types + strings


words = b"\0list_head\0next\0prev\0a\0b\0device\0"
own = struct.pack("<3I", 0, 2 << 24, 2)
own += struct.pack("<9I", 1, 4 << 24 | 2, 16, 11, 1, 0, 16, 1, 64)
own += struct.pack("<4I", 0, 1 << 24, 4, 32)
own += struct.pack("<6I", 0, 5 << 24 | 1, 8, 23, 3, 0)
own += struct.pack("<9I", 25, 1 << 31 | 4 << 24 | 2, 24, 0, 4, 0, 21, 3, 5 << 24 | 64)
kernel = btf(own, words)
more = struct.pack("<6I", len(words) + 1, 4 << 24 | 1, 8, len(words) + 3, 2, 0)
save("btf", "kernel-and-module", struct.pack("<H", len(kernel)) + kernel + btf(more, b"\0m\0b\0"))
loop = struct.pack("<3I", 21, 8 << 24, 1) + struct.pack("<6I", 25, 4 << 24 | 1, 8, 0, 2, 0)
save("btf", "itself", struct.pack("<H", len(btf(loop, words))) + btf(loop, words))
