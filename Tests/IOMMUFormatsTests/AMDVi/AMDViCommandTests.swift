import IOMMUFormats
import Testing

/// The commands of the manual, C1 to C15, and the log entry E17, byte for byte.
@Suite struct AMDViCommandTests {
  typealias A = AMDVi
  static let device = Requester("03:00.0")!

  /// `0900008001000010 8877665544332211` as bytes.
  static func bytes(_ text: String) -> [UInt8] {
    let digits = Array(text.utf8.filter { $0 != UInt8(ascii: " ") })
    return stride(from: 0, to: digits.count, by: 2).map {
      UInt8(String(decoding: digits[$0..<$0 + 2], as: UTF8.self), radix: 16)!
    }
  }

  private func check<Command: AMDViCommand>(_ text: String, _ command: Command) throws {
    #expect(command.bytes == Self.bytes(text))
    let read = try entry(Command.self, from: Self.bytes(text))
    #expect(read == command)
    #expect(A.CommandCode(command: read.low) == Command.code)
    #expect(A.CommandCode(command: read.low).format == Command.self)
    #expect(read.reservedViolations(.permissive).isEmpty)
  }

  @Test func `C1 and C2: a completion is stored, or interrupts`() throws {
    let stores = A.CompletionWaitCommand(
      store: (PhysicalAddress(0x1_8000_0008), 0x1122_3344_5566_7788))
    try check("0900008001000010 8877665544332211", stores)
    #expect(stores.stores && !stores.interrupts && !stores.isFence)
    #expect(stores.storeAddress.rawValue == 0x1_8000_0008)
    #expect(stores.storeData == 0x1122_3344_5566_7788)
    let interrupts = A.CompletionWaitCommand(interrupts: true)
    try check("0200000000000010 0000000000000000", interrupts)
    #expect(!interrupts.stores && interrupts.interrupts)
    #expect(A.CompletionWaitCommand(isFence: true).low == 0x1000_0000_0000_0004)
  }

  @Test func `C3 and C11: a device's entries go`() throws {
    try check(
      "2000000000000020 0000000000000000",
      A.InvalidateDeviceEntryCommand(Requester(rawValue: 0x20)))
    try check(
      "a000000000000050 0000000000000000",
      A.InvalidateInterruptTableCommand(Requester(rawValue: 0xa0)))
  }

  @Test func `C4 to C7: translations of a domain go`() throws {
    let page = A.InvalidatePagesCommand(
      domainID: 5, address: IOVA(0x1234_5000), sizeLog2: 12, dropsUpperLevels: false)
    try check("0000000005000030 0050341200000000", page)
    #expect(page.addresses == IOVA(0x1234_5000)...IOVA(0x1234_5fff))
    #expect(page.domainID == 5 && page.pasid == nil && !page.dropsUpperLevels)
    let block = A.InvalidatePagesCommand(domainID: 5, address: IOVA(0x1234_5678), sizeLog2: 16)
    try check("0000000005000030 0370341200000000", block)
    #expect(block.addresses == IOVA(0x1234_0000)...IOVA(0x1234_ffff) && block.dropsUpperLevels)
    let large = A.InvalidatePagesCommand(domainID: 5, address: IOVA(0x20_0000), sizeLog2: 21)
    try check("0000000005000030 03f02f0000000000", large)
    #expect(large.addresses == IOVA(0x20_0000)...IOVA(0x3f_ffff))
    let all = A.InvalidatePagesCommand(domainID: 5)
    try check("0000000005000030 03f0ffffffffff7f", all)
    #expect(all.addresses == IOVA(0)...IOVA(.max))
  }

  @Test func `C8: translations of a PASID go`() throws {
    let all = A.InvalidatePagesCommand(domainID: 5, pasid: PASID(0x1_2345))
    try check("4523010005000030 07f0ffffffffff7f", all)
    #expect(all.pasid == PASID(0x1_2345))
  }

  @Test func `C9 and C10: a device drops what it keeps`() throws {
    let plain = A.InvalidateDeviceTLBCommand(Self.device)
    try check("0003002000030040 01f0ffffffffff7f", plain)
    #expect(plain.device == Self.device && plain.queueID == 0x300 && plain.pendingLimit == 32)
    #expect(plain.pasid == nil && plain.addresses == IOVA(0)...IOVA(.max))
    let guest = A.InvalidateDeviceTLBCommand(Self.device, pasid: PASID(0xabcd))
    try check("0003ab200003cd40 05f0ffffffffff7f", guest)
    #expect(guest.pasid == PASID(0xabcd))
    #expect(
      A.InvalidateDeviceTLBCommand(Self.device, pasid: PASID(0xf_1234)).pasid == PASID(0xf_1234))
  }

  @Test func `C12: pages are translated ahead`() throws {
    let prefetch = A.PrefetchPagesCommand(
      Requester(rawValue: 0x20), address: IOVA(0x1234_5000), count: 4)
    try check("2000000400000060 0050341200000000", prefetch)
    #expect(prefetch.count == 4 && prefetch.addresses.lowerBound == IOVA(0x1234_5000))
    #expect(!prefetch.invalidates && prefetch.pasid == nil)
  }

  @Test func `C13 and C14: page requests are answered`() throws {
    let success = A.CompletePageRequestCommand(
      Self.device, pasid: PASID(7), tag: 0x123, response: 0)
    try check("0003000007000070 0400000023010000", success)
    #expect(success.tag == 0x123 && success.response == 0 && success.pasid == PASID(7))
    let failure = A.CompletePageRequestCommand(
      Self.device, pasid: PASID(7), tag: 0x123, response: 15)
    try check("0003000007000070 0400000023f10000", failure)
    #expect(failure.response == 15)
  }

  @Test func `C15: everything goes`() throws {
    try check("0000000000000080 0000000000000000", A.InvalidateAllCommand())
  }

  /// All bits that the manual gives no name, by command.
  @Test(arguments: [
    (0x1, 0x0ff0_0000_0000_0000, 0),
    (0x2, 0x0fff_ffff_ffff_0000, UInt64.max),
    (0x3, 0x0fff_0000_fff0_0000, 0x0ff8),
    (0x4, 0, 0x0fca),
    (0x5, 0x0fff_ffff_ffff_0000, UInt64.max),
    (0x6, 0x0ff0_0000_00ff_0000, 0x0fea),
    (0x7, 0x0ff0_0000_ffff_0000, 0xffff_0e00_ffff_fffb),
    (0x8, 0x0fff_ffff_ffff_ffff, UInt64.max),
  ])
  func `a command's reserved bits are those without a name`(
    code: UInt8, low: UInt64, high: UInt64
  ) throws {
    func masks<Command: AMDViCommand>(_: Command.Type, _ rules: A.CommandRules) -> [UInt64] {
      let masks = Command.reservedMasks(rules)
      return [masks.low, masks.high]
    }
    let format = try #require(A.CommandCode(rawValue: code).format)
    #expect(masks(format, .permissive) == [low, high])
    // Without the features that fields belong to.
    let plain = A.CommandRules(A.ExtendedFeatures(rawValue: 0))
    let more: UInt64 = [0x3: 0x4, 0x4: 0x34, 0x6: 0x4, 0x7: 0x4][code] ?? 0
    #expect(masks(format, plain) == [low, high | more])
    #expect(A.CommandRules(A.ExtendedFeatures(rawValue: 0x40_0000_0000_0010)) == .permissive)
  }

  @Test func `codes without a layout have none`() {
    for code: UInt8 in [0, 9, 10, 11, 12, 13, 14, 15] {
      #expect(A.CommandCode(rawValue: code).format == nil)
    }
  }

  @Test func `an address without a clear bit names everything`() {
    let command = A.InvalidatePagesCommand(low: 0x3 << 60, high: 0xffff_ffff_ffff_f001)
    #expect(command.addresses == IOVA(0)...IOVA(.max))
    let half = A.InvalidatePagesCommand(low: 0x3 << 60, high: 0xbfff_ffff_ffff_f001)
    #expect(half.addresses == IOVA(1 << 63)...IOVA(.max))
    let pages = A.InvalidatePagesCommand(low: 0x3 << 60, high: 0x2001)
    #expect(pages.addresses == IOVA(0x2000)...IOVA(0x3fff))
  }

  @Test(arguments: 12...64)
  func `a block is read as it was coded`(sizeLog2: Int) {
    let address = IOVA(0x9234_5678_9abc_d000)
    let command = A.InvalidatePagesCommand(domainID: 0, address: address, sizeLog2: sizeLog2)
    let mask: UInt64 = sizeLog2 == 64 ? .max : 1 << UInt64(sizeLog2) - 1
    #expect(command.addresses.lowerBound.rawValue == 0x9234_5678_9abc_d000 & ~mask)
    #expect(command.addresses.upperBound.rawValue == 0x9234_5678_9abc_d000 | mask)
  }

  @Test func `E17: a page request is logged`() throws {
    let bytes = Self.bytes("0003452323076011 00503412007f0000")
    let request = A.PageRequestEntry(
      Self.device, pasid: PASID(0x1_2345), address: IOVA(0x7f00_1234_5000), reads: false,
      writes: true, isUser: true, tag: 0x123, isLast: true)
    #expect(request.bytes == bytes)
    let read = try entry(A.PageRequestEntry.self, from: bytes)
    #expect(read == request && read.code == 1)
    #expect(read.device == Self.device && read.pasid == PASID(0x1_2345))
    #expect(read.address.rawValue == 0x7f00_1234_5000 && read.tag == 0x123 && read.isLast)
    #expect(read.writes && read.isUser && !read.reads && !read.executes)
  }

  @Test func `an interrupt of a guest is logged`() {
    let entry = A.GuestInterruptLogEntry(tag: 0xcafe, device: Self.device)
    #expect(entry.rawValue == 0x1000_0300_0000_cafe)
    #expect(entry.code == 1 && entry.tag == 0xcafe && entry.device == Self.device)
  }
}
