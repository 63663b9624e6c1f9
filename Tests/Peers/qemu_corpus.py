#!/usr/bin/env python3
"""Answers requests as QEMU's Intel IOMMU does: a program for 'iommu corpus --check'.

    iommu corpus --check 'python3 Tests/Peers/qemu_corpus.py' --kind vtd-second-stage corpus

Reads 'requester TAB iova TAB r|w' lines like 'iommu translate', and prints them with an answer each.
QEMU (the variable QEMU, by default qemu-system-x86_64) has a processor that halts, and is driven by its
qtest protocol: the image is written into its RAM, the registers of the machine file into its unit, and an
'edu' device at each requester does a DMA of one byte for each request. Where it goes to is in QEMU's
trace, which fault it meets in the unit's fault record. Before each request the unit's caches are dropped.

QEMU_IOMMU has options for the intel-iommu device, such as 'aw-bits=39' or 'x-flts=on'. With QEMU_CACHES=keep
the caches are left as they are; what QEMU then drops without a fault looks like what passes.

'edu' sends no PASID: such requests are answered 'unknown', and so is everything that is not VT-d's.
"""
import argparse
import base64
import json
import os
import re
import struct
import subprocess
import sys
import tempfile

UNIT = 0xFED90000
# Offsets of registers: Intel VT-d 11.4.
CAP, ECAP, GCMD, GSTS, RTADDR, CCMD, FSTS = 0x08, 0x10, 0x18, 0x1C, 0x20, 0x28, 0x34
TE, SRTP = 1 << 31, 1 << 30
RAM = 512 << 20
# The registers of 'edu', and its own memory.
EDU_SOURCE, EDU_TARGET, EDU_COUNT, EDU_COMMAND, EDU_MEMORY = 0x80, 0x88, 0x90, 0x98, 0x40000


class QTest:
    """A machine whose processor halts: time goes on to the next timer at once."""

    def __init__(self, arguments):
        self.log = tempfile.NamedTemporaryFile(prefix="qemu-", suffix=".log")
        self.rom = tempfile.NamedTemporaryFile(prefix="qemu-", suffix=".rom")
        # cli; hlt; jmp back.
        self.rom.write(bytes(0xFFF0) + b"\xfa\xf4\xeb\xfd" + bytes(12))
        self.rom.flush()
        self.process = subprocess.Popen(
            [os.environ.get("QEMU", "qemu-system-x86_64"), "-nodefaults", "-display", "none", "-qtest",
             "stdio", "-qtest-log", "none", "-accel", "tcg", "-icount", "shift=0,sleep=off", "-bios",
             self.rom.name, "-trace", "vtd_dmar_translate", "-trace", "vtd_switch_address_space", "-D",
             self.log.name, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        while True:
            line = self.process.stdout.readline()
            if not line:
                sys.exit("QEMU ended: " + command)
            if line.startswith("OK"):
                return line[2:].strip()
            if line.startswith(("FAIL", "ERR")):
                sys.exit(f"{command}: {line.strip()}")

    def read(self, size, address):
        return int(self.ask(f"read{size} {address:#x}"), 16)

    def write(self, size, address, value):
        self.ask(f"write{size} {address:#x} {value:#x}")

    def config(self, device, offset):
        bus, slot, function = device
        self.ask(f"outl 0xcf8 {1 << 31 | bus << 16 | slot << 11 | function << 8 | offset & 0xfc:#x}")

    def write_config(self, device, offset, value):
        self.config(device, offset)
        self.ask(f"outl 0xcfc {value:#x}")

    def read_config(self, device, offset):
        self.config(device, offset)
        return int(self.ask("inl 0xcfc"), 16)

    def traced(self):
        """What was traced since the last call."""
        with open(self.log.name) as file:
            file.seek(getattr(self, "seen", 0))
            text = file.read()
            self.seen = file.tell()
        return text

    def end(self):
        self.process.stdin.close()
        self.process.terminate()
        self.process.wait()
        self.log.close()
        self.rom.close()


def segments(path):
    """Ranges of an ELF core that are stored: address and bytes."""
    with open(path, "rb") as file:
        core = file.read()
    offset, = struct.unpack_from("<Q", core, 32)
    size, count = struct.unpack_from("<HH", core, 54)
    for number in range(count):
        kind, _, start, _, physical, stored = struct.unpack_from("<IIQQQQ", core, offset + number * size)
        if kind == 1 and stored:
            yield physical, core[start:start + stored]


def number(text):
    return int(text, 16)


def functions(requesters):
    """Arguments for an 'edu' at each requester, the ports above them, and what function 0 fills."""
    arguments, ports = [], {}
    wanted = set(requesters)
    taken = {slot for bus, slot, _ in wanted if bus == 0} | {0, 31}
    free = iter(sorted(set(range(32)) - taken))
    for bus in sorted({bus for bus, _, _ in wanted if bus}):
        ports[bus] = (0, next(free), 0)
        arguments += ["-device", f"pcie-root-port,id=port{bus},chassis={bus},slot={bus},"
                      f"addr={ports[bus][1]:#x}"]
    wanted |= {(bus, slot, 0) for bus, slot, _ in wanted}
    for bus, slot, function in sorted(wanted):
        place = f"port{bus}" if bus else "pcie.0"
        arguments += ["-device", f"edu,bus={place},addr={slot:#x}.{function},multifunction=on,"
                      f"dma_mask={(1 << 64) - 1:#x}"]
    return arguments, ports, sorted(wanted)


def set_up_bus(machine, ports, devices):
    """Bus numbers, windows and addresses; returns where the devices' registers lie."""
    window = 0xE0000000
    bars = {}
    for bus, port in ports.items():
        machine.write_config(port, 0x18, bus << 16 | bus << 8)
    for bus in [0, *ports]:
        first = window
        for device in devices:
            if device[0] == bus:
                machine.write_config(device, 0x10, window)
                machine.write_config(device, 0x04, 6)
                bars[device] = window
                window += 1 << 20
        if bus:
            machine.write_config(ports[bus], 0x20, (window - 1) & 0xFFF00000 | first >> 16)
            machine.write_config(ports[bus], 0x04, 6)
    return bars


class Unit:
    """QEMU's unit with the registers of a machine file."""

    def __init__(self, machine, registers):
        self.machine = machine
        self.records = UNIT + (machine.read("q", UNIT + CAP) >> 24 & 0x3FF) * 16
        self.iotlb = UNIT + (machine.read("q", UNIT + ECAP) >> 8 & 0x3FF) * 16 + 8
        self.passing = set()
        machine.write("q", UNIT + RTADDR, registers[RTADDR])
        machine.write("l", UNIT + GCMD, SRTP)
        self.invalidate()
        if registers.get(GSTS, TE) & TE:
            machine.write("l", UNIT + GCMD, TE)

    def invalidate(self):
        # Global: contexts, then pages. Intel VT-d 6.5.1.
        self.machine.write("q", UNIT + CCMD, 1 << 63 | 1 << 61)
        self.machine.write("q", self.iotlb, 1 << 63 | 1 << 60)

    def fault(self):
        """The reason in the fault record, which is cleared; None where none was recorded."""
        high = self.machine.read("q", self.records + 8)
        if not high >> 63:
            return None
        self.machine.write("l", self.records + 12, 1 << 31)
        self.machine.write("l", UNIT + FSTS, 1)
        return high >> 32 & 0xFF

    def answer(self, device, bar, iova, access):
        machine = self.machine
        if os.environ.get("QEMU_CACHES") != "keep":
            self.invalidate()
        self.note(machine.traced())
        source, target, command = ((EDU_MEMORY, iova, 3) if access == "w" else (iova, EDU_MEMORY, 1))
        for register, value in ((EDU_SOURCE, source), (EDU_TARGET, target), (EDU_COUNT, 1),
                                (EDU_COMMAND, command)):
            machine.write("q", bar + register, value)
        while machine.read("q", bar + EDU_COMMAND) & 1:
            pass
        traced = machine.traced()
        self.note(traced)
        reason = self.fault()
        if reason is not None:
            return f"fault:{reason:#x}"
        for line in traced.splitlines():
            found = re.search(r"vtd_dmar_translate dev .* iova 0x(\w+) -> gpa 0x(\w+) mask 0x(\w+)", line)
            if found:
                start, physical, mask = map(number, found.groups())
                if start == iova & ~mask:
                    return f"{physical | iova & mask:#x}"
        # A device that passes does not go through the unit; what else is not translated is dropped.
        return f"{iova:#x}" if device in self.passing else "fault"

    def note(self, traced):
        """Which devices the unit lets pass from now on."""
        pattern = r"Device (\w+):(\w+)\.(\w+) switching address space \(iommu enabled=(\d)\)"
        for bus, slot, function, on in re.findall(pattern, traced):
            device = (number(bus), number(slot), number(function))
            (self.passing.discard if on == "1" else self.passing.add)(device)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image")
    parser.add_argument("--machine", required=True)
    options = parser.parse_args()
    with open(options.machine) as file:
        unit = json.load(file)["units"][0]
    requests = [line.split("\t") for line in sys.stdin.read().splitlines() if line and line[0] != "#"]
    if unit["kind"] != "intel-vtd":
        for request in requests:
            print("\t".join(request), "unknown", sep="\t")
        return
    registers = {number(key): number(value) for key, value in unit["registers"].items()}
    names = {name: tuple(map(number, re.split("[:.]", name)))
             for name, _, _ in requests if "/" not in name}
    arguments, ports, devices = functions(names.values())
    scalable = ",x-scalable-mode=on" if registers[RTADDR] >> 10 & 3 == 1 else ""
    extra = os.environ.get("QEMU_IOMMU", "")
    machine = QTest(
        ["-machine", "q35", "-m", f"{RAM >> 20}M", "-device",
         f"intel-iommu,intremap=off,aw-bits=48{scalable}{',' + extra if extra else ''}", *arguments])
    try:
        bars = set_up_bus(machine, ports, devices)
        for start, stored in segments(options.image):
            for offset in range(0, len(stored), 4096):
                piece = stored[offset:offset + 4096]
                machine.ask(f"b64write {start + offset:#x} {len(piece):#x} {base64.b64encode(piece).decode()}")
        remapping = Unit(machine, registers)
        for name, iova, access in requests:
            device = names.get(name)
            found = "unknown" if device is None else remapping.answer(device, bars[device], number(iova), access)
            print(name, iova, access, found, sep="\t")
    finally:
        machine.end()


if __name__ == "__main__":
    main()
