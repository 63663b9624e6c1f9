import IOMMUFormats
import Testing

@Suite struct RegisterKindTests {
  @Test func `no two registers of a chip overlap, and all lie in its megabyte`() {
    var end: UInt64 = 0
    for register in Calgary.Register.all {
      #expect(register.offset >= end, "\(register.name)")
      #expect(register.offset % UInt64(register.byteCount) == 0)
      end = register.offset + UInt64(register.byteCount)
    }
    #expect(end <= Calgary.registerSpaceByteCount)
  }

  @Test func `a register is found by each of its bytes and by no other`() {
    for register in Calgary.Register.all {
      for byte in 0..<UInt64(register.byteCount) {
        #expect(Calgary.Register(containing: register.offset + byte) == register)
      }
    }
    for offset in [0 as UInt64, 0x100, 0x500, 0x57f, 0x5a0, 0x4024, 0x8000, 0xc110, 0xffff8, .max] {
      #expect(Calgary.Register(containing: offset) == nil)
    }
  }

  @Test(arguments: Calgary.RegisterKind.allCases)
  func `the fields of a register tile it`(kind: Calgary.RegisterKind) {
    var next = 0
    for field in kind.fields {
      #expect(field.bits.lowerBound == next)
      next = field.bits.upperBound + 1
    }
    #expect(next == 8 * kind.description.byteCount)
  }

  @Test func `registers of the CalIOC2's flush and error dump`() {
    #expect(Calgary.Register(.pageMigrationDebug, 0).offset == 0x8da0)
    #expect(Calgary.Register(.pageMigrationControl, 1).offset == 0x9da8)
    #expect(Calgary.Register(.saviorL2, 3).offset == 0xbdb0)
    #expect(Calgary.Register(.csmr, 0).offset == 0x8290)
    #expect(Calgary.Register(.mck, 0).offset == 0x8800)
    #expect(Calgary.Register(.error0, 0).offset == 0x8810)
    #expect(Calgary.Register(.error6, 0).offset == 0x8870)
    #expect(Calgary.Register(.rootComplexStatus, 0).offset == 0x8cb0)
    #expect(Calgary.Register(.chipConfiguration).offset == 0x108)
    #expect(Calgary.Register(.chipConfiguration).name == "CCR")
    #expect(Calgary.Register(.tableAddress, 2).name == "TAR2")
    #expect(Calgary.Register(.plssr, 1).name == "PHB1.PLSSR")
  }

  @Test func `T24: the queue is idle by its first byte alone`() throws {
    #expect(
      try entry(Calgary.SplitQueueRegister.self, from: hexdump("ff 00 12 34 56 78 9a bc")).isIdle)
    #expect(
      try !entry(Calgary.SplitQueueRegister.self, from: hexdump("7f ff ff ff ff ff ff ff")).isIdle)
    #expect(
      Calgary.SplitQueueRegister(rawValue: 0x7f00_0000_0000_0012).becomingIdle.rawValue
        == 0xff00_0000_0000_0012)
  }

  @Test func `T26: the first window, from its first to its last byte`() {
    let window = Calgary.HostBridgeWindow.memory1(low: 0xe800_0000, high: 0, last: 0xfebf_ffff)
    #expect(window == IOVA(0xe800_0000)..<IOVA(0xfec0_0000))
    #expect(window.map { $0.byteCount >> 12 } == 93_184)
    // A last address of 0 stands for the end of the first MiB.
    #expect(Calgary.HostBridgeWindow.memory1(low: 0, high: 0, last: 0) == IOVA(0)..<IOVA(0x10_0000))
    #expect(Calgary.HostBridgeWindow.memory1(low: 0x20_0000, high: 0, last: 0) == nil)
    #expect(
      Calgary.HostBridgeWindow.memory2(low: 0, high: 1, lastLow: 0xffff_ffff, lastHigh: 0xffff_ffff)
        == IOVA(1 << 32)..<IOVA(.max))
  }
}

@Suite struct RioTableTests {
  typealias Table = Calgary.RioTable

  // T34, from the header on.
  static let bytes = hexdump(
    """
    03 01 02
    00 00 00 e0 fd ff ff ff ff ff ff 01
    02 00 00 a0 fd 04 00 00 00 ff ff 01 01 00 01
    03 00 00 b0 fd 05 00 00 01 ff ff 03 01 01 01
    """)

  @Test func `T34: two Calgary chips of one chassis`() throws {
    let table = try Table(bytes: Self.bytes)
    #expect(table.version == .three)
    #expect(table.calgaryBases == [PhysicalAddress(0xfda0_0000), PhysicalAddress(0xfdb0_0000)])
    #expect(table.rioNodes.map(\.identifier) == [2, 3])
    #expect(table.rioNodes.map(\.kind) == [.compatibilityCalgary, .alternateCalgary])
    #expect(table.rioNodes[1].firstSlot == 3)
    #expect(table.scalabilityNodes[0].base == 0xfde0_0000)
    #expect(table.scalabilityNodes[0].chassis == 1)
    #expect(table.bytes == Self.bytes)
  }

  @Test func `the records of version 2 are shorter`() throws {
    let bytes = hexdump(
      """
      02 01 01
      00 00 00 e0 fd ff ff ff ff ff ff
      02 00 00 a0 fd 04 00 00 00 ff ff 01 01
      """)
    let table = try Table(bytes: bytes)
    #expect(table.calgaryBases == [PhysicalAddress(0xfda0_0000)])
    #expect(table.scalabilityNodes[0].chassis == 0)
    #expect(table.bytes == bytes)
  }

  @Test func `chips of other types are not Calgary`() throws {
    var bytes = Self.bytes
    bytes[15 + 5] = 2
    bytes[30 + 5] = 9
    let table = try Table(bytes: bytes)
    #expect(table.calgaryBases.isEmpty)
    #expect(table.rioNodes.map(\.kind) == [.hurricaneRIOIB, nil])
  }

  @Test func `a malformed table is an error that says why`() {
    func error(_ bytes: [UInt8], nodeLimit: Int = 64) -> Calgary.RioTableError? {
      do throws(Calgary.RioTableError) {
        _ = try Table(bytes: bytes, nodeLimit: nodeLimit)
        return nil
      } catch {
        return error
      }
    }
    #expect(error([]) == .truncated(needed: 3, found: 0))
    #expect(error([4, 0, 0]) == .unknownVersion(4))
    #expect(error([3, 65, 0]) == .tooManyNodes(65, limit: 64))
    #expect(error(Array(Self.bytes.dropLast())) == .truncated(needed: 45, found: 44))
    #expect(error([3, 0, 255]) == .truncated(needed: 3 + 255 * 15, found: 3))
    #expect(error([3, 0, 0]) == nil)
  }
}
