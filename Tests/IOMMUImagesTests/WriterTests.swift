import Glibc
import IOMMUFormats
import IOMMUImages
import Testing

@Suite struct ELFCoreWriterTests {
  let scratch = TemporaryDirectory()

  /// 640 KiB, a hole, and RAM from 1 MiB: three pages close together, one far away.
  func memory() throws -> FlatMemory {
    let memory = try FlatMemory(ram: [
      .physical(0..<0xa0000), .physical(0x100000..<0x800000),
    ])
    memory.store(UInt64(0x1111), at: PhysicalAddress(0))
    memory.store(UInt64(0x2222), at: PhysicalAddress(0x200ff8))
    memory.store(UInt64(0x3333), at: PhysicalAddress(0x203000))
    memory.store(UInt64(0x4444), at: PhysicalAddress(0x7ff000))
    // Touched, but zero: not worth a byte in the file.
    memory.store(UInt64(0), at: PhysicalAddress(0x500000))
    return memory
  }

  @Test func `what is written reads back`() throws {
    let memory = try memory()
    let path = scratch.path("out.elf")
    try ELFCoreWriter.write(memory, to: path)
    let image = try MemoryImage(path: path)
    #expect(image.backedRanges == [.physical(0..<0xa0000), .physical(0x100000..<0x800000)])
    for page in stride(from: UInt64(0), to: 0x801000, by: 0x1000) {
      let address = PhysicalAddress(page)
      #expect(image.bytes(at: address, count: 4096) == memory.bytes(at: address, count: 4096))
    }
    // Headers, then 1 + 4 + 1 pages: the gap of two zero pages is stored, all others are not.
    #expect(scratch.contents("out.elf").count == 7 * 4096)
    #expect(scratch.files == ["out.elf"])
  }

  @Test(.enabled(if: access("/usr/bin/readelf", X_OK) == 0))
  func `readelf accepts it`() throws {
    let path = scratch.path("out.elf")
    try ELFCoreWriter.write(try memory(), to: path)
    let pipe = try #require(popen("/usr/bin/readelf -lW \(path) 2>&1", "r"))
    var text = ""
    while case let byte = fgetc(pipe), byte >= 0 {
      text.unicodeScalars.append(Unicode.Scalar(UInt8(byte)))
    }
    #expect(pclose(pipe) == 0)
    let loads = text.split(separator: "\n").filter { $0.contains("LOAD") }.map {
      $0.split(separator: " ").joined(separator: " ")
    }
    #expect(text.contains("CORE (Core file)"))
    #expect(!text.contains("Warning"))
    #expect(
      loads == [
        "LOAD 0x001000 0x0000000000000000 0x0000000000000000 0x001000 0x0a0000 RWE 0",
        "LOAD 0x002000 0x0000000000100000 0x0000000000100000 0x000000 0x100000 RWE 0",
        "LOAD 0x002000 0x0000000000200000 0x0000000000200000 0x004000 0x5ff000 RWE 0",
        "LOAD 0x006000 0x00000000007ff000 0x00000000007ff000 0x001000 0x001000 RWE 0",
      ])
  }

  @Test func `more segments than sixteen bits count are written`() throws {
    let memory = try FlatMemory(
      ram: (0..<66_000).map { .physical($0 * 0x2000..<$0 * 0x2000 + 0x1000) })
    memory.store(UInt64(0x77), at: PhysicalAddress(65_999 * 0x2000))
    try ELFCoreWriter.write(memory, to: scratch.path("many.elf"))
    let image = try MemoryImage(path: scratch.path("many.elf"))
    #expect(image.backedRanges == memory.ram)
    #expect(image.quadword(at: PhysicalAddress(65_999 * 0x2000)) == 0x77)
    #expect(image.quadword(at: PhysicalAddress(0x1000)) == nil)
  }

  @Test func `a raw file has holes for zeros and ends with RAM`() throws {
    let path = scratch.path("out.raw")
    try ELFCoreWriter.writeRaw(try memory(), to: path)
    let image = try MemoryImage(path: path)
    #expect(image.format == .raw)
    #expect(image.backedRanges == [.physical(0..<0x800000)])
    #expect(image.quadword(at: PhysicalAddress(0)) == 0x1111)
    #expect(image.quadword(at: PhysicalAddress(0x203000)) == 0x3333)
    #expect(image.quadword(at: PhysicalAddress(0x7ff000)) == 0x4444)
    #expect(image.quadword(at: PhysicalAddress(0xa0000)) == 0)
    var status = stat()
    #expect(stat(path, &status) == 0)
    #expect(status.st_blocks * 512 < 0x100000)
  }
}

@Suite struct OutputFileTests {
  let scratch = TemporaryDirectory()

  @Test func `a file appears when it is committed`() throws {
    let file = try OutputFile(path: scratch.path("new"))
    try file.write([1, 2])
    try file.skip(byteCount: 2)
    try file.write([UInt8](repeating: 3, count: 100_000))
    try file.skip(byteCount: 1)
    #expect(file.byteCount == 100_005)
    #expect(!scratch.files.contains("new"))
    try file.commit()
    #expect(scratch.files == ["new"])
    #expect(
      scratch.contents("new") == [1, 2, 0, 0] + [UInt8](repeating: 3, count: 100_000) + [0])
  }

  @Test func `a file given up leaves the old one and nothing else`() throws {
    let path = scratch.file("old", "old")
    do {
      let file = try OutputFile(path: path)
      try file.write([UInt8](repeating: 1, count: 1 << 17))
      #expect(scratch.files.count == 1)
    }
    #expect(scratch.files == ["old"])
    #expect(scratch.contents("old") == Array("old".utf8))
  }

  @Test func `an error leaves the old file and nothing else`() throws {
    let path = scratch.file("old", "old")
    let file = try OutputFile(path: path)
    try file.write([1])
    #expect(
      throws: ImageError(file: path, found: "cannot be written: File too large"),
    ) { try file.skip(byteCount: .max - 5) }
    #expect(scratch.files == ["old"])
    #expect(scratch.contents("old") == Array("old".utf8))
  }

  @Test func `a commit that the system refuses leaves nothing behind`() throws {
    let path = scratch.path("name")
    let file = try OutputFile(path: path)
    mkdir(path, 0o700)
    defer { rmdir(path) }
    #expect(throws: ImageError(file: path, found: "cannot be replaced: Is a directory")) {
      try file.commit()
    }
    #expect(scratch.files == ["name"])
  }

  @Test func `permissions and symbolic links stay`() throws {
    let path = scratch.file("target", "old")
    chmod(path, 0o640)
    symlink(path, scratch.path("link"))
    let file = try OutputFile(path: scratch.path("link"))
    try file.write([1])
    try file.commit()
    var status = stat()
    #expect(lstat(scratch.path("link"), &status) == 0 && status.st_mode & S_IFMT == S_IFLNK)
    #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o640)
    #expect(scratch.contents("target") == [1])
  }

  @Test func `a place where nothing can be written is refused`() {
    #expect(
      throws: ImageError(
        file: "/nonexistent/x", found: "cannot be written: No such file or directory")
    ) {
      _ = try OutputFile(path: "/nonexistent/x")
    }
    #expect(throws: ImageError.self) { _ = try OutputFile(path: scratch.path) }
  }
}
