import IOMMUFormats
import IOMMUTestSupport
import Testing

@testable import IOMMUImages

private func little(_ word: some FixedWidthInteger) -> [UInt8] {
  withUnsafeBytes(of: word.littleEndian) { Array($0) }
}

@Suite struct VMwareTests {
  let scratch = TemporaryDirectory()

  /// A tag with a value of four bytes.
  static func tag(_ name: String, _ indices: [UInt32], _ value: UInt32) -> [UInt8] {
    [UInt8(4 | indices.count << 6), UInt8(name.utf8.count)] + Array(name.utf8)
      + indices.flatMap { little($0) } + little(value)
  }

  /// A block of bytes; 63 for one as it is, 62 for a packed one.
  static func block(_ size: UInt8, _ bytes: [UInt8], isOld: Bool = false) -> [UInt8] {
    let name = "Memory"
    let count = isOld ? little(UInt32(bytes.count)) : little(UInt64(bytes.count))
    return [size | 2 << 6, UInt8(name.utf8.count)] + Array(name.utf8) + little(UInt64(0)) + count
      + count + [3, 0] + [0xaa, 0xaa, 0xaa] + bytes
  }

  /// Two groups, of which the second is that of memory.
  static func state(_ tags: [UInt8], mark: UInt32 = 0xbed2_bed2) -> [UInt8] {
    func group(_ name: String, _ start: UInt64) -> [UInt8] {
      let name = Array(name.utf8)
      return name + [UInt8](repeating: 0, count: 64 - name.count) + little(start)
        + little(UInt64(0))
    }
    return little(mark) + little(UInt32(8)) + little(UInt32(2)) + group("cpu", 172)
      + group("memory", 174) + [0, 0] + tags + [0, 0]
  }

  /// 8 KiB from 0 on, and 4 KiB from 4 GiB on.
  static let regions =
    tag("align_mask", [0], 0xffff) + tag("regionsCount", [], 2) + tag("regionPageNum", [0], 0)
    + tag("regionPPN", [0], 0) + tag("regionSize", [0], 2) + tag("regionPageNum", [1], 2)
    + tag("regionPPN", [1], 0x10_0000) + tag("regionSize", [1], 1)

  static let memory =
    [UInt8](repeating: 1, count: 8192) + [UInt8](repeating: 2, count: 4096)

  @Test(arguments: ["vm.vmem", "vm.vmss"])
  func `memory and state are read together, whichever is named`(name: String) throws {
    _ = scratch.file("vm.vmem", Self.memory)
    _ = scratch.file("vm.vmss", Self.state(Self.regions))
    let image = try MemoryImage(path: scratch.path(name))
    #expect(image.format == .vmware)
    #expect(
      image.backedRanges == [.physical(0..<0x2000), .physical(0x1_0000_0000..<0x1_0000_1000)])
    #expect(image.doubleword(at: PhysicalAddress(0x1_0000_0000)) == 0x0202_0202)
    #expect(image.paths == [scratch.path("vm.vmem"), scratch.path("vm.vmss")])
    #expect(image.warnings.isEmpty)
  }

  @Test func `memory without a state is raw, and a warning says what may be wrong`() throws {
    let image = try MemoryImage(path: scratch.file("vm.vmem", Self.memory))
    #expect(image.format == .raw)
    #expect(image.warnings.count == 1)
    #expect(image.warnings[0].contains("no .vmss or .vmsn file of the same name beside it"))
  }

  @Test(arguments: [false, true])
  func `memory inside of the state is read there`(isOld: Bool) throws {
    let state = Self.state(
      Self.regions + Self.block(63, Self.memory, isOld: isOld),
      mark: isOld ? 0xbed2_bed0 : 0xbed3_bed3)
    let image = try MemoryImage(path: scratch.file("vm.vmsn", state))
    #expect(
      image.backedRanges == [.physical(0..<0x2000), .physical(0x1_0000_0000..<0x1_0000_1000)])
    #expect(image.doubleword(at: PhysicalAddress(0x1ffc)) == 0x0101_0101)
    #expect(image.doubleword(at: PhysicalAddress(0x1_0000_0ffc)) == 0x0202_0202)
    // Without regions all of it is memory from 0 on.
    let plain = Self.state(
      Self.block(63, Self.memory, isOld: isOld), mark: isOld ? 0xbed0_bed0 : 0xbed2_bed2)
    let whole = try MemoryImage(path: scratch.file("plain.vmsn", plain))
    #expect(whole.backedRanges == [.physical(0..<0x3000)])
  }

  @Test func `memory that the file does not have is lost`() throws {
    _ = scratch.file("vm.vmem", Array(Self.memory.prefix(8192 + 1024)))
    _ = scratch.file("vm.vmss", Self.state(Self.regions))
    let image = try MemoryImage(path: scratch.path("vm.vmem"))
    #expect(image.presence(of: PhysicalAddress(0x1_0000_0400)) == .cutOff)
    #expect(image.doubleword(at: PhysicalAddress(0x1_0000_03fc)) == 0x0202_0202)
    #expect(
      image.incompleteness.map(\.missingByteCount) == [3072])
  }

  @Test(
    arguments: [
      (state(regions), "the saved state of a VMware guest without its memory"),
      (state(block(62, memory)), "memory that is packed, which is not read"),
      (Array(state([]).prefix(100)), "the saved state of a VMware guest without a group of memory"),
      (Array(state(regions).prefix(190)), "a tag of memory runs past the end of the file"),
      (
        state(tag("regionsCount", [], 2) + block(63, memory)),
        "a region of memory without its place or size"
      ),
    ] as [([UInt8], String)])
  func `a state that does not lead to memory is refused with the way out`(
    bytes: [UInt8], text: String
  ) throws {
    let error = try #require(openingError(scratch.file("vm.vmss", bytes)))
    #expect(error.found == text)
    #expect(error.remedy != nil)
  }
}

@Suite struct XenCoreTests {
  let scratch = TemporaryDirectory()

  /// The pages and their numbers in sections of an ELF file, the names of the sections behind them.
  static func core(numbers: [UInt64], pages: [UInt8], table: String = ".xen_pfn") -> [UInt8] {
    let names = [".shstrtab", ".note.Xen", table, ".xen_pages"]
    var text: [UInt8] = [0]
    var places: [UInt32] = []
    for name in names {
      places.append(UInt32(text.count))
      text += Array(name.utf8) + [0]
    }
    let table = numbers.flatMap { little($0) }
    let textStart = 64 + 64 * 5
    let tableStart = textStart + text.count
    func section(_ name: UInt32, _ start: Int, _ size: Int, _ entry: Int) -> [UInt8] {
      little(name) + little(UInt32(1)) + little(UInt64(0)) + little(UInt64(0))
        + little(UInt64(start)) + little(UInt64(size)) + little(UInt32(0)) + little(UInt32(0))
        + little(UInt64(1)) + little(UInt64(entry))
    }
    var bytes: [UInt8] = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1] + [UInt8](repeating: 0, count: 9)
    bytes += little(UInt16(4)) + little(UInt16(62)) + little(UInt32(1)) + little(UInt64(0))
    bytes += little(UInt64(0)) + little(UInt64(64)) + little(UInt32(0)) + little(UInt16(64))
    bytes += little(UInt16(56)) + little(UInt16(0)) + little(UInt16(64)) + little(UInt16(5))
    bytes += little(UInt16(1))
    bytes += [UInt8](repeating: 0, count: 64)
    bytes += section(places[0], textStart, text.count, 0) + section(places[1], 0, 0, 0)
    bytes += section(places[2], tableStart, table.count, 8)
    bytes += section(places[3], tableStart + table.count, pages.count, 4096)
    return bytes + text + table + pages
  }

  @Test func `pages lie where their numbers say`() throws {
    let pages = (1...4).flatMap { [UInt8](repeating: $0, count: 4096) }
    let core = Self.core(numbers: [0x10, 0x11, .max, 0x10_0000], pages: pages)
    let image = try MemoryImage(path: scratch.file("core", core))
    #expect(image.format == .xenCore)
    #expect(
      image.backedRanges == [
        .physical(0x1_0000..<0x1_2000), .physical(0x1_0000_0000..<0x1_0000_1000),
      ])
    #expect(image.doubleword(at: PhysicalAddress(0x1_1ffc)) == 0x0202_0202)
    #expect(image.doubleword(at: PhysicalAddress(0x1_0000_0000)) == 0x0404_0404)
    let cut = try MemoryImage(path: scratch.file("cut", Array(core.dropLast(1))))
    #expect(cut.presence(of: PhysicalAddress(0x1_0000_0fff)) == .cutOff)
  }

  @Test func `a paravirtualised guest is named and not read`() throws {
    let core = Self.core(numbers: [0x10, 0x20], pages: [], table: ".xen_p2m")
    let error = try #require(openingError(scratch.file("core", core)))
    #expect(error.found.hasPrefix("a Xen dump-core of a paravirtualised guest"))
  }

  @Test(arguments: [[1 << 40], [0, 1 << 63]] as [[UInt64]])
  func `numbers beyond all memory are refused`(numbers: [UInt64]) throws {
    let core = Self.core(numbers: numbers, pages: [UInt8](repeating: 1, count: 8192))
    let error = try #require(openingError(scratch.file("core", core)))
    #expect(error.found.contains("beyond all memory"))
  }
}
