#!/usr/bin/env python3
"""Checks find, walk, maps, who, diff, verify and explain against dumps of real machines.

Usage: inspection.py TOOL DATA WORKDIR. One line per check; exits 1 when any fails.
"""
import glob
import gzip
import json
import os
import random
import re
import subprocess
import sys

tool, data, work = sys.argv[1:4]
oracle, amdvi = f"{data}/oracle", f"{data}/oracle-2/linux-amdvi"
first_stage = f"{data}/oracle-2/linux-vtd-fs"
failures = 0


def run(*arguments, ok=(0,), stdin=None):
    done = subprocess.run([tool, *arguments], input=stdin, capture_output=True, text=True)
    if done.returncode not in ok:
        raise SystemExit(
            f"iommu {' '.join(arguments)}: exit {done.returncode}: {done.stderr.strip()[:400]}")
    return done.stdout


def check(name, good, detail=""):
    global failures
    failures += not good
    print(("ok    " if good else "WRONG ") + name + ("" if good else f": {detail}"))


def rows(path):
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt") as file:
        for line in file:
            if not line.startswith("#"):
                yield line.rstrip("\n").split("\t")


def machine(path):
    with open(path) as file:
        return json.load(file)


# 1. Find: the table that the registers name comes first, in every container, and nothing that is
#    certain is anything else.
def true_tables(units):
    tables = set()
    for unit in units:
        registers = {int(k, 16): int(v, 16) for k, v in unit["registers"].items()}
        if unit["kind"] == "intel-vtd":
            tables.add(registers[0x20] & ~0xFFF)
        elif unit["kind"] == "amd-vi":
            tables.add(registers[0] & 0x000FFFFFFFFFF000)
        elif unit["kind"] == "amd-gart":
            tables.add(registers[0x98] >> 4 << 12)
        else:
            for phb in range(4):
                tar = registers.get(0x580 + 8 * phb, 0) & 0x0000FFFFFFFF8000
                if tar:
                    tables.add(tar)
    return tables


# A dump may be of two kernels, with a machine file for each.
truths = {}
for path in sorted(glob.glob(f"{oracle}/linux-*/*/*machine*.json")
                   + glob.glob(f"{amdvi}/*/*machine*.json")
                   + glob.glob(f"{first_stage}/*/*machine*.json")):
    content = machine(path)
    for image in content.get("images") or [content["image"]]:
        full = os.path.join(os.path.dirname(path), image)
        if os.path.exists(full):
            truths.setdefault(full, set()).update(true_tables(content["units"]))
for full, truth in truths.items():
    found = json.loads(run("find", full, "--format", "json", ok=(0, 1)))
    tables = [int(c["address"], 16) for c in found
              if "root" in c["kind"] or c["kind"] in ("TCE table", "GATT", "AMD-Vi device table")]
    check(f"find {full[len(data) + 1:]}: the true table first, no false one",
          tables[:1] and tables[0] in truth and set(tables) <= truth,
          f"{[hex(t) for t in tables]} instead of {[hex(t) for t in sorted(truth)]}")
# A process's tables have a page of stacks behind 65,536 entries: looked at once, and counted for each.
with open(f"{first_stage}/vtd-fs-pasid/walk.json") as file:
    leaves = sum(count for bits, count in json.load(file)["entry_bits"].items() if "leaf" in bits)
found = json.loads(run("find", f"{first_stage}/vtd-fs-pasid/tables.elf", "--format", "json"))
check(f"find vtd-fs-pasid: all {leaves} pages that another walker counted, and nothing left out",
      any(f", {leaves} pages mapped" in reason for reason in found[0]["reasons"]), found)
check("find: images searched", len(truths) > 20, len(truths))

# 2. Maps in the kernel's own layout, byte for byte.
crash = f"{oracle}/linux-vtd/crash48"
with open(f"{crash}/vmcore-debugfs.domain_translation_struct") as file:
    kernel = file.read()
for image in machine(f"{crash}/vmcore-machine.json")["images"]:
    ours = run("maps", f"{crash}/{image}", "--machine", f"{crash}/vmcore-machine.json",
               "--format", "debugfs")
    check(f"maps --format debugfs {image}: {len(kernel)} bytes as the kernel printed them",
          ours == kernel, f"{len(ours)} bytes")

# 3. Walks: the leaf, its entry and its place as an independent walker has them; faults as well.
random.seed(20081008)
walked = 0
vtd = [f"{oracle}/linux-vtd/{name}" for name in
       ["deb48/", "crash48/vmcore-", "crash48/copied-", "crash48/kdump-", "cust48sm/", "cust48pt/"]]
amd = sorted(path.removesuffix("machine.json") for path in glob.glob(f"{amdvi}/*/*machine.json"))
for base in vtd + amd:
    source = f"{base}machine.json"
    name = base[len(data) + 1:]
    content = machine(source)
    image = os.path.join(os.path.dirname(source), (content.get("images") or [content["image"]])[0])
    leaves = [row for row in rows(f"{base}leaves.tsv.gz") if row[1].startswith("0x")]
    wrong = []
    for requester, iova, size, physical, access, value, place, *_ in random.sample(leaves, 25):
        offset = random.randrange(int(size, 16))
        verb = "--write" if access == "-w" or (access == "rw" and offset % 2) else None
        address = int(iova, 16) + offset
        if 0xFEE00000 <= address < 0xFEF00000:
            continue
        walk = json.loads(run("walk", image, requester.split("/")[0], hex(address), "--machine",
                              source, "--format", "json", *([verb] if verb else [])))
        step = walk["steps"][-1]
        expected = hex(int(physical, 16) + offset)
        if (walk.get("physical"), step["address"], step["entry"]["words"][0]) != (
                expected, place, value):
            wrong.append((requester, hex(address), walk.get("physical"), expected))
        walked += 1
    check(f"walk {name}: entry and page of random leaves", not wrong, wrong[:2])
    with open(f"{base}walk.json") as file:
        truth = json.load(file)
    wrong = []
    for device in truth["devices"]:
        walk = json.loads(run("walk", image, device["sid"], "0x123456789000", "--machine", source,
                              "--format", "json", ok=(0, 1)))
        place = device.get("ctx_at") or device["dte_at"]
        entries = [s for s in walk["steps"] if s["address"] == place]
        words = [hex(int(word, 16)) for word in entries[0]["entry"]["words"]] if entries else []
        if not entries or "dte" in device and device["dte"] != words:
            wrong.append(device["sid"])
    check(f"walk {name}: context or device table entries where the other walker has them",
          not wrong, wrong[:3])
    summary = {row["table"].removesuffix("/0"): row for row in json.loads(
        run("maps", image, "--machine", source, "--format", "summary-json"))["tables"]}
    wrong = []
    for device in truth["devices"]:
        if device["type"] not in ("second-stage", "paged"):
            continue
        row = summary.get(device["sid"])
        units = {"K": 10, "M": 20, "G": 30}
        pages = {hex(int(k[:-1]) << units[k[-1]]): v
                 for k, v in (device.get("sizes") or device.get("pages") or {}).items() if v}
        if row is None or {p["bytes"]: p["count"] for p in row["pages"]} != pages \
                or row["runs"] != device["n_runs"] or int(row["bytes"], 16) != device["bytes"]:
            wrong.append((device["sid"], row))
    check(f"maps {name}: pages by size, runs and bytes of every device",
          not wrong, wrong[:2])
check("walk: requests walked", walked > 100, walked)

# 4. Who: the reverse of a leaf names the requester and the IOVA.
leaves = [row for row in rows(f"{crash}/vmcore-leaves.tsv.gz") if row[1].startswith("0x")]
wrong = []
for requester, iova, size, physical, *_ in random.sample(leaves, 20):
    answer = json.loads(run("who", f"{crash}/vmcore.tables.elf", physical, "--machine",
                            f"{crash}/vmcore-machine.json", "--format", "json"))
    if (requester, iova) not in {(way["table"], way.get("iova")) for way in answer["ways"]}:
        wrong.append((requester, iova))
check("who: random leaves read backwards", not wrong, wrong[:3])

# 5. Diff: before the crash, copied, and a moment later; and across containers.
before = f"{crash}/vmcore.makedumpfile-zlib.trim"
copied, kdump = f"{crash}/copied-tables.elf", f"{crash}/kdump-tables.elf"
options = ["--machine", f"{crash}/vmcore-machine.json"]
same = json.loads(run("diff", before, copied, *options, "--machine-after",
                      f"{crash}/copied-machine.json", "--format", "json"))["tables"]
check("diff: the copy maps what the dead kernel mapped",
      len(same) == 15 and not any(row["differences"] for row in same), len(same))


def pages(prefix):
    table = {}
    for name, iova, size, physical, access in rows(f"{crash}/{prefix}-maps.tsv.gz"):
        for page in range(int(iova, 16), int(iova, 16) + int(size, 16), 4096):
            table[name, page] = (int(physical, 16) + page - int(iova, 16), access)
    return table


changed = json.loads(run("diff", copied, kdump, "--machine", f"{crash}/copied-machine.json",
                         "--machine-after", f"{crash}/kdump-machine.json", "--format", "json",
                         ok=(1,)))["tables"]
old, new = pages("copied"), pages("kdump")
expected = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
ours = set()
for row in changed:
    for difference in row["differences"]:
        start = int(difference["iova"], 16)
        for page in range(start, start + int(difference["bytes"], 16), 4096):
            ours.add((row["table"], page))
            was = old.get((row["table"], page))
            kind = ("mapped" if was is None else
                    "unmapped" if (row["table"], page) not in new else
                    "re-aimed" if new[row["table"], page][0] != was[0] else "permissions")
            if kind != difference["change"]:
                ours.add(("wrong kind", page))
check(f"diff: the {len(expected)} pages that the capture kernel's drivers changed, and no others",
      ours == expected and expected, f"{len(ours)} pages")

# The same with AMD-Vi: who, the copied device table, and the new kernel's drivers.
dead = f"{amdvi}/crash48"
leaves = [row for row in rows(f"{dead}/vmcore-leaves.tsv.gz") if row[1].startswith("0x")]
wrong = []
for requester, iova, size, physical, *_ in random.sample(leaves, 20):
    answer = json.loads(run("who", f"{dead}/vmcore.tables.elf", physical, "--machine",
                            f"{dead}/vmcore-machine.json", "--format", "json"))
    first = int(iova, 16)
    if not any(way["table"] == requester and int(way.get("iova", "0"), 16) == first
               for way in answer["ways"]):
        wrong.append((requester, iova))
check("who: random AMD-Vi leaves read backwards", not wrong, wrong[:3])
same = json.loads(run("diff", f"{dead}/vmcore.makedumpfile-zlib.trim", f"{dead}/copied-tables.elf",
                      "--machine", f"{dead}/vmcore-machine.json", "--machine-after",
                      f"{dead}/copied-machine.json", "--format", "json"))["tables"]
check("diff: a copied device table maps what the dead kernel's mapped",
      len(same) == 15 and not any(row["differences"] for row in same), len(same))
text = run("verify", f"{dead}/vmcore.tables.elf", "--machine", f"{dead}/vmcore-machine.json", ok=(1,))
named = re.findall(r"^  (.+) IOVA 0x15000000, .*40960 of 40960 pages", text, re.M)
check("verify: a Linux 6.1 guest with AMD-Vi breaks R1 for every device",
      len(set(re.findall(r"[0-9a-f:]+\.[0-7]", " ".join(named)))) == 15)
text = run("explain", f"{dead}/vmcore.tables.elf", "--machine", f"{dead}/vmcore-machine.json",
           stdin="AMD-Vi: Event logged [IO_PAGE_FAULT device=0000:00:03.0 domain=0x0002 "
                 "address=0xdeadb000 flags=0x0020]\n")
check("explain: an event of AMD-Vi is borne out by the tables", "now         the same" in text, text)

# Interrupt tables: whose they are and where, by the other walker's device table entries; what entries
# say, by their words.
for name in ("deb48", "custats"):
    base = f"{amdvi}/{name}"
    with open(f"{base}/walk.json") as file:
        truth = {}
        for device in json.load(file)["devices"]:
            word = int(device["dte"][2], 16)
            if word & 1 and word >> 60 & 3 == 2:
                truth[device["sid"]] = (hex(word & 0xFFFFFFFFFFFC0), 1 << (word >> 1 & 15))
    units = json.loads(run("maps", f"{base}/trim.kdump-zlib", "--machine", f"{base}/machine.json",
                           "--interrupts", "--format", "json"))["units"]
    ours = {device: (unit["table"], unit["entries"]) for unit in units
            for device in unit["devices"] if device in truth}
    check(f"maps --interrupts {name}: {len(truth)} interrupt tables where device table entries say",
          ours == truth and truth, [ours.items() ^ truth.items()])
    wrong, count = [], 0
    for unit in units:
        for row in unit["interrupts"]:
            low, high = (int(word, 16) for word in row["raw"])
            expected = (hex(high & 0xFF), hex(low >> 8 & 0xFF), low >> 6 & 1, low >> 2 & 7, 1)
            found = (row["vector"], row["destination"], row["mode"] == "logical",
                     ["fixed", "lowest priority"].index(row["delivery"]), low & 1)
            count += 1
            if expected != found or int(row["address"], 16) != int(unit["table"], 16) \
                    + 16 * int(row["index"], 16):
                wrong.append((unit["table"], row))
    check(f"maps --interrupts {name}: {count} entries as their words have them",
          not wrong and count > 10, wrong[:2])
    # A hexdump names the same ones, by the same bits.
    ranges = [f"{unit['table']}+{16 * unit['entries']}" for unit in units]
    named = {}
    for row in json.loads(run("hexdump", f"{base}/trim.kdump-zlib", *ranges, "--machine",
                              f"{base}/machine.json", "--annotate", "--format", "json")):
        if row["table"].get("upper_table") == "interrupt remapping table":
            fields = {field["name"]: int(field["value"], 16) for field in row["entry"]["fields"]}
            if fields["RemapEn"]:
                named[row["address"]] = (
                    row["table"]["table"], fields["Vector"], fields["DM"], fields["IntType"])
    expected = {}
    for unit in units:
        for row in unit["interrupts"]:
            low, high = (int(word, 16) for word in row["raw"])
            expected[row["address"]] = (
                unit["devices"][0].split(" ")[0], high & 0xFF, low >> 6 & 1, low >> 2 & 7)
    check(f"hexdump --annotate {name}: {len(named)} interrupt entries, field by field",
          named == expected and named, named.items() ^ expected.items())

# 6. Verify: a kernel of today does not keep the Rule; a machine that was built by it does.
text = run("verify", f"{crash}/vmcore.tables.elf", *options, "--crash-kernel", "160M@336M",
           ok=(1,))
# A line for each table, with all devices that share it.
named = re.findall(r"^  (.+) IOVA 0x15000000, .*40960 of 40960 pages", text, re.M)
check("verify: a Linux 6.1 guest breaks R1 for every device",
      len(set(re.findall(r"[0-9a-f:]+\.[0-7]", " ".join(named)))) == 15)
same = [run("verify", before, *options, *crash_kernel, ok=(1,)) for crash_kernel in
        [[], ["--crash-kernel", "160M"], ["--crash-kernel", "15000000-1effffff"]]]
check("verify: a vmcore says where its capture kernel lived",
      same[0] == same[1] == same[2] and "IOVA 0x15000000, " in same[0])
needed = [word for device in ("01:01.0", "02:01.0", "00:03.0") for word in ("--device", device)]
for mode, title in (("vtd", "VT-d"), ("amdvi", "AMD-Vi")):
    run("play", "--mode", mode, "--output", f"{work}/play", "--ram", "1G")
    text = run("verify", f"{work}/play/{mode}.elf", "--machine", f"{work}/play/{mode}.json", *needed)
    check(f"verify: a machine with {title} that is set up by the Rule keeps it",
          text.endswith("\nthe Rule holds\n"))
text = run("verify", f"{work}/play/vtd.elf", "--machine", f"{work}/play/vtd.json", ok=(2,))
check("verify: nothing is said of devices that nobody named", "R8 is unknown" in text)
run("build", "--mode", "vtd", "--no-rule", "--output", f"{work}/norule", "--ram", "1G")
text = run("verify", f"{work}/norule/vtd.elf", "--machine", f"{work}/norule/vtd.json", ok=(2,))
check("verify: without any device R1, R2, R6 and R8 are unknown",
      all(re.search(rf"^{rule}  unknown: ", text, re.M) for rule in ("R1", "R2", "R6", "R8")))

# 7. Explain: a log with every kernel's way of saying it.
log = "\n".join(
    [f"[1.0] DMAR:[DMA Write] Request device [{r}] fault addr {i:x} \n"
     f"[1.0] DMAR:[fault reason 05] PTE Write access is not set"
     for r, i in (("00:03.0", 0xFFE00000),)] +
    ["DMAR: [DMA Read NO_PASID] Request device [05:00.0] fault addr 0xffffd000 "
     "[fault reason 0x01] Present bit in root entry is clear"])
explained = json.loads(run("explain", f"{crash}/vmcore.tables.elf", *options, "--format", "json",
                           stdin=log))
check("explain: both faults borne out by the tables",
      len(explained) == 2 and all(e["now"].startswith("the same") for e in explained))

print(f"{failures} wrong" if failures else "all right")
sys.exit(1 if failures else 0)
