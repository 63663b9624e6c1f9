#!/usr/bin/env python3
"""linux.py IOMMU DATA [SYMBOLS]: every field of each kernel.json against `iommu vmcore` and `iommu dmesg`; and what SYMBOLS
prints, each symbol of a kernel, against the guest's own /proc/kallsyms."""
import json
import os
import re
import resource
import subprocess
import sys
import tarfile
import tempfile

TOOL, DATA = os.path.abspath(sys.argv[1]), sys.argv[2]
# image, role of the kernel, its truth
KERNELS = [("vtd-full/full.kdump", "old", "vtd-full/kernel.json"),
           ("vtd-crash-full/vmcore.kdump", "old", "vtd-crash-full/kernel.json"),
           ("vtd-crash-full/both.kdump", "old", "vtd-crash-full/kernel.json"),
           ("vtd-crash-full/both.kdump", "capture", "vtd-crash-full/both-kernel.json")]
TYPES = {"DMA-FQ": "DMA-FQ", "unmanaged": "unmanaged", "DMA": "DMA"}
counts, differences = 0, []


def same(what, ours, truth):
    global counts
    counts += 1
    if ours != truth:
        differences.append(f"{what}: {str(ours)[:200]}, and the truth is {str(truth)[:200]}")


def tool(*arguments):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run([TOOL, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if result.returncode not in (0, 1, 2):
        sys.exit(f"{arguments}: status {result.returncode}\n{result.stderr}")
    return result.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def pages(ranges):
    return [[int(a, 16), int(b, 16)] for a, b in ranges]


def check(image, role, truth):
    text, took = tool("vmcore", os.path.join(DATA, image), "--kernel", role, "--iovas", "--format", "json")
    [ours] = json.loads(text)
    name = f"{image} {role}"
    for key in ("release", "version", "machine", "command_line"):
        same(f"{name} {key}", ours.get(key), truth[key])
    same(f"{name} processors", ours["processors"], len(truth["cpus_possible"]))
    lines = []
    for line in ours["resources"]:
        low, high = int(line["start"], 16), int(line["end"], 16)
        lines.append(f"{'  ' * line['depth']}{low:08x}-{high:08x} : {line['name']}")
    same(f"{name} iomem", lines, truth["iomem"])
    same(f"{name} modules", [[m["name"], int(m["address"], 16), int(m["bytes"], 16), m.get("type_bytes")] for m in ours["modules"]],
         [[m["name"], int(m["text"], 16), m["text_size"], m["btf_size"]] for m in truth["modules"]])

    names = {}
    same(f"{name} units", len(ours["units"]), len(truth["units"]))
    for unit, known in zip(ours["units"], truth["units"]):
        names[unit["structure"]] = known["name"]
        for key, other in (("kind", "kind"), ("name", "name"), ("base", "register_base"), ("segment", "segment"), ("capability", "cap"), ("command", "gcmd"),
                           ("extended_capability", "ecap"), ("table", "root_table"), ("queue", "invalidation_queue"),
                           ("interrupt_table", "interrupt_remapping_table"), ("domain_ids", "domain_ids"), ("structure", "intel_iommu")):
            same(f"{name} unit {key}", unit.get(key), known[other])
        same(f"{name} unit copied_tables", unit["copied_tables"], known["copied_tables"] != "0x0")

    devices = {device["name"]: device for device in ours["devices"]}
    same(f"{name} devices", sorted(devices), sorted(device["bdf"] for device in truth["devices"]))
    for known in truth["devices"]:
        device, bdf = devices[known["bdf"]], known["bdf"]
        same(f"{name} {bdf} vendor", int(device["vendor"], 16), int(known["vendor"], 16))
        same(f"{name} {bdf} device", int(device["product"], 16), int(known["device_id"], 16))
        same(f"{name} {bdf} class", int(device["class"], 16), int(known["class"], 16))
        for key, other in (("driver", "driver"), ("dma_mask", "dma_mask"), ("coherent_dma_mask", "coherent_dma_mask"), ("group", "group"),
                           ("requester", "requester"), ("domain", "attached_domain")):
            same(f"{name} {bdf} {key}", device.get(key), known.get(other))
        same(f"{name} {bdf} unit", names.get(device.get("unit")), known.get("unit"))

    groups = {group["group"]: group for group in ours["groups"]}
    same(f"{name} groups", sorted(groups), sorted(group["id"] for group in truth["groups"]))
    for known in truth["groups"]:
        group = groups[known["id"]]
        same(f"{name} group {known['id']} devices", group["devices"], known["devices_in_list_order"])
        same(f"{name} group {known['id']} default", group["default_domain"], known["default_domain"])
        same(f"{name} group {known['id']} domain", group["domain"], known["domain"])

    domains = {domain["domain"]: domain for domain in ours["domains"]}
    same(f"{name} domains", sorted(domains), sorted(truth["domains"]))
    for address, known in truth["domains"].items():
        domain, what = domains[address], f"{name} domain {address}"
        same(f"{what} type", domain["type"], known["type_name"])
        same(f"{what} ids", [[names[i["unit"]], i["id"]] for i in domain["ids"]], [[i["unit"], i["domain_id"]] for i in known["iommu_ids"]])
        same(f"{what} root", domain.get("root"), known["root"])
        same(f"{what} levels", domain.get("levels"), known["levels"])
        same(f"{what} first stage", domain.get("first_stage"), known["first_level"])
        iova = domain.get("iova")
        same(f"{what} allocator", iova is not None, "iova" in known)
        if iova is None or "iova" not in known:
            continue
        same(f"{what} granule", int(iova["granule"], 16), known["iova"]["granule"])
        # The last one is the anchor.
        same(f"{what} ranges", pages(iova["range_list"]), pages(known["iova"]["ranges"])[:-1])
        for cached, depot in zip(iova["cached_list"], known["iova"]["rcache"]):
            same(f"{what} order", cached["order"], depot["order"])
            same(f"{what} caches of order {depot['order']}", cached["processors"], [cpu["loaded"] + cpu["prev"] for cpu in depot["cpus"]])
            same(f"{what} depot of order {depot['order']}", cached["depot"], [pfn for magazine in depot["depot_pfns"] for pfn in magazine])
        same(f"{what} cached", iova["cached"], known["iova"]["rcache_total"])
        queue = known["flush_queue"]
        same(f"{what} flushes", [iova["flush_start"], iova["flush_finish"]], [queue["flush_start"], queue["flush_finish"]])
        same(f"{what} waiting", [[w.get("processor"), w["page"], w["pages"], w["counter"]] for w in iova["waiting_list"]],
             [[q.get("cpu"), w["pfn"], w["pages"], w["counter"]] for q in queue.get("queues", []) for w in q["waiting"]])
    same(f"{name} unknown", ours["unknown"], [])

    log, _ = tool("dmesg", os.path.join(DATA, image), "--kernel", role)
    lines, printk = log.splitlines(), truth["printk"]
    same(f"{name} log", len(lines), printk["lines_total"])
    same(f"{name} log, first lines", lines[:20], printk["first20"])
    same(f"{name} log, last lines", lines[-20:], printk["last20"])
    text, _ = tool("dmesg", os.path.join(DATA, image), "--kernel", role, "--format", "json")
    same(f"{name} records", len(json.loads(text)[0]["messages"]), printk["records"])
    names = {device["requester"]: device["driver"] for device in truth["devices"] if device.get("requester")}
    maps, _ = tool("maps", os.path.join(DATA, image), "--format", "json")
    # The tables in force are those of the kernel that came last.
    if role == [other for file, other, _ in KERNELS if file == image][-1]:
        tables = json.loads(maps)["tables"]
        # Of a device that the capture kernel has no driver for, the old kernel's is named.
        same(f"{name} names", [t.get("driver") for t in tables if names.get(t["table"])], [names[t["table"]] for t in tables if names.get(t["table"])])
    found, _ = tool("find", os.path.join(DATA, image), "--format", "json")
    roots = {c["address"]: c["kernel"] for c in json.loads(found) if c["kernel"]["state"] == "unit"}
    for known in truth["units"]:
        same(f"{name} find {known['root_table']}", roots.get(known["root_table"], {}).get("unit"), known["name"])
    by_kind = {}
    for finding in ours["findings"]:
        by_kind[finding["kind"]] = by_kind.get(finding["kind"], 0) + 1
    print(f"{name}: {took:.3f} s of CPU time, {ours['pages_read']} pages of the kernel's read, findings: {by_kind or 'none'}")


def verdicts(image, machine, expected):
    """Checks of the Rule that the kernel's structures decide. No kernel of these does what the Rule demands; all tables are in use."""
    options = ["--machine", os.path.join(DATA, machine)] if machine else []
    text, _ = tool("verify", os.path.join(DATA, image), *options, "--format", "json")
    rules = {rule["rule"]: rule for rule in json.loads(text)["rules"]}
    for rule, outcome in expected.items():
        same(f"{image} {machine or ''} {rule}", rules[rule]["outcome"], outcome)
    same(f"{image} R3 is free", {f["text"] for f in rules["R3"]["findings"] if f["kind"] == "broken"},
         {"0x3000000..<0xb000000 is free in the allocator: never reserved"})
    print(f"{image} {machine or ''}: " + "; ".join(ground for rule in rules.values() for ground in rule.get("grounds", [])))


def symbols(program, image, report):
    """Every symbol, in order; modules have their own tables."""
    with tarfile.open(os.path.join(DATA, report)) as file:
        [name] = [name for name in file.getnames() if os.path.basename(name) == "kallsyms.txt"]
        truth = [line for line in file.extractfile(name).read().decode().splitlines() if "\t[" not in line]
    ours = subprocess.run([program, os.path.join(DATA, image)], capture_output=True, text=True, check=True).stdout.splitlines()
    same(f"{image} symbols", len(ours), len(truth))
    differing = [pair for pair in zip(ours, truth) if pair[0] != pair[1]]
    same(f"{image} each symbol", differing[:4], [])
    print(f"{image}: {len(truth) - len(differing)} of {len(truth)} symbols agree")


def makedumpfile(image):
    """The log, as makedumpfile takes it out of the dump."""
    with tempfile.TemporaryDirectory() as work:
        path = os.path.join(work, "log")
        run = subprocess.run(["makedumpfile", "--dump-dmesg", os.path.join(DATA, image), path], capture_output=True, text=True)
        if run.returncode != 0:
            sys.exit(f"makedumpfile --dump-dmesg {image}: {run.stdout}{run.stderr}")
        theirs = open(path).read().splitlines()
    ours, _ = tool("dmesg", os.path.join(DATA, image), "--kernel", "old")
    # It does not repeat the time in front of the second line of a message.
    stamp = re.compile(r"^\[ *\d+\.\d{6}\] ")
    bare = lambda lines: [stamp.sub("", line).rstrip() for line in lines]
    same(f"{image} log of makedumpfile", bare(ours.splitlines()), bare(theirs))


def read(program, address, is_physical):
    """Eight bytes; None for a page that was left out."""
    import drgn
    try:
        return program.read(address, 8, is_physical)
    except drgn.FaultError:
        return None


def drgn(image, truth):
    """What drgn reads without debug information: symbols, and memory by the kernel's addresses."""
    import drgn
    program = drgn.Program()
    program.set_core_dump(os.path.join(DATA, image))
    text, _ = tool("vmcore", os.path.join(DATA, image), "--kernel", "old", "--format", "json")
    [ours] = json.loads(text)
    for unit in ours["units"]:
        drhd = int(unit["structure"], 16)
        same(f"{image} drgn: register base", hex(program.read_u64(drhd + 8)), unit["base"])
    for name, known in truth["symbols"].items():
        if known is None:
            continue
        address = int(known["address"], 16)
        # Per-cpu symbols of these kernels are offsets.
        if address < 1 << 63:
            continue
        same(f"{image} drgn: {name}", read(program, address, False), read(program, int(known["physical"], 16), True))


for image, role, truth in KERNELS:
    check(image, role, json.load(open(os.path.join(DATA, truth))))
for image in ("vtd-full/full.kdump", "vtd-crash-full/vmcore.kdump", "vtd-crash-full/both.kdump"):
    makedumpfile(image)
# Of the dump with two kernels drgn takes the page tables that the processors had at the end: the capture kernel's.
for image, truth in (("vtd-full/full.kdump", "vtd-full/kernel.json"), ("vtd-crash-full/vmcore.kdump", "vtd-crash-full/kernel.json")):
    drgn(image, json.load(open(os.path.join(DATA, truth))))
if len(sys.argv) > 3:
    symbols(sys.argv[3], "vtd-full/full.kdump", "vtd-full/guest-report.tar.xz")
    symbols(sys.argv[3], "vtd-crash-full/vmcore.kdump", "vtd-crash-full/guest-report.tar.xz")
DECIDED = {"R3": "broken", "R6": "holds", "R8": "holds", "R9": "holds", "R10": "broken"}
verdicts("vtd-crash-full/vmcore.kdump", None, DECIDED)
verdicts("vtd-crash-full/vmcore.kdump", "vtd-crash-full/machine.json", DECIDED)
# The capture kernel's tables are in force, in its own memory.
verdicts("vtd-crash-full/both.kdump", None, {"R3": "broken", "R9": "broken", "R10": "broken"})
print(f"{counts - len(differences)} of {counts} comparisons agree")
for difference in differences[:40]:
    print(difference)
sys.exit(1 if differences else 0)
