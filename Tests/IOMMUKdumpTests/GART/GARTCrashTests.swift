import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import Testing

@testable import IOMMUKdump

/// What becomes of DMA after a crash on a GART machine, by what the second kernel does to the
/// GART. Judged by the bytes that devices wrote.
@Suite struct GARTCrashTests {
  /// A machine after its crash: buffer A mapped, B unmapped again, C handed out as it is.
  private struct Crashed {
    var machine: GARTMachine
    var driver: GARTDriver
    var mapped: MappedBuffer
    var unmapped: MappedBuffer
    var direct: MappedBuffer
    /// Low crash memory, where the second kernel's tables go.
    static let high: [Range<UInt64>] = [0x2f00_0000..<0x3f00_0000, 0x1_8000_0000..<0x1_8800_0000]

    init(
      _ machine: GARTMachine, version: GARTDriverVersion = .linux2_6_27
    ) throws {
      self.machine = machine
      driver = try machine.primary { $0.version = version }
      mapped = try driver.map(0x1_4000_0000, 4096)
      unmapped = try driver.map(0x1_5000_0000, 4096)
      direct = try driver.map(0x1_6000_0000, 4096, for: GARTMachine.disk)
      driver.unmap(unmapped)
    }

    /// A device goes on with what it was given; where its bytes went, and what stopped it.
    func leftover(_ buffer: MappedBuffer) -> (landed: PhysicalAddress?, fault: Fault?) {
      var bus = machine.bus()
      let bytes: [UInt8] = [0xde, 0xad, 0xbe, 0xef]
      let record = bus.write(bytes, by: buffer.device, at: buffer.iova)
      guard let landed = record.hits.first?.physical?.lowerBound else {
        return (nil, record.fault)
      }
      #expect(machine.memory.bytes(at: landed, count: 4) == bytes)
      return (landed, nil)
    }
  }

  // Row a: the window page is still mapped. Row b: it was unmapped. Row a': no window at all.

  @Test func `2 6 27 leaves the GART as it is, and leftover DMA reaches its buffers`() throws {
    let crashed = try Crashed(GARTMachine())
    let scratch = crashed.driver.active!.scratch.page
    let writes = crashed.machine.hardware.configurationWrites.count
    let capture = try crashed.machine.capture(.linux2_6_27)
    #expect(capture.idleness == .notNeeded)
    #expect(crashed.machine.hardware.configurationWrites.count == writes)
    #expect(crashed.machine.registers(0x90) == [0x03])
    #expect(crashed.leftover(crashed.mapped).landed == PhysicalAddress(0x1_4000_0000))
    #expect(crashed.leftover(crashed.unmapped).landed == scratch)
    #expect(crashed.leftover(crashed.direct).landed == PhysicalAddress(0x1_6000_0000))
  }

  @Test func `the same with a translation cached: an unmapped page is still the old buffer`() throws
  {
    let machine = try GARTMachine { $0.cache = .unlimited }
    let driver = try machine.primary()
    let mapped = try driver.map(0x1_5000_0000, 4096)
    _ = machine.hardware.translate(mapped.iova, byteCount: 1, access: .read, in: machine.memory)
    driver.unmap(mapped)
    _ = try machine.capture(.linux2_6_27)
    #expect(
      machine.hardware.translate(mapped.iova, byteCount: 4, access: .write, in: machine.memory)
        == .mapped(PhysicalAddress(0x1_5000_0000), byteCount: 4))
  }

  @Test func `today the GART goes off, and the window is a hole that nobody answers`() throws {
    let crashed = try Crashed(GARTMachine(nodeCount: 2), version: .linux7_0)
    let capture = try crashed.machine.capture(.linux7_0)
    #expect(capture.idleness == .notNeeded)
    #expect(crashed.machine.registers(0x90) == [0x42, 0x42])
    #expect(
      crashed.machine.registers(0x98)
        == [UInt32](repeating: UInt32(crashed.driver.active!.table.rawValue >> 8), count: 2))
    for buffer in [crashed.mapped, crashed.unmapped] {
      let result = crashed.leftover(buffer)
      #expect(result.landed == nil && result.fault == nil)
    }
    #expect(crashed.leftover(crashed.direct).landed == PhysicalAddress(0x1_6000_0000))
  }

  @Test func `today, with an aperture over RAM, leftovers scribble on the RAM behind it`() throws {
    let crashed = try Crashed(GARTMachine(control: 0, base: 0))
    #expect(crashed.mapped.iova == IOVA(0x2002_0000))
    _ = try crashed.machine.capture(.linux7_0)
    #expect(crashed.machine.registers(0x90) == [0x02])
    #expect(crashed.leftover(crashed.mapped).landed == PhysicalAddress(0x2002_0000))
    #expect(crashed.machine.bytes(at: 0x1_4000_0000, count: 4) == [0, 0, 0, 0])
  }

  @Test func `2 6 27 with memory above 4 GiB starts anew, and leftovers meet its scratch page`()
    throws
  {
    let crashed = try Crashed(GARTMachine(crashKernel: Crashed.high))
    let oldTable = crashed.driver.active!.table
    let capture = try crashed.machine.capture(.linux2_6_27)
    let active = try #require(capture.active)
    #expect(active.table != oldTable)
    #expect(
      crashed.machine.map.crashKernelOverlaps(
        active.table..<PhysicalAddress(active.table.rawValue + 1)))
    #expect(active.aperture.base == 0xd000_0000 && !active.aperture.isFixed)
    let landed = try #require(crashed.leftover(crashed.mapped).landed)
    #expect(landed == active.scratch.page)
    #expect(crashed.machine.map.crashKernelOverlaps(landed..<PhysicalAddress(landed.rawValue + 4)))
    #expect(crashed.machine.bytes(at: 0x1_4000_0000, count: 4) == [0, 0, 0, 0])
    // The first kernel's table is still there; no register names it.
    #expect(crashed.machine.registers(0x98) == [UInt32(active.table.rawValue >> 8)])
    #expect(crashed.machine.bytes(at: oldTable.rawValue + 128, count: 4) == hexBytes("13 00 00 40"))
  }

  @Test func `today with memory above 4 GiB leftovers meet invalid entries`() throws {
    let crashed = try Crashed(GARTMachine(crashKernel: Crashed.high), version: .linux7_0)
    let capture = try crashed.machine.capture(.linux7_0)
    #expect(capture.active != nil)
    #expect(crashed.machine.registers(0x90) == [0x43])
    #expect(crashed.leftover(crashed.mapped).fault == .gart(.invalidEntry))
    #expect(crashed.leftover(crashed.unmapped).fault == .gart(.invalidEntry))
    #expect(crashed.leftover(crashed.direct).landed == PhysicalAddress(0x1_6000_0000))
  }

  // Row c: a wild device.

  @Test(arguments: GARTDriverVersion.allCases)
  func `a wild address in the crash kernel passes whatever the GART does`(
    version: GARTDriverVersion
  ) throws {
    let crashed = try Crashed(GARTMachine())
    _ = try crashed.machine.capture(version)
    var wild = crashed.direct
    wild.iova = IOVA(0x200_0000)
    #expect(crashed.leftover(wild).landed == PhysicalAddress(0x200_0000))
  }

  // Rows d and e: DMA of the second kernel itself.

  @Test(arguments: GARTDriverVersion.allCases)
  func `buffers of the second kernel below 4 GiB need no GART`(version: GARTDriverVersion) throws {
    let crashed = try Crashed(GARTMachine())
    let capture = try crashed.machine.capture(version)
    let buffer = try capture.map(0x400_0000, 4096)
    #expect(buffer.iova == IOVA(0x400_0000))
    #expect(crashed.leftover(buffer).landed == PhysicalAddress(0x400_0000))
  }

  @Test func `above 4 GiB a 32-bit device needs the GART, and a new one helps`() throws {
    let low = try Crashed(GARTMachine())
    let idle = try low.machine.capture(.linux2_6_27)
    #expect(throws: MappingFailure.self) { try idle.map(0x1_8200_0000, 4096) }
    let crashed = try Crashed(GARTMachine(crashKernel: Crashed.high))
    let capture = try crashed.machine.capture(.linux2_6_27)
    let buffer = try capture.map(0x1_8200_0000, 4096)
    #expect(buffer.iova == IOVA(0xd002_0000))
    #expect(crashed.leftover(buffer).landed == PhysicalAddress(0x1_8200_0000))
  }

  @Test func `a new window gives out numbers that leftover devices still use`() throws {
    let crashed = try Crashed(GARTMachine(crashKernel: Crashed.high))
    let capture = try crashed.machine.capture(.linux2_6_27)
    let buffer = try capture.map(0x1_8200_0000, 4096)
    // The first page of the window for both kernels: old DMA lands in the new kernel's buffer.
    #expect(crashed.mapped.iova == buffer.iova)
    #expect(crashed.leftover(crashed.mapped).landed == PhysicalAddress(0x1_8200_0000))
  }

  // The crash path and the dumper's view.

  @Test func `Q12: the dumper's reads go through a live aperture until the CPU is kept out`() throws
  {
    let crashed = try Crashed(GARTMachine(control: 0, base: 0))
    let old = PhysicalAddress(0x1_4000_0000)
    crashed.machine.memory.store(0x1234_5678 as UInt32, at: old)
    func dumperReads() -> Translation {
      crashed.machine.hardware.translate(
        IOVA(0x2002_0000), byteCount: 4, access: .read, by: .cpu, in: crashed.machine.memory)
    }
    #expect(dumperReads() == .mapped(old, byteCount: 4))
    // DisGartCpu, as proposed in October 2008: 0x13.
    crashed.machine.hardware.writeConfiguration(
      0x13, to: Requester("00:18.3")!, at: 0x90)
    #expect(dumperReads() == .mapped(PhysicalAddress(0x2002_0000), byteCount: 4))
    #expect(crashed.leftover(crashed.mapped).landed == old)
  }

  @Test func `shutdown before kexec is not the crash path`() throws {
    let crashed = try Crashed(GARTMachine())
    #expect(crashed.machine.registers(0x90) == [0x03])
    crashed.driver.shutDown()
    #expect(crashed.machine.registers(0x90) == [0x02])
    #expect(crashed.leftover(crashed.mapped).landed == nil)
  }
}
