#!/usr/bin/env python3
"""Checks what every command prints with --format json against docs/schema.json.

Usage: schema.py TOOL WORKDIR [ORACLE]. One line per command; exits 1 when any output breaks the schema, when
the schema or docs/json.md lacks a command, or has one that there is not. ORACLE has dumps of real machines.
"""
import glob
import json
import os
import re
import subprocess
import sys

import jsonschema

tool, work = sys.argv[1:3]
with open("docs/schema.json") as file:
    schema = json.load(file)
jsonschema.Draft202012Validator.check_schema(schema)
failures = 0
checked = {}


def check(name, good, detail=""):
    global failures
    failures += not good
    print(("ok    " if good else "WRONG ") + name + ("" if good else f": {detail}"))


def leaves(command, path=()):
    """Every command that does something, as its words."""
    subcommands = [c for c in command.get("subcommands", []) if c["commandName"] != "help"]
    if not subcommands:
        yield "-".join(path)
    for subcommand in subcommands:
        yield from leaves(subcommand, (*path, subcommand["commandName"]))


def validate(arguments, ok=(0, 1, 2), stdin="", lines=False):
    """Runs a command with --format json, and holds what it prints against the command's entry."""
    names = [name for name in commands if " ".join(arguments).startswith(name.replace("-", " "))]
    name = max(names, key=len)
    done = subprocess.run([tool, *arguments, *(() if "--format" in arguments else ("--format", "json"))],
                          input=stdin, capture_output=True, text=True)
    line = " ".join(arguments)
    if done.returncode not in ok or not done.stdout:
        return check(f"iommu {line}", False, f"exit {done.returncode}: {done.stderr.strip()[:300]}")
    validator = jsonschema.Draft202012Validator(
        {"$ref": f"#/$defs/iommu-{name}", "$defs": schema["$defs"]})
    for text in done.stdout.splitlines() if lines else [done.stdout]:
        error = jsonschema.exceptions.best_match(validator.iter_errors(json.loads(text)))
        if error:
            return check(f"iommu {line}", False, f"{error.json_path}: {error.message[:300]}")
    checked[name] = checked.get(name, 0) + 1


help_ = json.loads(subprocess.run([tool, "--experimental-dump-help"], check=True, capture_output=True,
                                  text=True).stdout)["command"]
commands = sorted(leaves(help_))
described = sorted(key[6:] for key in schema["$defs"] if key.startswith("iommu-"))
check("the schema has an entry for every command", described == commands,
      set(described) ^ set(commands))
with open("docs/json.md") as file:
    text = file.read()
lacking = [name for name in commands if f"`{name.replace('-', ' ')}`" not in text
           and f"`{name.replace('-', ' ')} " not in text]
check("docs/json.md describes every command", not lacking, lacking)

# A schema that takes anything would pass all that follows.
candidates = json.loads(subprocess.run([tool, "find", "Examples/vtd-crash/image.elf", "--format", "json"],
                                       check=True, capture_output=True, text=True).stdout)
takers = [name for name in commands if jsonschema.Draft202012Validator(
    {"$ref": f"#/$defs/iommu-{name}", "$defs": schema["$defs"]}).is_valid(candidates)]
candidates[0]["misspelt"] = 1
check("what find prints is what no other command prints", takers == ["find"] and not jsonschema.
      Draft202012Validator({"$ref": "#/$defs/iommu-find", "$defs": schema["$defs"]}).is_valid(candidates),
      takers)

vtd = ["Examples/vtd-crash/image.elf", "--machine", "Examples/vtd-crash/machine.json"]
calgary = ["Examples/calgary/image.elf", "--machine", "Examples/calgary/machine.json"]
gart = ["Examples/gart/image.elf", "--machine", "Examples/gart/machine.json"]
small = ["--ram", "256M", "--crash-kernel", "16M@32M"]

validate(["play", "--output", f"{work}/play", *small])
validate(["play", "--crash-kernel", "256M@5G", "--ram", "8G"])
validate(["play", "--mode", "nommu", "--ram", "8G", "--crash-kernel", "128M@6G"])
validate(["crash"])
validate(["crash", "--all", "--caches", "everything", "--no-flush"])
for strategy, unit in (("S7", "vtd"), ("S11", "amdvi"), ("S4r", "calgary"), ("S14c", "smmuv3")):
    validate(["crash", "--strategy", strategy, "--unit", unit])
validate(["crash", "--strategy", "S7", "--unit", "vtd", "--phase", "P2", "--ram", "256M", "--crash-kernel", "16M"])
validate(["crash", "--scenario", "all"])
validate(["crash", "--runs", "5"])
for shard in ("1/2", "2/2"):
    validate(["crash", "--runs", "5", "--shard", shard, "--unit", "gart"])
for mode in ("nommu", "swiotlb", "gart", "calgary", "vtd"):
    validate(["build", "--mode", mode, "--output", f"{work}/build", "--map", "01:01.0=0x2000000+64K",
              *small, "--no-rule"])
built = {mode: [f"{work}/play/{mode}.elf", "--machine", f"{work}/play/{mode}.json"]
         for mode in ("nommu", "swiotlb", "gart", "calgary", "vtd")}

# A root table that the dump lacks, and a page table.
with open("Examples/vtd-crash/image.elf", "rb") as file:
    core = bytearray(file.read())
lacking = []
for number, page in enumerate((0x6a04000, 0x7538000)):
    cut = bytearray(core)
    for header in range(64, 64 + 56 * int.from_bytes(cut[56:58], "little"), 56):
        start = int.from_bytes(cut[header + 24:header + 32], "little")
        size = int.from_bytes(cut[header + 40:header + 48], "little")
        if int.from_bytes(cut[header:header + 4], "little") == 1 and start <= page < start + size:
            cut[header:header + 4] = bytes(4)
    lacking.append(f"{work}/lacking-{number}.elf")
    with open(lacking[-1], "wb") as file:
        file.write(cut)

images = [vtd, calgary, gart, *built.values(), vtd[:1], calgary[:1],
          *([path, *vtd[1:]] for path in lacking)]
for path in sorted(glob.glob(f"{sys.argv[3]}/linux-*/*/*machine*.json")) if len(sys.argv) > 3 else []:
    with open(path) as file:
        machine = json.load(file)
    for name in [*filter(None, [machine.get("image")]), *machine.get("images", [])][:1]:
        source = [os.path.join(os.path.dirname(path), name), "--machine", path]
        if not os.path.exists(source[0]):
            continue
        validate(["find", source[0]])
        for how in (["--format", "json"], ["--format", "summary-json"], ["--interrupts"]):
            validate(["maps", *source, *how])
        validate(["verify", *source, "--crash-kernel", "160M@336M"])
        validate(["walk", *source, "00:03.0", "ffefd000"])
for image in images:
    validate(["find", image[0], "--all"])
    validate(["maps", *image])
    validate(["maps", *image, "--format", "summary-json"])
    validate(["maps", *image, "--interrupts"])
    validate(["verify", *image, "--crash-kernel", "16M@32M"])
    validate(["report", *image, "--output", f"{work}/report.html"])
    validate(["image", "info", image[0], "--all"])
    validate(["translate", *image], stdin="00:03.0\tffefd000\tw\n01:01.0 2000000 r\n", lines=True)
    for address in ("7663000", "e7b8000", "2000000", "2000000+16M", "6a04008", "7538010"):
        validate(["who", *image, address])
    for device, iova in (("00:03.0", "ffefd000"), ("01:01.0", "2000000"), ("00:1f.0", "fee00000")):
        validate(["walk", *image, device, iova, "--write"])
    validate(["hexdump", *image, "6a04000+8K"])
    validate(["hexdump", *image, "6a04008+100", "--quadwords"])
    validate(["hexdump", *image, "--annotate"])
validate(["find", vtd[0], "--measure"])
validate(["diff", vtd[0], lacking[1], *vtd[1:]])
validate(["diff", vtd[0], lacking[0], *vtd[1:]])
validate(["diff", built["vtd"][0], built["nommu"][0], *built["vtd"][1:], "--machine-after",
          built["nommu"][2]])
validate(["explain", "--forms"])
with open("Examples/logs/dmesg.txt") as file:
    log = file.read()
for image in ([], vtd, [lacking[1], *vtd[1:]]):
    validate(["explain", "Examples/logs/dmesg.txt", *image])
    validate(["explain", "Examples/logs/entries.txt", *image])
    validate(["explain", "-", *image], stdin=log + "DMAR: [DMA Write] Request device [zz\n")
validate(["explain", "Examples/logs/dmesg.txt", "--dmar", "Examples/logs/dmar.bin", "--iomem",
          "Examples/logs/iomem.txt", "--trace", "Examples/logs/trace.txt"])
validate(["dmesg", "Examples/vmcore/vmcore.kdump"])
validate(["vmcore", "Examples/vmcore/vmcore.kdump"])
validate(["vmcore", "Examples/vmcore/vmcore.kdump", "--iovas"])
validate(["vmcore", vtd[0]])
# A dump whose kernel names drivers, says whose tables are, and decides checks of the Rule.
spoken = "Examples/vmcore/vmcore.kdump"
for words in (["find", spoken], ["maps", spoken], ["maps", spoken, "--format", "summary-json"], ["verify", spoken],
              ["walk", spoken, "00:03.0", "fffff000"], ["who", spoken, "109b1000"], ["diff", spoken, spoken],
              ["report", spoken, "--output", f"{work}/spoken.html"], ["hexdump", spoken, "--annotate"],
              ["explain", "Examples/logs/dmesg.txt", spoken]):
    validate(words)
validate(["translate", spoken], stdin="00:03.0\tfffff000\tw\n00:00.0 2000000 r\n", lines=True)
for path in sorted(glob.glob(f"{sys.argv[3]}/../oracle-2/linux-full/*/*.kdump")) if len(sys.argv) > 3 else []:
    validate(["dmesg", path])
    validate(["vmcore", path, "--iovas"])
help_text = subprocess.run([tool, "decode", "--help"], capture_output=True, text=True).stdout
for kind in re.findall(r"^  ([a-z0-9-]+): ", help_text, re.MULTILINE):
    if kind not in ("dmar", "ivrs", "iort"):
        validate(["decode", kind])
        for words in (["0x1234567"], ["0x1234567", "0x89"], ["1", "2", "3", "4"],
                      ["1", "2", "3", "4", "5", "6", "7", "8"]):
            done = subprocess.run([tool, "decode", kind, *words], capture_output=True)
            if done.returncode < 2:
                validate(["decode", kind, *words])
validate(["decode", "--list"])
validate(["decode", "dmar", "Examples/logs/dmar.bin"])
for kind in ("ivrs", "iort"):
    validate(["decode", kind, f"Fuzz/Seeds/dmar/{kind}"])
for target in ("raw", "elf", "kdump", "flattened"):
    validate(["image", "convert", vtd[0], "--to", target, "--output", f"{work}/converted.{target}"])
    validate(["image", "info", f"{work}/converted.{target}"])
with open(f"{work}/converted.kdump", "rb") as file:
    kdump = file.read()
with open(f"{work}/cut", "wb") as file:
    file.write(kdump[:-5000])
validate(["image", "info", f"{work}/cut"])
for caches in ("off", "on"):
    validate(["conform", "calgary", "Examples/calgary-trace", "--caches", caches])
    validate(["conform", "gart", "Examples/gart-trace", "no-such-directory", "--caches", caches])
for unit in ("vtd", "amdvi"):
    with open(f"Examples/{unit}-cases/cases.jsonl") as file:
        validate(["conform", unit], stdin=file.read(), lines=True)
validate(["corpus", "--output", f"{work}/corpus"])
for program in (f"'{tool}' translate", ":", "cat; :", f"f() {{ '{tool}' translate \"$@\" | sed s/.*/fault/; }}; f"):
    validate(["corpus", "--check", program, f"{work}/corpus"])
validate(["replay", "Examples/dma-trace/qemu.log"])
validate(["replay", "Examples/dma-trace/qemu.log", "--sweep", "entries=16:64", "--prefetch",
          "--paging-caches", "16"])
for shard in ("1/2", "2/2"):
    validate(["replay", "Examples/dma-trace/qemu.log", "--shard", shard])
validate(["bench", "--rounds", "1", "--span", "1G", "--threads", "1", "--table", "tce"])

for name in commands:
    check(f"iommu {name.replace('-', ' ')}: {checked.get(name, 0)} outputs", name in checked, "none")
sys.exit(failures > 0)
