import IOMMUFormats
import IOMMUImages
import Testing

@testable import IOMMULinux

@Suite struct PrintkRingTests {
  private static let ring = TinyKernel.text + 0x30_0000
  private static let descriptors = TinyKernel.text + 0x31_0000
  private static let infos = TinyKernel.text + 0x40_0000
  private static let text = TinyKernel.text + 0x50_0000

  /// The lines of Debian's 6.1.
  private static let lines = """
    SYMBOL(prb)=ffffffff812ff000
    OFFSET(printk_ringbuffer.desc_ring)=0
    OFFSET(printk_ringbuffer.text_data_ring)=48
    OFFSET(prb_desc_ring.count_bits)=0
    OFFSET(prb_desc_ring.descs)=8
    OFFSET(prb_desc_ring.infos)=16
    OFFSET(prb_desc_ring.head_id)=24
    OFFSET(prb_desc_ring.tail_id)=32
    SIZE(prb_desc)=24
    OFFSET(prb_desc.state_var)=0
    OFFSET(prb_desc.text_blk_lpos)=8
    OFFSET(prb_data_blk_lpos.begin)=0
    OFFSET(prb_data_blk_lpos.next)=8
    SIZE(printk_info)=88
    OFFSET(printk_info.seq)=0
    OFFSET(printk_info.ts_nsec)=8
    OFFSET(printk_info.text_len)=16
    OFFSET(printk_info.caller_id)=20
    OFFSET(printk_info.dev_info)=24
    OFFSET(dev_printk_info.subsystem)=0
    LENGTH(printk_info_subsystem)=16
    OFFSET(dev_printk_info.device)=16
    LENGTH(printk_info_device)=48
    OFFSET(prb_data_ring.size_bits)=0
    OFFSET(prb_data_ring.data)=8
    OFFSET(atomic_long_t.counter)=0

    """

  private static func kernel(countLog2: UInt64, byteCountLog2: UInt64, tail: UInt64, head: UInt64)
    -> TinyKernel
  {
    let kernel = TinyKernel()
    kernel.lines += lines
    kernel.put(words: [ring], at: TinyKernel.text + 0x2f_f000)
    kernel.put(words: [countLog2, descriptors, infos, head, tail], at: ring)
    kernel.put(words: [byteCountLog2, text], at: ring + 48)
    return kernel
  }

  private static func log(_ kernel: TinyKernel, without leftOut: Set<UInt64> = []) throws
    -> PrintkLog
  {
    try PrintkLog(kernel.info, in: kernel.reader(without: leftOut))
  }

  /// Descriptor, info and block of record 0 as they lie in the dump `vtd-full`; the tail before it was
  /// never used.
  @Test func `the first record of a real log`() throws {
    let kernel = Self.kernel(
      countLog2: 12, byteCountLog2: 17, tail: 0xffff_efff, head: 0xffff_f000)
    kernel.put(
      hexBytes("ffefffff000000c0 0100000000000000 0100000000000000"),
      at: Self.descriptors + 4095 * 24)
    kernel.put(hexBytes("00f0ffff000000800000feffffffffffd000feffffffffff"), at: Self.descriptors)
    kernel.put(hexBytes("00000000000000000000000000000000c40000a200000000"), at: Self.infos)
    kernel.put(
      hexBytes("00f0ffff000000004c696e75782076657273696f6e20362e")
        + [UInt8](repeating: 0x31, count: 180),
      at: Self.text)
    let log = try Self.log(kernel)
    #expect(log.kind == .ring && log.problems.isEmpty && log.records.count == 1)
    let record = try #require(log.records.first)
    #expect(record.sequence == 0 && record.nanoseconds == 0)
    #expect(record.facility == 0 && record.level == 5)
    #expect(record.text == "Linux version 6." + String(repeating: "1", count: 180))
    #expect(record.caller == nil && record.device == nil)
  }

  /// A descriptor, its info and its block.
  private static func put(
    _ id: UInt64, state: UInt64 = 2, begin: UInt64, next: UInt64, offset: UInt64? = nil,
    text: String,
    length: Int? = nil, flags: UInt8 = 6 << 5, slots: UInt64 = 4, in kernel: TinyKernel
  ) {
    let slot = id % slots
    kernel.put(words: [state << 62 | id, begin, next], at: descriptors + slot * 24)
    kernel.put(words: [id &- 10, 1_234_567_890], at: infos + slot * 88)
    kernel.put(
      little(UInt64(length ?? text.utf8.count), 2) + [3, flags] + little(0x8000_0001, 4)
        + Array("pci\0".utf8), at: infos + slot * 88 + 16)
    kernel.put(Array("+pci:0000:00:03.0\0".utf8), at: infos + slot * 88 + 40)
    if let offset { kernel.put(little(id, 8) + Array(text.utf8), at: Self.text + offset) }
  }

  /// VMCOREINFO is text out of a dump: it may put members in front of their structure, or far behind it.
  @Test(arguments: ["-1", "-2", "-4", "-8", "9223372036854775807"])
  func `members that are nowhere are left out, or the log is refused`(value: String) throws {
    let kernel = Self.kernel(countLog2: 2, byteCountLog2: 12, tail: 8, head: 8)
    Self.put(8, begin: 0x1000, next: 0x1010, offset: 0, text: "one", in: kernel)
    let whole = kernel.lines
    #expect(try Self.log(kernel).records.map(\.text) == ["one"])
    func misplace(_ member: String) {
      kernel.lines = kernel.movingMember(member, to: value, in: whole)
    }
    misplace("printk_info.caller_id")
    #expect(try Self.log(kernel).records.map(\.caller) == [nil])
    for member in ["printk_info.dev_info", "dev_printk_info.device"] {
      misplace(member)
      #expect(try Self.log(kernel).records.map(\.device) == [nil])
    }
    for member in ["prb_desc.state_var", "prb_data_blk_lpos.next", "printk_info.text_len"] {
      misplace(member)
      #expect(throws: KernelReadError.self) { try Self.log(kernel) }
    }
  }

  @Test func `a log that has wrapped, with a block that begins again at 0`() throws {
    // Room for 4 messages and 128 bytes: message 12 did not fit behind 11.
    let kernel = Self.kernel(countLog2: 2, byteCountLog2: 7, tail: 11, head: 13)
    Self.put(11, begin: 0x150, next: 0x168, offset: 0x50, text: "eleven", in: kernel)
    Self.put(
      12, state: 1, begin: 0x168, next: 0x198, offset: 0, text: "twelve\nand more", in: kernel)
    Self.put(
      13, begin: 0x198, next: 0x1b0, offset: 0x18, text: "thirteen is longer than its block",
      in: kernel)
    let log = try Self.log(kernel)
    #expect(log.problems.isEmpty)
    #expect(log.records.map(\.text) == ["eleven", "twelve\nand more", "thirteen is long"])
    #expect(log.records.map(\.sequence) == [1, 2, 3])
    #expect(log.records[0].level == 6 && log.records[0].facility == 3)
    #expect(log.records[0].caller == 0x8000_0001)
    #expect(log.records[0].subsystem == "pci" && log.records[0].device == "+pci:0000:00:03.0")
  }

  @Test func `a block that ends where the ring does stands where it begins`() throws {
    let kernel = Self.kernel(countLog2: 2, byteCountLog2: 7, tail: 11, head: 11)
    Self.put(11, begin: 0x168, next: 0x180, offset: 0x68, text: "fits just", in: kernel)
    #expect(try Self.log(kernel).records.map(\.text) == ["fits just"])
  }

  @Test func `messages without text, under way, used again, or of another number`() throws {
    let kernel = Self.kernel(countLog2: 2, byteCountLog2: 7, tail: 12, head: 15)
    Self.put(12, begin: 3, next: 3, text: "", length: 0, in: kernel)
    Self.put(13, state: 0, begin: 0x100, next: 0x118, offset: 0, text: "reserved", in: kernel)
    // Its text was overwritten, or it never had room.
    Self.put(14, begin: 0x118, next: 0x130, text: "lost", in: kernel)
    Self.put(15, begin: 1, next: 1, text: "lost too", in: kernel)
    let log = try Self.log(kernel)
    #expect(log.records.map(\.text) == [""])
    #expect(log.lostCount == 2 && log.problems.isEmpty)
    kernel.put(words: [2 << 62 | 8, 0, 0], at: Self.descriptors)
    #expect(try Self.log(kernel).records.isEmpty)
  }

  @Test func `numbers go on past 62 bits`() throws {
    let last: UInt64 = 1 << 62 - 1
    let kernel = Self.kernel(countLog2: 2, byteCountLog2: 7, tail: last, head: 0)
    Self.put(last, begin: 0x100, next: 0x118, offset: 0, text: "before", in: kernel)
    Self.put(0, begin: 0x118, next: 0x130, offset: 0x18, text: "behind", in: kernel)
    #expect(try Self.log(kernel).records.map(\.text) == ["before", "behind"])
  }

  @Test func `what is not there is told, and the rest is read`() throws {
    let kernel = Self.kernel(countLog2: 2, byteCountLog2: 12, tail: 11, head: 12)
    // The text of 12 is on the page behind.
    Self.put(11, begin: 0x10f0, next: 0x1108, offset: 0xf0, text: "eleven", slots: 4, in: kernel)
    Self.put(12, begin: 0x1ff0, next: 0x2030, offset: 0, text: "twelve", slots: 4, in: kernel)
    #expect(try Self.log(kernel).records.map(\.text) == ["eleven", "twelve"])
    let log = try Self.log(kernel, without: [0x40_0000])
    #expect(log.records.isEmpty && log.problems.count == 2)
    #expect(log.problems.allSatisfy { $0.hasPrefix("a message cannot be read: 0xffffffff81400") })
  }

  /// 2^16 messages of 16 bytes each, where there is room for 1 MiB.
  @Test func `text is bounded by the pages that there are`() throws {
    let kernel = Self.kernel(countLog2: 16, byteCountLog2: 17, tail: 0, head: 65_535)
    var descriptors: [UInt8] = []
    var infos: [UInt8] = []
    for id in 0..<65_536 as Range<UInt64> {
      descriptors += little(2 << 62 | id, 8) + little(3, 8) + little(3, 8)
      infos += little(id, 8) + [UInt8](repeating: 0, count: 80)
    }
    kernel.put(descriptors, at: Self.descriptors)
    kernel.put(infos, at: Self.infos + 0x20_0000)
    kernel.put(words: [Self.infos + 0x20_0000], at: Self.ring + 16)
    // 16 bytes for each, and 1 MiB at least.
    let log = try PrintkLog(
      kernel.info, in: KernelMemory(Stored(kernel.memory), tables: KernelPageTables(kernel.info)))
    #expect(log.records.count == 65_536 && log.problems.isEmpty)
    // One letter more, in the first message, and the last finds no room.
    kernel.put(little(2 << 62, 8) + little(0x100, 8) + little(0x118, 8), at: Self.descriptors)
    kernel.put(little(1, 2), at: Self.infos + 0x20_0000 + 16)
    kernel.put(little(0, 8) + Array("x".utf8), at: Self.text + 0x100)
    let cut = try PrintkLog(
      kernel.info, in: KernelMemory(Stored(kernel.memory), tables: KernelPageTables(kernel.info)))
    #expect(cut.records.count == 65_535 && cut.records[0].text == "x")
    #expect(
      cut.problems == ["the log has more text than the dump has pages for: the rest is left out"])
  }

  /// The same memory with a page in all.
  private struct Stored: PhysicalMemory {
    let base: FlatMemory
    init(_ base: FlatMemory) { self.base = base }
    func quadword(at address: PhysicalAddress) -> UInt64? { base.quadword(at: address) }
    func doubleword(at address: PhysicalAddress) -> UInt32? { base.doubleword(at: address) }
    func read(at address: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer) -> Int {
      base.read(at: address, into: buffer)
    }
    var backedRanges: [Range<PhysicalAddress>] { base.backedRanges }
    var storedPageCount: UInt64 { 1 }
  }

  @Test func `a ring that cannot be is an error, and one with too many messages is told`() throws {
    let kernel = Self.kernel(countLog2: 40, byteCountLog2: 7, tail: 0, head: 0)
    #expect(
      readError { () throws(KernelReadError) in
        guard let memory = try? kernel.reader() else { throw .null }
        return try PrintkLog(kernel.info, in: memory)
      }?.description == "a log of 2^40 messages and 2^7 bytes")
    let full = Self.kernel(countLog2: 2, byteCountLog2: 7, tail: 1, head: 13)
    Self.put(13, begin: 0x100, next: 0x118, offset: 0, text: "newest", in: full)
    let log = try Self.log(full)
    #expect(log.records.map(\.text) == ["newest"])
    #expect(
      log.problems
        == ["the log says that it has 13 messages, and has room for 4: its newest are read"])
    #expect(
      readError { () throws(KernelReadError) in
        guard let memory = try? TinyKernel().reader() else { throw .null }
        return try PrintkLog(TinyKernel().info, in: memory)
      }?.description == "VMCOREINFO has no SYMBOL(prb) or SYMBOL(log_buf)")
  }
}

/// Buffers of kernels before 5.10, made by hand.
@Suite struct PrintkBufferTests {
  private static let buffer = TinyKernel.text + 0x30_0000

  private static func kernel(_ structure: String, first: UInt64, next: UInt64) -> TinyKernel {
    let kernel = TinyKernel()
    kernel.lines += """
      SYMBOL(log_buf)=ffffffff812ff000
      SYMBOL(log_buf_len)=ffffffff812ff008
      SYMBOL(log_first_idx)=ffffffff812ff010
      SYMBOL(log_next_idx)=ffffffff812ff018
      SIZE(\(structure))=16
      OFFSET(\(structure).ts_nsec)=0
      OFFSET(\(structure).len)=8
      OFFSET(\(structure).text_len)=10
      OFFSET(\(structure).dict_len)=12

      """
    kernel.put(words: [buffer, 256, first, next], at: TinyKernel.text + 0x2f_f000)
    return kernel
  }

  /// 1.5 s, 56 bytes of which 5 are text and 33 a dictionary, facility 0, level 4 in the upper three bits.
  private static let first =
    hexBytes("002f685900000000 3800 0500 2100 00 80")
    + Array("firstSUBSYSTEM=pci\0DEVICE=+pci:00:03.0\0\0".utf8)

  private static func log(_ kernel: TinyKernel) throws -> PrintkLog {
    try PrintkLog(kernel.info, in: kernel.reader())
  }

  @Test(arguments: ["printk_log", "log"])
  func `records that have wrapped`(structure: String) throws {
    let kernel = Self.kernel(structure, first: 160, next: 24)
    kernel.put(Self.first, at: Self.buffer + 160)
    // No room for the next behind 216: a length of 0, and it is at 0.
    kernel.put(hexBytes("00000000000000000000000000000000"), at: Self.buffer + 216)
    kernel.put(
      hexBytes("0094357700000000 1800 0600 0000 01 c6") + Array("second".utf8), at: Self.buffer)
    let log = try Self.log(kernel)
    #expect(log.kind == .records && log.problems.isEmpty)
    #expect(log.records.map(\.text) == ["first", "second"])
    #expect(log.records.map(\.nanoseconds) == [1_500_000_000, 2_000_000_000])
    #expect(log.records.map(\.level) == [4, 6] && log.records.map(\.facility) == [0, 1])
    #expect(log.records[0].subsystem == "pci" && log.records[0].device == "+pci:00:03.0")
  }

  @Test(arguments: ["-1", "-4", "9223372036854775807"])
  func `a record's members are inside of it`(value: String) throws {
    let kernel = Self.kernel("printk_log", first: 0, next: 56)
    kernel.put(Self.first, at: Self.buffer)
    let whole = kernel.lines
    #expect(try Self.log(kernel).records.map(\.text) == ["first"])
    for member in ["ts_nsec", "len", "text_len", "dict_len"] {
      kernel.lines = kernel.movingMember("printk_log.\(member)", to: value, in: whole)
      #expect(throws: KernelReadError.self) { try Self.log(kernel) }
    }
  }

  @Test func `lengths that lie end the log, and what stands before is there`() throws {
    let kernel = Self.kernel("printk_log", first: 0, next: 128)
    kernel.put(Self.first, at: Self.buffer)
    for (record, problem) in [
      (
        "00000000000000000000000000000000",
        "the log has a record without length at 56, where none can be"
      ),
      (
        "0000000000000000 1000 0500 0000 00 00",
        "the log has a record of 16 bytes at 56, which cannot be"
      ),
      (
        "0000000000000000 ffff 0500 0000 00 00",
        "the log has a record of 65535 bytes at 56, which cannot be"
      ),
      ("0000000000000000 c800 0000 0000 00 00", "the log goes on behind its newest record"),
    ] {
      kernel.put(hexBytes(record), at: Self.buffer + 56)
      let log = try Self.log(kernel)
      #expect(log.records.first?.text == "first")
      #expect(log.problems == [problem])
    }
  }

  @Test func `characters before 3.5`() throws {
    let kernel = TinyKernel()
    kernel.lines += """
      SYMBOL(log_buf)=ffffffff812ff000
      SYMBOL(log_buf_len)=ffffffff812ff008
      SYMBOL(log_end)=ffffffff812ff010
      SYMBOL(logged_chars)=ffffffff812ff018

      """
    let old = "ld text that is half gone\n"
    let new = "<4>[    1.500000] Calgary: DMA error\n<6>plain\n[   12.000001] no level\n"
    let text = new + old
    // The ring has 128 bytes; the newest stands at its beginning.
    let start = 128 - old.utf8.count
    kernel.put(
      words: [Self.buffer, 128, UInt64(128 + new.utf8.count), UInt64(text.utf8.count)],
      at: TinyKernel.text + 0x2f_f000)
    kernel.put(Array(old.utf8), at: Self.buffer + UInt64(start))
    kernel.put(Array(new.utf8), at: Self.buffer)
    let log = try Self.log(kernel)
    #expect(log.kind == .characters && log.problems.isEmpty)
    #expect(
      log.records.map(\.text)
        == ["ld text that is half gone", "Calgary: DMA error", "plain", "no level"])
    #expect(log.records.map(\.level) == [nil, 4, 6, nil])
    #expect(log.records.map(\.nanoseconds) == [nil, 1_500_000_000, nil, 12_000_001_000])
  }
}

extension TinyKernel {
  /// Lines of VMCOREINFO with another offset for one member.
  fileprivate func movingMember(_ member: String, to value: String, in lines: String) -> String {
    let key = "OFFSET(\(member))="
    return lines.split(separator: "\n").map { $0.hasPrefix(key) ? key + value : String($0) }
      .joined(separator: "\n") + "\n"
  }
}
