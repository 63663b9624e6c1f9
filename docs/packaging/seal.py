#!/usr/bin/env python3
"""Takes out of programs and shared libraries what depends on the directory that they were built in.

Usage: seal.py FILE... Stripped ELF files of 64 bits, little-endian, in place; nothing moves.

The compiler leaves a hash of its inputs for each module, which the next compilation looks at and nobody else: zeros.
The linker's build-id is a hash of the file before it was stripped: one of what is in it now.
"""
import hashlib
import struct
import sys


def sections(data):
    """Name, offset and size of each section."""
    table, = struct.unpack_from("<Q", data, 0x28)
    size, count, names = struct.unpack_from("<HHH", data, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", data, table + i * size) for i in range(count)]
    for header in headers:
        start = headers[names][4] + header[0]
        yield data[start:data.index(0, start)].decode(), header[4], header[5]


def seal(path):
    with open(path, "r+b") as file:
        data = bytearray(file.read())
        if data[:6] != b"\x7fELF\x02\x01":
            sys.exit(f"seal.py: {path}: no ELF file of 64 bits, little-endian")
        build_id = None
        for name, offset, size in sections(data):
            if name == ".swift_modhash":
                data[offset:offset + size] = bytes(size)
            elif name == ".note.gnu.build-id":
                # Behind the lengths, the kind and "GNU".
                build_id = offset + 16, size - 16
        if build_id:
            start, size = build_id
            data[start:start + size] = bytes(size)
            data[start:start + size] = hashlib.sha256(data).digest()[:size]
        file.seek(0)
        file.write(data)


for argument in sys.argv[1:]:
    seal(argument)
