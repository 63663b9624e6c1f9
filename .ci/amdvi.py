#!/usr/bin/env python3
"""Device tables and page tables of AMD-Vi, legal and illegal, with what a slow walker makes of them.

The walker follows the order of the manual's steps and has nothing in common with the one under test.

usage: amdvi.py check                      the walker against vectors worked out by hand
       amdvi.py cases COUNT SEED           cases, a JSON object a line, with the answers expected
       amdvi.py judge CASES ANSWERS        answers of `iommu conform amdvi`, a line for each case

A case: {"id", "family", "capability": header of the PCI capability, "memory": [["0xPA", "bytes"], ...],
"registers": {"0xOFFSET": "0xVALUE"}, "ops": [...], "expect": [...]}. RAM is 0 to 2 GiB and 4 to 8 GiB,
zero where nothing is said; nothing else answers. Quantities of 64 bits are texts in hexadecimal.

Ops: {"op": "peek", "pa", "len"} what memory holds; {"op": "probe", "device", "iova", "size", "write"} with "pasid", "privileged" and "execute" where a
request has a prefix; {"op": "mem", "pa", "hex"} software writes memory; {"op": "command", "hex"} software
queues a command and waits for it.

Answers, null where there is none: {"r": "ok", "pa", "bytes": how far the answer holds, at least} or
{"r": "fault", "event": the 16 bytes that were logged, or null}; a transfer over a 4 KiB boundary is
several requests: {"parts": [...]}. For a peek {"hex"}. What is expected is a list, wherever the manual leaves a
choice: any of it is right.
"""
import itertools
import json
import random
import sys

M64 = (1 << 64) - 1
PAGE = 0xFFFFFFFFFF000
IR, IW, FC, U = 1 << 61, 1 << 62, 1 << 60, 1 << 59
RAM = [(0, 2 << 30), (4 << 30, 8 << 30)]
# Where requests are more than memory: interrupt messages, and what HyperTransport has at its top.
SPECIAL = [(0xFEE00000, 0xFEF00000), (0xFD00000000, 0x10000000000)]

ILLEGAL_DTE, PAGE_FAULT, DEV_TAB_ERROR, PAGE_TAB_ERROR = 1, 2, 3, 4
GN, NX, US, PR, RW, PE, RZ, TARGET_ABORT = 0x1, 0x2, 0x4, 0x10, 0x20, 0x40, 0x80, 0x400


def bits(word, high, low):
    return word >> low & (1 << high - low + 1) - 1


def event(code, device, domain, flags, address):
    """The 16 bytes of an event; `domain` is the PASID of one with GN."""
    low = code << 60 | flags << 48 | (domain & 0xFFFF) << 32 | domain >> 16 << 16 | device
    return (low.to_bytes(8, "little") + address.to_bytes(8, "little")).hex()


class Blocked(Exception):
    """A request ends: the events that may be logged, `None` where there need not be one."""

    def __init__(self, events):
        self.events = events


class Walker:
    """One unit, its registers as they stand, nothing remembered."""

    def __init__(self, registers, memory):
        self.registers, self.memory = registers, memory
        self.efr, self.efr2 = registers.get(0x30, 0), registers.get(0x1A0, 0)
        self.control = registers.get(0x18, 0)

    def read(self, address):
        if not any(start <= address < end for start, end in RAM):
            return None
        return self.memory.get(address, 0)

    # A device's entry

    def place(self, device):
        """Where the entry of a device is; `None` for one beyond the table."""
        count = bits(self.control, 36, 34)
        segment = device >> 16 - count if count else 0
        offset = (device & 0xFFFF >> count) * 32
        register = self.registers.get(0x0F8 + 8 * segment if segment else 0, 0)
        size = (bits(register, 7 if segment else 8, 0) + 1) * 4096
        return None if offset + 32 > size else (register & PAGE) + offset

    def reserved(self):
        """Bits of the lower half of an entry that must be zero."""
        mask = 0x7C | 1 << 2 | 1 << 3 | 1 << 63 | 1 << 106
        if not bits(self.efr, 4, 4):
            mask |= 0x3F << 55 | 0xFFFF << 80
        if not bits(self.efr, 50, 50) and not bits(self.efr, 1, 1):
            mask |= 3 << 52
        if not bits(self.efr, 48, 48):
            mask |= 1 << 54
        return mask

    def answer(self, request):
        """Everything that may be made of a request, the likeliest first."""
        answers = []
        # Of a request without PASID nobody says which privilege it has in a guest's tables.
        for user in (True, False) if request.get("pasid") is None else (not request["privileged"],):
            try:
                more = [self.translate({**request, "user": user})]
            except Blocked as blocked:
                more = [("fault", one) for one in dict.fromkeys(blocked.events)]
            answers += [one for one in more if one not in answers]
        return answers

    def translate(self, r):
        self.r, self.page, self.walks, self.way = r, None, False, []
        device, iova = r["device"], r["iova"]
        write = RW if r["write"] else 0
        if not self.control & 1:
            return ("ok", iova, None)
        place = self.place(device)
        if place is None:
            raise Blocked([event(PAGE_FAULT, device, 0, write, iova)])
        words = [self.read(place + 8 * index) for index in range(2)]
        if None in words:
            raise Blocked([event(DEV_TAB_ERROR, device, 0, write | TARGET_ABORT, place)])
        dte = words[0] | words[1] << 64
        if not dte & 1:
            return ("ok", iova, None)
        self.dte, self.domain, self.write = dte, bits(dte, 79, 64), write
        if dte & self.reserved() or bits(dte, 100, 99) == 3:
            raise Blocked([event(ILLEGAL_DTE, device, 0, write | RZ, iova & ~3)])
        if not dte & 2:
            self.fault(0, iova)
        guest = bits(dte, 55, 55) and (r.get("pasid") is not None or bits(dte, 54, 54))
        if not guest:
            return self.host(iova, r["write"])
        try:
            return self.guest(iova)
        except Blocked as blocked:
            # The entry's own rights may be judged first, as those of requests without guest tables are.
            if not dte & (IW if write else IR) and "any" not in blocked.events:
                early = event(PAGE_FAULT, device, self.domain, PE | PR | write, iova)
                raise Blocked(blocked.events + self.heard([early]))
            raise

    def fault(self, flags, address, write=None):
        """An IO_PAGE_FAULT of the host's tables."""
        flags |= self.write if write is None else RW if write else 0
        raise Blocked(self.heard([event(PAGE_FAULT, self.r["device"], self.domain, flags, address)]))

    def heard(self, events):
        """What SA and SE leave of page faults."""
        if bits(self.dte, 98, 98):
            return [None]
        if bits(self.dte, 97, 97) and self.r.get("repeated"):
            return events + [None]
        return events

    # The host's tables

    def excluded(self, iova):
        base, limit = self.registers.get(0x20, 0), self.registers.get(0x28, 0)
        if not base & 1 or not (base & 2 or bits(self.dte, 103, 103)):
            return None
        return (base & PAGE, limit & PAGE | 0xFFF)

    def host(self, iova, write):
        dte = self.dte
        exclusion = self.excluded(iova)
        if exclusion and exclusion[0] <= iova <= exclusion[1]:
            return ("ok", iova, [exclusion[1] + 1 - iova])
        need = IW if write else IR
        if not dte & need:
            self.fault(PE | PR, iova, write)
        mode = bits(dte, 11, 9)
        if mode == 0:
            return ("ok", iova, None)
        deepest = (4, 5, 6, 0)[bits(self.efr, 11, 10)]
        if mode > deepest:
            rw = RW if write else 0
            raise Blocked([event(ILLEGAL_DTE, self.r["device"], 0, rw, iova & ~3)])
        if mode < 6 and iova >> 12 + 9 * mode:
            self.fault(0, iova, write)
        self.walks = True
        table, level, rights = bits(dte, 51, 12) << 12, mode, IR | IW
        while True:
            place = table + 8 * (iova >> 3 + 9 * level & 0x1FF)
            entry = self.read(place)
            if entry is None:
                flags = (RW if write else 0) | TARGET_ABORT
                raise Blocked([event(PAGE_TAB_ERROR, self.r["device"], self.domain, flags, place)])
            if not entry & 1:
                self.fault(0, iova, write)
            following = bits(entry, 11, 9)
            is_leaf = following in (0, 7)
            if entry & (0x07F0000000000000 if is_leaf else 0x1FF0000000000000):
                self.fault(PR | RZ, iova, write)
            if not entry & need:
                self.fault(PR | PE, iova, write)
            rights &= entry
            if is_leaf:
                width = self.leaf_width(entry, level)
                if width is None:
                    self.fault(PR, iova, write)
                base = entry & PAGE & ~((1 << width) - 1)
                self.page = (self.domain, iova >> width << width, width, base, rights)
                return self.hit(self.page, iova)
            if following >= level:
                self.fault(PR, iova, write)
            for skipped in range(following + 1, level):
                if iova >> 3 + 9 * skipped & 0x1FF:
                    self.fault(PR, iova, write)
            table, level = entry & PAGE, following

    def hit(self, page, iova):
        """The answer from a page."""
        _, _, width, base, _ = page
        offset = iova & (1 << width) - 1
        run, exclusion = (1 << width) - offset, self.excluded(iova)
        if exclusion and iova < exclusion[0] <= exclusion[1]:
            run = min(run, exclusion[0] - iova)
        return ("ok", base | offset, self.runs(iova, run))

    def remembered(self, pages, iova, write):
        """What a unit may answer that remembers these pages: one page has many entries, of which it has
        read any, and others may have changed."""
        need = IW if write else IR
        for page in pages:
            domain, start, width, _, rights = page
            if domain == self.domain and start == iova >> width << width and rights & need & self.dte:
                yield self.hit(page, iova)

    @staticmethod
    def leaf_width(entry, level):
        """Address bits inside of the page; `None` for a size that the level does not have."""
        if level == 6:
            return None
        default = 3 + 9 * level
        if bits(entry, 11, 9) == 0:
            return default
        low = 12
        while low < 52 and entry >> low & 1:
            low += 1
        width = low + 1
        return width if low < 52 and default < width < default + 9 else None

    @staticmethod
    def runs(iova, run):
        """How far an answer may hold: to the page's end, or to where requests are no memory."""
        return [run] + [start - iova for start, _ in SPECIAL if iova < start < iova + run]

    # A guest's tables

    def guest(self, address):
        r, dte = self.r, self.dte
        pasid = r.get("pasid") or 0
        control = (RW if r["write"] else 0) | (NX if r.get("execute") else 0)
        user = US if r["user"] else 0

        def fault(flags):
            told = event(PAGE_FAULT, r["device"], pasid, GN | control | flags | user, address)
            raise Blocked(self.heard([told]))

        levels = bits(dte, 57, 56) + 1 if bits(self.efr, 15, 14) else 1
        if pasid >> 9 * levels:
            raise Blocked(["any"])
        table = bits(dte, 60, 58) << 12 | bits(dte, 95, 80) << 15 | bits(dte, 127, 107) << 31
        physical = bits(self.efr2, 3, 3) and bits(self.control, 58, 58)
        for level in reversed(range(levels)):
            place = table + 8 * (pasid >> 9 * level & 0x1FF)
            entry = self.guest_read(place, pasid, bool(physical) and level == levels - 1)
            if not entry & 1:
                fault(0)
            table = entry & PAGE
        top = 5 if self.five_levels() else 4
        width = 12 + 9 * top
        if pasid and (address >> width - 1) not in (0, M64 >> width - 1):
            raise Blocked(["any"])
        late, self.way = None, []
        for level in range(top, 0, -1):
            entry = self.guest_read(table + 8 * (address >> 3 + 9 * level & 0x1FF), pasid)
            self.way.append(self.spot)
            if not entry & 1:
                try:
                    fault(0)
                except Blocked as blocked:
                    raise Blocked(blocked.events + (late.events if late else []))
            wrong = r["write"] and not entry & 2 or user and not entry & 4 or \
                r.get("execute") and entry >> 63
            if wrong and not late:
                try:
                    fault(PR | PE)
                except Blocked as blocked:
                    late = blocked
            table = entry & PAGE
            if level == 1 or level < 4 and entry & 0x80:
                break
        if late:
            raise late
        mask = (1 << 3 + 9 * level) - 1
        gpa = table & ~mask | address & mask
        kind, spa, run = self.host(gpa, r["write"])
        end = mask + 1 - (address & mask)
        runs = [min(end, one) for one in run] if run else [end]
        return (kind, spa, runs + [start - address for start, _ in SPECIAL
                                   if address < start < address + runs[0]])

    def five_levels(self):
        return bits(self.upper() or 0, 55, 54) == 1

    def upper(self):
        return self.read(self.place(self.r["device"]) + 16)

    def guest_read(self, gpa, pasid, physical=False):
        spa = gpa
        if bits(self.dte, 11, 9) and not physical:
            try:
                _, spa, _ = self.host(gpa, False)
            except Blocked as blocked:
                # Whether the table or the request was written is left open, and GN of hardware errors.
                raise Blocked([self.touched(one, rw, gn, pasid) for one in blocked.events
                               for rw in (0, RW) for gn in (0, GN)])
        self.spot = spa
        entry = self.read(spa)
        if entry is None:
            writes = (0, RW) if self.r["write"] else (0,)
            raise Blocked([event(PAGE_TAB_ERROR, self.r["device"], pasid, GN | rw | TARGET_ABORT, spa)
                           for rw in reversed(writes)])
        return entry

    def touched(self, one, rw, gn, pasid):
        if one is None:
            return None
        low = int.from_bytes(bytes.fromhex(one[:16]), "little")
        if self.r["write"]:
            low |= rw << 48
        if gn and low >> 60 == PAGE_TAB_ERROR:
            low = low & ~(0xFFFF << 32 | 0xF << 16) | GN << 48 | (pasid & 0xFFFF) << 32 | pasid >> 16 << 16
        return low.to_bytes(8, "little").hex() + one[16:]


# What one request makes, in the words of a case

def parts(walker, op, pages=()):
    """The answers to a transfer, request by request; `pages` may be remembered, and then more are."""
    answers, offset = [], 0
    while offset < op["size"]:
        address = op["iova"] + offset
        length = min(op["size"] - offset, 4096 - address % 4096)
        request = dict(op, iova=address)
        some, known = [], walker.answer(request)
        if walker.walks and isinstance(pages, list) and op.get("pasid") is None:
            known += [one for one in walker.remembered(pages, address, op["write"]) if one not in known]
            if walker.page and walker.page not in pages:
                pages.append(walker.page)
        for kind, value, *rest in known:
            if kind == "ok":
                some.append({"r": "ok", "pa": hex(value), "bytes": rest[0]})
            else:
                some.append({"r": "fault", "event": value})
        answers.append({"off": offset, "len": length, "any": some})
        offset += length
    return answers


# Vectors worked out by hand: tables in memory, a read of 00:04.0 unless told, and its answer

ROOT = 0x163000
W1 = {0x163000: 0x6000000000162401, 0x162488: 0x6000000000161201, 0x161A28: 0x6000000000200001}
W1_DTE = (3 | 3 << 9 | ROOT | IR | IW, 5)


def with_leaf(leaf):
    return {**W1, 0x161A28: leaf}


WALKS = [  # name, mode, root, tables, address, physical address, bytes of the page
    ("W1", 3, ROOT, W1, 0x12345010, 0x200010, 4096),
    ("W2", 3, ROOT, {0x163000: 0x6000000000162401, 0x162488: 0x6000000000200001},
     0x12200010, 0x200010, 2 << 20),
    ("W3", 3, ROOT, with_leaf(0x6000000000200E01), 0x12345010, 0x201010, 8192),
    ("W4", 3, ROOT, with_leaf(0x6000000000207E01), 0x12345010, 0x205010, 65536),
    ("W5", 3, ROOT, {0x163000: 0x6000000000162401, 0x162488: 0x60000000001FFE01},
     0x12200010, 0x200010, 4 << 20),
    ("W6", 3, ROOT, {0x163000: 0x6000000000000001}, 0x200010, 0x200010, 1 << 30),
    ("W7", 3, ROOT, {0x163000: 0x6000000000161201, 0x161A28: 0x6000000000200001},
     0x145010, 0x200010, 4096),
    ("W8", 3, ROOT, with_leaf(0xE0000000002001FF), 0x12345010, 0x200010, 4096),
    ("W9", 3, ROOT, with_leaf(0x7800000000200001), 0x12345010, 0x200010, 4096),
    ("W10", 1, ROOT, {0x163A28: 0x6000000000200001}, 0x145010, 0x200010, 4096),
    ("W11", 6, 0x166000, {
        0x1663F8: 0x6000000000165A01, 0x1656E0: 0x6000000000164801, 0x164BA8: 0x6000000000163601,
        0x163308: 0x6000000000162401, 0x162D90: 0x6000000000161201, 0x161A18: 0x6000000000200001},
     0xFEDCBA9876543010, 0x200010, 4096),
    ("W12", 0, 0, {}, 0x200010, 0x200010, None),
    ("W13", None, 0, {}, 0x200010, 0x200010, None),
]
MALFORMED = [  # name, entry of the device, changes to W1, write, address, the event
    ("J1", (W1_DTE[0] | 4, 5), {}, False, 0x12345010, "20000000000080101050341200000000"),
    ("J2", (W1_DTE[0] | 1 << 63, 5), {}, False, 0x12345010, "20000000000080101050341200000000"),
    ("J3", (W1_DTE[0], 5 | 3 << 35), {}, False, 0x12345010, "20000000000080101050341200000000"),
    ("J4", (1 | IR | IW, 5), {}, False, 0x200010, "20000000050000201000200000000000"),
    ("J5", (W1_DTE[0] | 7 << 9, 5), {}, False, 0x12345010, "20000000000000101050341200000000"),
    ("J6", (W1_DTE[0] & ~(7 << 9) | 6 << 9, 5), {}, False, 0x12345010,
     "20000000000000101050341200000000"),
    ("J7", (W1_DTE[0] & ~IR, 5), {}, False, 0x12345010, "20000000050050201050341200000000"),
    ("J8", (3 | IW, 5), {}, False, 0x200010, "20000000050050201000200000000000"),
    ("J9", W1_DTE, {}, False, 0x8012345010, "20000000050000201050341280000000"),
    ("J10", W1_DTE, {0x161A28: 0}, False, 0x12345010, "20000000050000201050341200000000"),
    ("J11", W1_DTE, {0x161A28: 0x6000000000200000}, False, 0x12345010,
     "20000000050000201050341200000000"),
    ("J12", W1_DTE, {0x161A28: 0x6000000000200000}, True, 0x12345010,
     "20000000050020201050341200000000"),
    ("J13", W1_DTE, {0x162488: 0x6000000000161200}, False, 0x12345010,
     "20000000050000201050341200000000"),
    ("J14", W1_DTE, {0x162488: 0x4000000000161201}, False, 0x12345010,
     "20000000050050201050341200000000"),
    ("J15", W1_DTE, {0x161A28: 0x4000000000200001}, False, 0x12345010,
     "20000000050050201050341200000000"),
    ("J16", W1_DTE, {0x161A28: 0x2000000000200001}, True, 0x12345010,
     "20000000050070201050341200000000"),
    ("J17", W1_DTE, {0x161A28: 0x6010000000200001}, False, 0x12345010,
     "20000000050090201050341200000000"),
    ("J18", W1_DTE, {0x162488: 0x7000000000161201}, False, 0x12345010,
     "20000000050090201050341200000000"),
    ("J19", W1_DTE, {0x162488: 0x6000000000161401}, False, 0x12345010,
     "20000000050010201050341200000000"),
    ("J20", W1_DTE, {0x163000: 0x6000000000161201}, False, 0x12345010,
     "20000000050010201050341200000000"),
    ("J21", W1_DTE, {0x161A28: 0x60000000000FFE01}, False, 0x12345010,
     "20000000050010201050341200000000"),
    ("J22", W1_DTE, {0x162488: 0x6000000000200E01}, False, 0x12345010,
     "20000000050010201050341200000000"),
    ("J23", (3 | 3 << 9 | 0xC0000000 | IR | IW, 5), {}, False, 0x12345010,
     "2000000005000044000000c000000000"),
]
DEVICE, TABLE = 0x20, 0x100000
# PreFSup, PPRSup, GTSup, IASup, GASup, HESup: what a unit of QEMU has, with 4 or 6 levels.
FOUR_LEVELS, SIX_LEVELS = 0x21D3, 0x29D3


def vector(name, dte, tables, device, iova, write, size=0x1F, base=TABLE, efr=SIX_LEVELS, more=None):
    memory = dict(tables)
    for index, word in enumerate(dte):
        memory[TABLE + 32 * device + 8 * index] = word
    registers = {0x0: base | size, 0x18: 1, 0x30: efr, **(more or {})}
    op = {"op": "probe", "device": device, "iova": iova, "size": 8, "write": write}
    return {"id": name, "family": "vector", "registers": registers, "memory": memory, "ops": [op]}


def vectors():
    """Cases with the answer that was worked out by hand, as a list of answers."""
    for name, mode, root, tables, iova, spa, size in WALKS:
        dte = (0, 0) if mode is None else (3 | mode << 9 | root | IR | IW, 5)
        run = None if size is None else [size - iova % size]
        yield vector(name, dte, tables, DEVICE, iova, False), {"r": "ok", "pa": hex(spa), "bytes": run}
    for name, dte, change, write, iova, told in MALFORMED:
        efr = FOUR_LEVELS if name == "J6" else SIX_LEVELS
        yield (vector(name, dte, {**W1, **change}, DEVICE, iova, write, efr=efr),
               {"r": "fault", "event": told})
    # A device table that is not there: here between the two parts of RAM.
    yield (vector("J24", (0, 0), W1, DEVICE, 0x12345010, False, base=0xC0000000),
           {"r": "fault", "event": "2000000000000034000400c000000000"})
    yield (vector("J25", W1_DTE, W1, 0x80, 0x12345010, False, size=0),
           {"r": "fault", "event": "80000000000000201050341200000000"})
    exclusion = {0x20: 0x200001, 0x28: 0x2FFFFF}
    yield (vector("J26", (W1_DTE[0], 5 | 1 << 39), {}, DEVICE, 0x200010, False, more=exclusion),
           {"r": "ok", "pa": "0x200010", "bytes": [0xFFFF0]})
    yield (vector("J27", W1_DTE, {}, DEVICE, 0x200010, False, more=exclusion),
           {"r": "fault", "event": "20000000050000201000200000000000"})


def check():
    count = 0
    for case, expected in vectors():
        walker = Walker(case["registers"], case["memory"])
        got = parts(walker, case["ops"][0])[0]["any"]
        assert got == [expected], f"{case['id']}: {got}, and it is {expected}"
        count += 1
    # Every page size there is: the entry for address 0, and bits of its width.
    for width in range(12, 53):
        level = (width - 3) // 9
        default = width == 3 + 9 * level
        leaf = IR | IW | 1 | (0 if default else 7 << 9 | (1 << width - 1) - 1 & ~0xFFF)
        assert leaf == SIZES[width], f"2^{width}: {leaf:x}"
        assert Walker.leaf_width(leaf, level) == width, width
        others = [Walker.leaf_width(leaf, other) for other in range(1, 7) if other != level]
        assert all(one is None for one in others) or default, width
        count += 1
    # Segments of the device table.
    for code, place in [(1, 0x4B860), (2, 0x4B860), (3, 0xB860)]:
        bases = {0xF8 + 8 * n if n else 0: n << 24 | (0x1FF, 0xFF, 0x7F, 0x3F)[code] for n in range(8)}
        walker = Walker({**bases, 0x18: code << 34}, {})
        segment = 0xA5C3 >> 16 - code
        assert walker.place(0xA5C3) == (segment << 24) + place, code
        count += 1
    assert Walker({0: 0x1000001FF}, {}).place(0xFFFF) == 0x1001FFFE0
    assert Walker({0: 0x37F00007}, {}).place(0x320) == 0x37F06400
    assert Walker({0: 0x37F00000}, {}).place(0x7F) == 0x37F00FE0
    assert Walker({0: 0x37F00000}, {}).place(0x80) is None
    print(f"{count + 4} vectors: the walker agrees")


# Size of a page as bits: its entry for physical address 0, all that there are.
SIZES = dict(zip(range(12, 53), [
    0x6000000000000001, 0x6000000000000E01, 0x6000000000001E01, 0x6000000000003E01,
    0x6000000000007E01, 0x600000000000FE01, 0x600000000001FE01, 0x600000000003FE01,
    0x600000000007FE01, 0x6000000000000001, 0x60000000001FFE01, 0x60000000003FFE01,
    0x60000000007FFE01, 0x6000000000FFFE01, 0x6000000001FFFE01, 0x6000000003FFFE01,
    0x6000000007FFFE01, 0x600000000FFFFE01, 0x6000000000000001, 0x600000003FFFFE01,
    0x600000007FFFFE01, 0x60000000FFFFFE01, 0x60000001FFFFFE01, 0x60000003FFFFFE01,
    0x60000007FFFFFE01, 0x6000000FFFFFFE01, 0x6000001FFFFFFE01, 0x6000000000000001,
    0x6000007FFFFFFE01, 0x600000FFFFFFFE01, 0x600001FFFFFFFE01, 0x600003FFFFFFFE01,
    0x600007FFFFFFFE01, 0x60000FFFFFFFFE01, 0x60001FFFFFFFFE01, 0x60003FFFFFFFFE01,
    0x6000000000000001, 0x6000FFFFFFFFFE01, 0x6001FFFFFFFFFE01, 0x6003FFFFFFFFFE01,
    0x6007FFFFFFFFFE01]))


# Cases by chance

class Case:
    """A unit, its memory and what happens then."""

    def __init__(self, family, number, seed):
        self.rng = random.Random(f"{seed}-{number}")
        self.id, self.family = f"{family}-{number}", family
        self.memory, self.ops, self.expect, self.pages = {}, [], [], set()
        self.told, self.stale, self.remembered = set(), None, []
        self.marks, self.doubtful = {}, set()
        rng = self.rng
        nested = family in ("guest", "nested")
        self.guests = nested or rng.random() < 0.5
        features = 1 << 6 | (2 if nested else rng.choice([0, 1, 2, 2])) << 10 | rng.getrandbits(1) << 7
        if self.guests:
            features |= 1 << 1 | 1 << 3 | 1 << 4 | 1 << 50 | rng.choice([0, 1]) << 48
            features |= rng.choice([0, 1]) << 12 | rng.choice([0, 1, 2]) << 14 | 15 << 32
        if nested:
            features |= 1 << 48
        self.registers = {0x18: 1 | (1 << 16 if self.guests else 0), 0x30: features, 0x1A0: 0}
        self.table(family)

    def table(self, family):
        """The registers of the device table."""
        rng = self.rng
        size = rng.choice([0, 1, 3, 15, 63, 511])
        sup = 0
        if family == "table":
            sup = rng.randrange(4)
            self.registers[0x30] |= sup << 38
            self.registers[0x18] |= rng.randint(0, sup) << 34
        enabled = bits(self.registers[0x18], 36, 34)
        largest = (0x1FF, 0xFF, 0x7F, 0x3F)[enabled]
        for segment in range(1 << enabled):
            base = rng.choice([0x1000000, 0x102000000]) + segment * 0x400000
            if family == "table" and rng.random() < 0.05:
                base = 0xC0000000 + segment * 0x400000
            self.registers[0xF8 + 8 * segment if segment else 0] = base | min(size, largest)

    @property
    def efr(self):
        return self.registers[0x30]

    def page(self):
        """A page of RAM that nothing lies in yet."""
        while True:
            page = self.rng.choice([self.rng.randrange(0x8000, 0x80000),
                                    self.rng.randrange(0x110000, 0x200000)])
            if page not in self.pages:
                self.pages.add(page)
                return page << 12

    def device(self):
        """A device, mostly one that the table has."""
        rng = self.rng
        walker = Walker(self.registers, {})
        for _ in range(100):
            device = rng.getrandbits(16) >> rng.randrange(12)
            if walker.place(device) is not None and device not in self.devices:
                return device
        return None

    def store(self, place, *words):
        for index, word in enumerate(words):
            self.memory[place + 8 * index] = word

    def entry(self, device, low, high, upper=0):
        place = Walker(self.registers, {}).place(device)
        # Of memory requests the upper half decides nothing but the levels of a guest's tables.
        noise = self.rng.choice([0, self.rng.getrandbits(128)]) & ~(3 << 54)
        self.store(place, low, high, noise & M64 | upper, noise >> 64)

    # The host's tables

    def address(self, width, free=None):
        """An address of `width` bits where requests are memory; `free` are the bits by chance."""
        rng = self.rng
        while True:
            address = rng.getrandbits(width) if rng.random() < 0.7 else rng.getrandbits(min(width, 32))
            if free is not None:
                address &= free
            if not any(start - 0x100000 <= address < end for start, end in SPECIAL):
                return address

    def map(self, root, mode, base, width, entry_bits, skips=False):
        """Tables down to a page of 2^width bytes at `base`; the places of its entries."""
        rng = self.rng
        target = (width - 3) // 9
        table, level, way = root, mode, []
        while level > target:
            place = table + 8 * (base >> 3 + 9 * level & 0x1FF)
            entry = self.memory.get(place, 0)
            if entry & 1 and (bits(entry, 11, 9) in (0, 7) or bits(entry, 11, 9) < target):
                return []
            if not entry & 1:
                below = level - 1
                while skips and below > target and not base >> 3 + 9 * below & 0x1FF and \
                        rng.random() < 0.7:
                    below -= 1
                ignored = rng.choice([0, rng.getrandbits(64)]) & (1 << 63 | 0x1FE)
                entry = self.page() | below << 9 | 1 | IR | IW | ignored
                self.memory[place] = entry
            way.append(place)
            table, level = entry & PAGE, bits(entry, 11, 9)
        default = 3 + 9 * target
        code = 0 if width == default else 7 << 9 | (1 << width - 1) - 1 & ~0xFFF
        spa = rng.getrandbits(52) & ~((1 << width) - 1)
        start = base >> default & 0x1FF
        for slot in range(1 << width - default):
            self.memory[table + 8 * (start + slot)] = spa | code | 1 | entry_bits
        return way + [table + 8 * start]

    def leaf_bits(self):
        rng = self.rng
        rights = rng.choice([IR | IW] * 6 + [IR, IW, 0])
        return rights | rng.choice([0, rng.getrandbits(64)]) & (1 << 63 | U | FC | 0x1FE)

    def host_tables(self, root, mode, count, skips=False):
        """Pages below a root; where they are, and the places of their entries."""
        rng, pages = self.rng, []
        for _ in range(count):
            level = rng.choice([1, 1, 1, 2, 2, 3, 4, 5])
            if level > mode:
                level = rng.randint(1, min(mode, 5))
            width = rng.randint(3 + 9 * level, min(11 + 9 * level, 52))
            if rng.random() < 0.4:
                width = 3 + 9 * level
            span = min(3 + 9 * (mode + 1), 64)
            free = None
            if skips and rng.random() < 0.7:
                # Levels whose index is zero can be left out.
                kept = rng.sample(range(1, mode + 1), rng.randint(1, mode))
                free = sum(0x1FF << 3 + 9 * one for one in kept)
            base = self.address(span, free) & ~((1 << width) - 1)
            way = self.map(root, mode, base, width, self.leaf_bits(), skips)
            if way:
                pages.append((base, width, way))
        return pages

    def spoil(self, way):
        """One entry on the way to a page is changed."""
        rng = self.rng
        place = rng.choice(way)
        word = self.memory[place]
        kind = rng.randrange(9)
        if kind == 0:
            word &= ~1
        elif kind == 1:
            word &= ~rng.choice([IR, IW, IR | IW])
        elif kind == 2:
            word |= 1 << rng.randrange(52, 59)
        elif kind == 3:
            word = word & ~(7 << 9) | rng.randrange(8) << 9
        elif kind == 4:
            word = word & ~PAGE | rng.choice([0xC0000000, 0x80000000000, PAGE & ~0xFFF << 40])
        elif kind == 5:
            # Some size, mostly one of another level.
            word = word & ~(PAGE | 7 << 9) | 7 << 9 | (1 << rng.randrange(12, 51)) - 1 & ~0xFFF
        elif kind == 6:
            word ^= 1 << rng.randrange(64)
        elif kind == 7:
            word = 0
        else:
            word = rng.getrandbits(64) | 1
        # All pages of one: no size says that.
        if word & PAGE == PAGE:
            word &= ~(1 << 51)
        # A leaf's bits in an entry of level 1 that is no leaf: the manual does not say which it is.
        if bits(word, 11, 9) in range(1, 7) and word & 1 and word >> 52 & 0x1FF and place == way[-1]:
            word &= ~(0x1FF << 52)
        self.memory[place] = word

    # What happens

    def probe(self, device, iova, write, size=8, **prefix):
        iova &= M64
        size = min(size, (1 << 64) - iova)
        if any(start < iova + size and iova < end for start, end in SPECIAL):
            return
        op = {"op": "probe", "device": device, "iova": iova, "size": size, "write": write, **prefix}
        asked = {**op, "repeated": device in self.told}
        walker = Walker(self.registers, self.memory)
        answers = parts(walker, asked, self.remembered)
        if self.stale is not None:
            for one, other in zip(
                    answers, parts(Walker(self.registers, self.stale), asked, self.remembered)):
                one["any"] += [some for some in other["any"] if some not in one["any"]]
        self.ops.append(op)
        self.expect.append({"parts": answers})
        if any(some["r"] == "fault" for one in answers for some in one["any"]):
            self.told.add(device)
        if walker.way:
            self.marked(walker.way, write, len(answers) == 1 and
                        all(some["r"] == "ok" for some in answers[0]["any"]))

    def marked(self, way, write, is_sure):
        """A guest's entries on the way of a request that passed have A, and the last has D after a write."""
        leaf = way[-1]
        if write and not is_sure:
            self.doubtful.add(leaf)
        if not is_sure:
            return
        for place in way:
            self.marks[place] = self.marks.get(place, 0) | 0x20
        if write:
            self.marks[leaf] |= 0x40
        self.ops.append({"op": "peek", "pa": hex(leaf), "len": 8})
        self.expect.append({"value": hex(self.memory[leaf] | self.marks[leaf]),
                            "may": 0x40 if leaf in self.doubtful else 0})

    def around(self, device, base, width, **prefix):
        """A probe of a page, seldom beside it."""
        rng = self.rng
        chance = rng.random()
        if chance < 0.8:
            iova = base + rng.getrandbits(width)
        elif chance < 0.9:
            iova = base + (1 << width) - 8 + rng.choice([0, 8])
        else:
            iova = base ^ 1 << rng.randrange(width, 64)
        self.probe(device, iova & ~7, rng.random() < 0.5, **prefix)

    def record(self):
        runs, start = [], None
        for place in sorted(self.memory if not self.ops else self.first):
            word = (self.memory if not self.ops else self.first)[place]
            if word == 0:
                continue
            text = word.to_bytes(8, "little").hex()
            if start is not None and place == start + len(runs[-1][1]) // 2:
                runs[-1][1] += text
            else:
                runs.append([hex(place), text])
                start = place
        return finished({"id": self.id, "family": self.family, "memory": runs,
                         "registers": self.registers, "ops": self.ops, "expect": self.expect})

    def build(self):
        self.devices = {}
        self.first = self.memory
        getattr(self, "build_" + self.family)()
        return self.record()

    def host_device(self, mode=None, share=None, low=0, high=0, count=5, skips=False):
        """A device with tables; its pages."""
        rng = self.rng
        device = self.device()
        if device is None:
            return None, []
        if mode is None:
            mode = rng.randint(1, (4, 5, 6)[bits(self.efr, 11, 10)])
        if share:
            mode, root, domain, pages = share
        else:
            root, domain = self.page(), len(self.devices) * 0x101 + rng.randrange(0x100)
            pages = self.host_tables(root, mode, count, skips) if mode else []
        self.devices[device] = (mode, root, domain, pages)
        self.entry(device, 3 | mode << 9 | root | IR | IW | low, domain | high)
        return device, pages

    def build_host(self):
        """Pages of every size below one to six levels."""
        skips = self.rng.random() < 0.4
        for _ in range(2):
            device, pages = self.host_device(skips=skips)
            for base, width, way in pages:
                if self.rng.random() < 0.4:
                    self.spoil(way)
        for _ in range(12):
            device = self.rng.choice(list(self.devices))
            pages = self.devices[device][3]
            if pages:
                base, width, _ = self.rng.choice(pages)
                self.around(device, base, width)

    def build_rights(self):
        """Devices that share tables, with rights of their own."""
        rng = self.rng
        first, pages = self.host_device()
        for _ in range(3):
            device, _ = self.host_device(share=self.devices.get(first))
            if device is not None:
                mode, root, domain, _ = self.devices[device]
                self.entry(device, 3 | mode << 9 | root | rng.choice([0, IR, IW, IR | IW]), domain)
        for _, _, way in pages:
            if rng.random() < 0.5:
                self.memory[rng.choice(way)] &= ~rng.choice([IR, IW])
        for _ in range(12):
            if pages:
                base, width, _ = rng.choice(pages)
                self.around(rng.choice(list(self.devices)), base, width)

    def build_entry(self):
        """Entries of the device table with every combination of what counts in them."""
        rng = self.rng
        for _ in range(5):
            mode = rng.choice([0, 1, 2, 3, 4, 5, 6, 7])
            device, pages = self.host_device(mode=min(mode, 6))
            if device is None:
                continue
            _, root, domain, _ = self.devices[device]
            low, high = 3 | mode << 9 | root | IR | IW, domain
            for kind in rng.sample(range(12), rng.choice([0, 1, 1, 2])):
                if kind == 0:
                    low &= ~1
                elif kind == 1:
                    low &= ~2
                elif kind == 2:
                    low |= 1 << rng.choice([2, 3, 4, 5, 6, 63])
                elif kind == 3:
                    high |= 3 << 35
                elif kind == 4:
                    low &= ~rng.choice([IR, IW, IR | IW])
                elif kind == 5:
                    high |= 1 << 34
                elif kind == 6:
                    high |= 1 << 33
                elif kind == 7:
                    high |= 1 << 42
                elif kind == 8 and not self.guests:
                    low |= 1 << rng.choice([52, 53, 55, 56, 57, 58, 59, 60])
                elif kind == 9 and not self.guests:
                    high |= 1 << rng.randrange(16, 32)
                elif kind == 10 and not bits(self.efr, 48, 48):
                    low |= 1 << 54
                else:
                    # What means nothing to a request of memory: IoCtl, Cache, SD, SysMgt.
                    high |= rng.choice([0, 1, 2]) << 35 | rng.getrandbits(2) << 37 | \
                        rng.getrandbits(2) << 40
            if rng.random() < 0.2:
                low = low & ~PAGE | rng.choice([0xC0000000, 0x123456789A000])
            self.entry(device, low, high)
        for _ in range(12):
            device = rng.choice(list(self.devices))
            pages = self.devices[device][3]
            if pages and rng.random() < 0.8:
                base, width, _ = rng.choice(pages)
                self.around(device, base, width)
            else:
                self.probe(device, self.address(64) & ~7, rng.random() < 0.5)

    def build_table(self):
        """Device tables of every length, in segments; devices beyond them."""
        rng = self.rng
        for _ in range(4):
            self.host_device(count=2)
        if rng.random() < 0.05:
            self.registers[0x18] &= ~1
        walker = Walker(self.registers, self.memory)
        for _ in range(12):
            device = rng.choice(list(self.devices) or [0])
            pages = self.devices[device][3] if device in self.devices else []
            if rng.random() < 0.4:
                device = rng.choice([device + 1, device ^ 1 << rng.randrange(16), 0xFFFF,
                                     bits(self.registers[0], 8, 0) * 128 + rng.randrange(120, 136)])
                device &= 0xFFFF
            if pages:
                base, width, _ = rng.choice(pages)
                self.around(device, base, width)
            else:
                self.probe(device, self.address(48) & ~7, rng.random() < 0.5)

    def build_exclusion(self):
        """An exclusion range above, below, around and inside of pages."""
        rng = self.rng
        for _ in range(2):
            self.host_device(high=rng.choice([0, 1 << 39]), count=4)
        pages = [page for one in self.devices.values() for page in one[3]]
        if not pages:
            pages = [(0x40000000, 21, [])]
        base, width, _ = rng.choice(pages)
        start = base + (rng.getrandbits(width) if rng.random() < 0.6 else 0) & PAGE
        end = start + rng.choice([0, 0x1000, 0xFF000, (1 << width) - 0x1000]) & PAGE
        if rng.random() < 0.1:
            start, end = end, start
        self.registers[0x20] = start | rng.choice([0, 1, 1, 1, 1, 3])
        self.registers[0x28] = end | 0xFFF
        if rng.random() < 0.3:
            device = rng.choice(list(self.devices))
            place = Walker(self.registers, {}).place(device)
            self.memory[place] = self.memory[place] & ~rng.choice([IR, IW, IR | IW, 2, 7 << 9])
        for _ in range(12):
            device = rng.choice(list(self.devices))
            chance = rng.random()
            if chance < 0.4:
                base, width, _ = rng.choice(pages)
                self.around(device, base, width)
            elif chance < 0.9:
                iova = rng.choice([start, end]) + rng.choice([-8, 0, 8, 0xFF8, 0x1000, 0x800])
                self.probe(device, iova & M64, rng.random() < 0.5)
            else:
                self.probe(device, rng.randint(min(start, end), max(start, end)) & ~7, False)

    def build_split(self):
        """Transfers over boundaries."""
        rng = self.rng
        for _ in range(2):
            device, pages = self.host_device(count=3)
            for base, width, way in list(pages):
                if width == 12 and device is not None:
                    mode, root, _, _ = self.devices[device]
                    beside = base + 4096
                    if beside >> 12 + 9 * mode == 0 or mode == 6 and beside >> 64 == 0:
                        more = self.map(root, mode, beside, 12, self.leaf_bits())
                        if more:
                            pages.append((beside, 12, more))
        for _ in range(10):
            device = rng.choice(list(self.devices))
            pages = self.devices[device][3]
            if pages:
                base, width, _ = rng.choice(pages)
                edge = base + rng.choice([0, 1 << width, rng.getrandbits(width) & ~0xFFF])
                self.probe(device, (edge - rng.randrange(1, 0x1000)) & M64, rng.random() < 0.5,
                           size=rng.choice([16, 512, 4096, 6000, 9000]))

    def build_flips(self):
        """One bit of one entry changed, anywhere."""
        rng = self.rng
        device, pages = self.host_device(count=4)
        if not pages:
            return
        # Bits of which the manual does not say what they do where the unit has not the feature.
        free = [bit for bit in range(128) if bit not in (4, 5, 6, 7, 8, 96) and bit < 107
                and not 64 <= bit < 80 and (not self.guests or bit not in (52, 53, 54, 55))]
        place = Walker(self.registers, {}).place(device)
        if rng.random() < 0.4:
            bit = rng.choice(free)
            self.memory[place + 8 * (bit >> 6)] ^= 1 << (bit & 63)
        else:
            base, width, way = rng.choice(pages)
            chosen = rng.choice(way)
            bit = rng.randrange(64)
            word = self.memory[chosen] ^ 1 << bit
            decided = not (bits(word, 11, 9) in range(1, 7) and chosen == way[-1] and
                           word >> 52 & 0x1FF)
            if word & PAGE != PAGE and decided:
                self.memory[chosen] = word
        for base, width, _ in pages:
            for write in (False, True):
                self.probe(device, (base + rng.getrandbits(width)) & ~7, write)

    # A guest's tables

    def guest_map(self, root, top, base, level, rights, spa, page):
        """Tables of a guest down to one page; its entry's place."""
        table = root
        for one in range(top, level, -1):
            place = table + 8 * (base >> 3 + 9 * one & 0x1FF)
            entry = self.memory.get(self.physical(place), 0)
            if not entry & 1:
                entry = page() | 0x27
                self.memory[self.physical(place)] = entry
            elif one < 4 and entry & 0x80:
                return None
            table = entry & PAGE
        place = self.physical(table + 8 * (base >> 3 + 9 * level & 0x1FF))
        self.memory[place] = spa | rights | (0x80 if level > 1 else 0)
        return place

    def physical(self, gpa):
        return self.hosts.get(gpa & ~0xFFF, gpa & ~0xFFF) | gpa & 0xFFF

    def build_guest(self, nested=False):
        """PASIDs, GCR3 tables of one to three levels, a guest's tables of 4 and 5."""
        rng = self.rng
        self.hosts = {}
        device = self.device()
        if device is None:
            return
        domain = rng.getrandbits(16)
        mode, host_root = 0, 0
        if nested:
            mode = rng.randint(2, 6)
            host_root = self.page()

        def host_page():
            """A page of a table: its guest's address, mapped by the host where there is one."""
            spa = self.page()
            if not nested:
                return spa
            span = 12 + 9 * min(mode, 4)
            while True:
                gpa = self.address(min(span, 52)) & ~0xFFF
                if gpa not in self.hosts and gpa:
                    break
            way = self.map(host_root, mode, gpa, 12, IR | IW)
            if not way:
                return host_page()
            place = way[-1]
            self.memory[place] = self.memory[place] & ~PAGE | spa
            self.hosts[gpa] = spa
            return gpa

        top = 5 if bits(self.efr, 13, 12) and rng.random() < 0.5 else 4
        glx = rng.randint(0, bits(self.efr, 15, 14))
        if nested and glx == 0 and rng.random() < 0.3:
            self.registers[0x1A0] |= 1 << 3
            self.registers[0x18] |= 1 << 58
        gcr3 = host_page()
        pointer = gcr3
        if bits(self.registers[0x18], 58, 58):
            pointer = self.physical(gcr3)
        giov = rng.getrandbits(1)
        pasids, pages = [], []
        choices = [0] if giov else []
        while len(choices) < 3:
            choices.append(rng.getrandbits(min(9 * (glx + 1), 20)) >> rng.randrange(8))
        for pasid in dict.fromkeys(choices):
            table = gcr3
            for level in range(glx, 0, -1):
                place = self.physical(table + 8 * (pasid >> 9 * level & 0x1FF))
                if not self.memory.get(place, 0) & 1:
                    self.memory[place] = host_page() | 1
                table = self.memory[place] & PAGE
            root = host_page()
            self.memory[self.physical(table + 8 * (pasid & 0x1FF))] = root | 1
            pasids.append(pasid)
            for _ in range(3):
                level = rng.choice([1, 1, 1, 2, 3])
                width = 3 + 9 * level
                base = self.address(11 + 9 * top) & ~((1 << width) - 1)
                if rng.random() < 0.3 and pasid:
                    base = (base | M64 << 11 + 9 * top) & M64 & ~((1 << width) - 1)
                rights = rng.choice([7, 7, 7, 5, 5, 3, 1, 0]) | rng.choice([0, 1 << 63])
                rights |= rng.getrandbits(64) & 0xE60
                spa = self.address(52) & ~((1 << width) - 1) if not nested else \
                    self.address(min(12 + 9 * mode, 52)) & ~((1 << width) - 1)
                if nested and rng.random() < 0.8:
                    host_level = rng.choice([1, 1, 2, 3])
                    if host_level <= mode:
                        size = 3 + 9 * host_level
                        place = self.map(host_root, mode, spa & ~((1 << size) - 1), size,
                                         self.leaf_bits())
                if spa in self.hosts:
                    continue
                if self.guest_map(root, top, base, level, rights, spa, host_page) is not None:
                    pages.append((pasid, base, width))
        if rng.random() < 0.3:
            # Something is not there.
            place = rng.choice(sorted(self.memory))
            self.memory[place] &= ~1
        low = 3 | IR | IW | 1 << 55 | giov << 54 | glx << 56 | mode << 9 | host_root
        low |= bits(pointer, 14, 12) << 58
        high = domain | bits(pointer, 30, 15) << 16 | bits(pointer, 51, 31) << 43
        if rng.random() < 0.1:
            low &= ~IW
        self.devices[device] = ()
        self.entry(device, low, high, (top - 4) << 54)
        for _ in range(12):
            if not pages:
                break
            pasid, base, width = rng.choice(pages)
            prefix = {}
            if pasid or not giov or rng.random() < 0.3:
                prefix = {"pasid": pasid, "privileged": rng.random() < 0.3}
            if rng.random() < 0.1:
                prefix = {"pasid": rng.getrandbits(20), "privileged": False}
            if not prefix and not giov:
                continue
            write = rng.random() < 0.4
            if prefix and not write and rng.random() < 0.2:
                prefix["execute"] = True
            iova = base + rng.getrandbits(width) & ~7
            if rng.random() < 0.1 and prefix.get("pasid"):
                iova ^= 1 << rng.randrange(width, 64)
            self.probe(device, iova, write, **prefix)

    def build_nested(self):
        """The same below a host's tables."""
        self.build_guest(nested=True)

    # Memory that changes

    def command(self, low, high=0):
        self.ops.append({"op": "command",
                         "hex": (low.to_bytes(8, "little") + high.to_bytes(8, "little")).hex()})
        self.expect.append(None)
        self.remembered = [page for page in self.remembered if not self.drops(low, high, page)]

    @staticmethod
    def drops(low, high, page):
        """Whether a command is about a page."""
        code = low >> 60
        if code != 3 or page[0] != bits(low, 47, 32):
            return code == 8
        return high & 1 or page[1] == high >> page[2] << page[2]

    def change(self, place, *words):
        for index, word in enumerate(words):
            self.memory[place + 8 * index] = word
        self.ops.append({"op": "mem", "pa": hex(place),
                         "hex": b"".join(word.to_bytes(8, "little") for word in words).hex()})
        self.expect.append(None)

    def build_storm(self):
        """Entries change under a device's hands: before the commands old and new are right, then new."""
        rng = self.rng
        for _ in range(2):
            self.host_device(count=5)
        self.first = dict(self.memory)
        self.memory = dict(self.memory)
        everything = 0x7FFFFFFFFFFFF000 | 3

        def probes(device, pages, count):
            for _ in range(count):
                base, width, _ = rng.choice(pages)
                self.around(device, base, width)

        for _ in range(8):
            device = rng.choice(list(self.devices))
            mode, root, domain, pages = self.devices[device]
            if not pages:
                continue
            base, width, way = rng.choice(pages)
            probes(device, pages, 2)
            self.around(device, base, width)
            before = dict(self.memory)
            place = Walker(self.registers, {}).place(device)
            low, high = self.memory[place], self.memory[place + 8]
            if rng.random() < 0.4:
                kind = rng.randrange(5)
                if kind == 0:
                    low ^= rng.choice([IR, IW])
                elif kind == 1:
                    low ^= rng.choice([1, 2])
                elif kind == 2:
                    high ^= 1 << 34
                elif kind == 3:
                    high = high & ~0xFFFF | (domain + 0x4321) & 0xFFFF
                else:
                    low ^= 1 << 63
                self.change(place, low, high)
                self.stale = before
                probes(device, pages, 1)
                self.command(2 << 60 | device)
                self.command(3 << 60 | domain << 32, everything)
                self.devices[device] = (mode, root, high & 0xFFFF, pages)
            else:
                spot = rng.choice(way)
                if spot == way[-1] and width > 3 + 9 * ((width - 3) // 9) and len(way) > 1:
                    spot = way[-2]
                old = self.memory[spot]
                word = rng.choice([old ^ 1, old ^ IR, old ^ IW, old ^ 1 << 54, old & ~7 << 9, 0])
                is_new = not old & 1
                if is_new:
                    word = old | 1
                self.change(spot, word)
                # What was not present may not be remembered.
                self.stale = None if is_new else before
                self.around(device, base, width)
                owner = self.memory[place + 8] & 0xFFFF
                chance = rng.random()
                if chance < 0.4 and spot == way[-1] and width == 12:
                    self.command(3 << 60 | owner << 32, base & ~0xFFF)
                elif chance < 0.9:
                    self.command(3 << 60 | owner << 32, everything)
                else:
                    self.command(8 << 60)
            self.stale = None
            self.told.clear()
            self.around(device, base, width)
            probes(device, pages, 1)


def finished(case):
    """The case with its numbers as texts."""
    def numbers(op):
        return {key: hex(value) if key in ("device", "iova") else value for key, value in op.items()}
    case["capability"] = hex(0x190B000F)
    case["registers"] = {hex(key): hex(value) for key, value in sorted(case["registers"].items())}
    case["ops"] = [numbers(op) for op in case["ops"]]
    return case


FAMILIES = {"host": 26, "rights": 8, "entry": 12, "table": 8, "exclusion": 10, "split": 6, "flips": 8,
            "guest": 8, "nested": 6, "storm": 8}


def cases(count, seed):
    written = 0
    for case, expected in vectors():
        if written == count:
            return
        runs = [[hex(place), word.to_bytes(8, "little").hex()]
                for place, word in sorted(case["memory"].items())]
        answers = {"parts": [{"off": 0, "len": 8, "any": [expected]}]}
        yield finished({**case, "memory": runs, "expect": [answers]})
        written += 1
    names = [name for name, weight in FAMILIES.items() for _ in range(weight)]
    number = 0
    while written < count:
        case = Case(names[number % len(names)], number, seed).build()
        number += 1
        if any(case["expect"]):
            yield case
            written += 1


# The answers of others

def complaint(expected, got):
    """What is wrong with an answer to one request; `None` for a right one."""
    for one in expected["any"]:
        if one["r"] != got.get("r"):
            continue
        if one["r"] == "ok":
            run = one["bytes"]
            if one["pa"] == got.get("pa") and (run is None or got.get("bytes") in run):
                return None
        elif one["event"] == got.get("event") or one["event"] == "any" and got.get("event"):
            return None
    return f"{got}, and right is {' or '.join(map(str, expected['any']))}"


def judge(case, answers):
    """Every wrong answer of a case, as a text, and how many there are in all."""
    count, wrong = 0, []
    if len(answers) != len(case["expect"]):
        return 1, [f"{len(answers)} answers to {len(case['expect'])} operations"]
    for index, (expected, got) in enumerate(zip(case["expect"], answers)):
        if expected is None:
            continue
        if "value" in expected:
            count += 1
            held = int.from_bytes(bytes.fromhex((got or {}).get("hex", "")), "little")
            if (held ^ int(expected["value"], 16)) & ~expected["may"]:
                wrong.append(f"ops[{index}]: memory holds {held:#x}, and right is {expected['value']}")
            continue
        wanted = expected["parts"]
        given = (got or {}).get("parts") or [{**(got or {}), "off": 0, "len": wanted[0]["len"]}]
        count += len(wanted)
        if [(one["off"], one["len"]) for one in wanted] != [(one["off"], one["len"]) for one in given]:
            wrong.append(f"ops[{index}]: split in another way")
            continue
        for one, other in zip(wanted, given):
            text = complaint(one, other)
            if text:
                wrong.append(f"ops[{index}] {case['ops'][index]}: {text}")
    return count, wrong


def compare(cases_path, answers_path, show=20):
    total, families, bad = 0, {}, 0
    with open(cases_path) as asked, open(answers_path) as answered:
        for line, reply in itertools.zip_longest(asked, answered):
            if line is None or reply is None:
                sys.exit("not as many answers as cases")
            case, answer = json.loads(line), json.loads(reply)
            if case["id"] != answer["id"]:
                sys.exit(f"an answer to {answer['id']} where {case['id']} was asked")
            count, wrong = judge(case, answer["answers"])
            total += count
            good, all_ = families.get(case["family"], (0, 0))
            families[case["family"]] = (good + (not wrong), all_ + 1)
            bad += len(wrong)
            for text in wrong[:3] if show > 0 else []:
                print(f"{case['id']} {text}")
                show -= 1
    for family, (good, all_) in families.items():
        if good != all_:
            print(f"{family}: {good} of {all_} cases right")
    print(f"{sum(all_ for _, all_ in families.values())} cases, {total} requests: {bad} wrong")
    return bad


def main():
    words = sys.argv[1:]
    if words == ["check"]:
        check()
    elif len(words) == 3 and words[0] == "cases":
        for case in cases(int(words[1]), int(words[2])):
            print(json.dumps(case, separators=(",", ":")))
    elif len(words) == 3 and words[0] == "judge":
        sys.exit(1 if compare(words[1], words[2]) else 0)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
