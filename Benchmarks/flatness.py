#!/usr/bin/env python3
"""CPU time and peak memory of each command against what a dump claims.

Usage: flatness.py TOOL [RUNS]

Every dump stores the same 98 pages: those of Examples/vtd-crash and one more. What they claim besides
is 2^30 to 2^60 bytes of zeros: as zero fill of an ELF core, as a gap in a flattened stream, as a hole
of a sparse raw file (as far as the file system goes). Prints a table in Markdown: of several runs the
least CPU time, and the most memory; the last column is the largest time by the smallest, of the claims
that are served among each other, and of those that are refused: to refuse is another thing to do.

A last table has the most memory of commands that go through a sparse image of 256 GiB with 512 MiB stored.
The exit status is 1 when that is 64 MiB or more: what was looked at is given back.
"""
import os
import struct
import sys
import tempfile

EXAMPLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "Examples", "vtd-crash")
MACHINE = os.path.join(EXAMPLE, "machine.json")
PAGE = b"\xff" * 4096
CLAIMS = [30, 40, 50, 60]
RESIDENT_LIMIT = 64 << 10  # KiB


def example_pages():
    """Address and bytes of each PT_LOAD of the example."""
    data = open(os.path.join(EXAMPLE, "image.elf"), "rb").read()
    table, = struct.unpack_from("<Q", data, 32)
    count, = struct.unpack_from("<H", data, 56)
    for index in range(count):
        kind, _, offset, _, address, size = struct.unpack_from("<IIQQQQ", data, table + 56 * index)
        if kind == 1:
            yield address, data[offset:offset + size]


def zero_fill(path, claim):
    loads = [(address, part, len(part)) for address, part in example_pages()]
    loads.append((1 << 40, PAGE, 1 << claim))
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack(
        "<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, len(loads), 0, 0, 0)
    table, offset = b"", (64 + 56 * len(loads) + 4095) // 4096 * 4096
    for address, part, size in loads:
        table += struct.pack("<IIQQQQQQ", 1, 7, offset, 0, address, len(part), size, 4096)
        offset += len(part)
    with open(path, "wb") as file:
        file.write((header + table).ljust((64 + len(table) + 4095) // 4096 * 4096, b"\0"))
        for _, part, _ in loads:
            file.write(part)


def gap(path, claim):
    with open(path, "wb") as file:
        file.write((b"makedumpfile".ljust(16, b"\0") + struct.pack(">QQ", 1, 1)).ljust(4096, b"\0"))
        for address, part in list(example_pages()) + [(1 << claim, PAGE)]:
            file.write(struct.pack(">QQ", address, len(part)) + part)
        file.write(b"\xff" * 16)


def hole(path, claim):
    with open(path, "wb") as file:
        for address, part in list(example_pages()) + [(1 << claim, PAGE)]:
            file.seek(address)
            file.write(part)


def islands(path):
    """2 MiB in each GiB of 256: random pages, and pages with one entry that may be of a table."""
    entry = bytes(256) + struct.pack(">Q", 0x1c345003) + bytes(4096 - 264)
    part = b"".join(os.urandom(4096) if page % 8 else entry for page in range(512))
    with open(path, "wb") as file:
        for island in range(256):
            file.seek((island << 30) + (1 << 29))
            file.write(part)
        for address, page in example_pages():
            file.seek(address)
            file.write(page)


def resident(tool, rows):
    """Whether each command stays below the limit."""
    print("\nA sparse image of 256 GiB with 512 MiB stored:\n")
    print("| command | most memory |\n|---|---|", flush=True)
    most = 0
    for name, arguments in rows:
        _, memory, _ = measure([tool] + arguments)
        most = max(most, memory)
        print(f"| {name} | {memory / 1024:.0f} MiB |", flush=True)
    return most < RESIDENT_LIMIT


def measure(arguments):
    """CPU time in seconds, memory in KiB, and the exit status."""
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in 0, 1, 2:
            os.dup2(null, stream)
        os.execv(arguments[0], arguments)
    _, result, usage = os.wait4(child, 0)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss, os.waitstatus_to_exitcode(result)


def table(title, columns, rows, tool, runs):
    """One row for each command: its arguments are those that `rows` make of a column."""
    print(f"\n{title}\n")
    print("| command | " + " | ".join(name for name, _ in columns) + " | times |")
    print("|---" * (len(columns) + 2) + "|", flush=True)
    worst = 1.0
    for name, arguments in rows:
        cells, times = [], {}
        # All claims by turns: a processor that changes its speed does so for all of them.
        rounds = [[measure([tool] + arguments(value)) for _, value in columns] for _ in range(runs)]
        for column in zip(*rounds):
            time = min(time for time, _, _ in column)
            memory = max(memory for _, memory, _ in column)
            status = column[-1][2]
            refused = status == 2
            cells.append(f"{time * 1e3:.1f} ms, {memory / 1024:.0f} MiB" + (", refused" if refused else ""))
            if status < 0 or status > 100:
                cells[-1] += f", status {status}"
            times.setdefault(refused, []).append(time)
        ratio = max(max(alike) / min(alike) for alike in times.values())
        worst = max(worst, ratio)
        print(f"| {name} | " + " | ".join(cells) + f" | {ratio:.2f} |", flush=True)
    return worst


def main():
    tool = os.path.abspath(sys.argv[1])
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 9
    with tempfile.TemporaryDirectory() as directory:
        def path(name):
            return os.path.join(directory, name)

        def commands(kind):
            def dump(claim):
                return path(f"{kind}{claim}")
            machine = ["--machine", MACHINE]
            return [
                ("image info", lambda c: ["image", "info", dump(c)]),
                ("image convert --to elf", lambda c: ["image", "convert", dump(c), "--to", "elf", "-o", path("out")]),
                ("image convert --to kdump", lambda c: ["image", "convert", dump(c), "--to", "kdump", "-o", path("out")]),
                ("find", lambda c: ["find", dump(c)]),
                ("hexdump", lambda c: ["hexdump", dump(c)]),
                ("maps", lambda c: ["maps", dump(c)]),
                ("maps --machine", lambda c: ["maps", dump(c)] + machine),
                ("maps --machine --format json", lambda c: ["maps", dump(c), "--format", "json"] + machine),
                ("walk", lambda c: ["walk", dump(c), "00:03.0", "0xfff0d000"] + machine),
                ("who", lambda c: ["who", dump(c), "0x765b000"] + machine),
                ("verify", lambda c: ["verify", dump(c), "--crash-kernel", "64M@16M"] + machine),
                ("diff", lambda c: ["diff", dump(c), dump(c)] + machine),
                ("hexdump --annotate", lambda c: ["hexdump", dump(c), "--annotate"] + machine),
                ("report", lambda c: ["report", dump(c), "--crash-kernel", "64M@16M", "-o", path("out.html")] + machine),
            ]

        worst = 1.0
        for title, kind, make, claims in [
            ("Zero fill of an ELF core:", "core", zero_fill, CLAIMS),
            ("A gap in a flattened stream:", "stream", gap, CLAIMS),
            ("A hole of a sparse raw file:", "raw", hole, [30, 36, 42]),
        ]:
            for claim in claims:
                make(path(f"{kind}{claim}"), claim)
            columns = [(f"2^{claim}", claim) for claim in claims]
            worst = max(worst, table(title, columns, commands(kind), tool, runs))

        sizes = [(f"2^{size}", 1 << size) for size in (32, 36, 40, 44)]
        worst = max(worst, table(
            "RAM of a machine that is played:", sizes,
            [
                ("play", lambda size: ["play", "--ram", str(size)]),
                ("build --image elf", lambda size: [
                    "build", "--mode", "vtd", "--ram", str(size), "--map", "03:08.0=0x20000000+4K:rw",
                    "--output", path("built")]),
            ], tool, runs))
        kernels = [(f"2^{size}", 1 << size) for size in (30, 40, 50, 60)]
        dump = os.path.join(EXAMPLE, "image.elf")
        worst = max(worst, table(
            "Bytes of a crash kernel at 0:", kernels,
            [("verify", lambda size: [
                "verify", dump, "--machine", MACHINE, "--crash-kernel", f"{size}@0"])], tool, runs))

        sizes = [28, 30, 31, 32]
        for size in sizes:
            zero_fill(path(f"zeros{size}"), size)
        table(
            "Zeros that a kdump-compressed dump lists page by page, up to 4 GiB:",
            [(f"2^{size}", size) for size in sizes],
            [("image convert --to kdump", lambda size: [
                "image", "convert", path(f"zeros{size}"), "--to", "kdump", "-o", path("out")])], tool, runs)

        def trace(size):
            name = path(f"trace{size}")
            with open(name, "w") as file:
                file.write(f"00:03.0,0x0,4096,r\n00:03.0,0x0,{size},r\n")
            return name
        requests = [(f"2^{size}", 1 << size) for size in (12, 20, 30, 40, 60)]
        table(
            "Bytes of one request of a trace, which may touch 2^22 pages and 2^10 for each line:",
            requests, [("replay", lambda size: ["replay", trace(size)])], tool, runs)
        image = path("islands")
        islands(image)
        machine = ["--machine", MACHINE]
        crash = ["--crash-kernel", "64M@16M"]
        is_flat = resident(tool, [
            ("find", ["find", image]),
            ("maps", ["maps", image]),
            ("maps --machine", ["maps", image] + machine),
            ("verify", ["verify", image] + crash),
            ("verify --machine", ["verify", image] + crash + machine),
        ])
        print(f"\nLargest ratio, without the last three tables: {worst:.2f}")
    return 0 if is_flat else 1


if __name__ == "__main__":
    sys.exit(main())
