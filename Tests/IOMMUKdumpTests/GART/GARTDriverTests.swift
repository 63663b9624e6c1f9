import IOMMUFormats
import IOMMUHardware
import IOMMUTestSupport
import IOMMUTranslation
import Testing

@testable import IOMMUKdump

@Suite struct GARTDriverTests {
  private let flat = hexBytes

  // The worked example: order 1 at 0xd0000000, AGP active, 2.6.27.

  private func example() throws -> (machine: GARTMachine, driver: GARTDriver, table: UInt64) {
    let machine = try GARTMachine(topology: agpBridge(base: 0xd000_0000, size: 0xf30))
    let driver = try machine.primary()
    return (machine, driver, driver.active!.table.rawValue)
  }

  @Test func `the window of the example is the upper half, from index 0x2000`() throws {
    let (_, driver, _) = try example()
    #expect(driver.active?.window == 0xd200_0000..<0xd400_0000)
    #expect(driver.active?.bitmap.count == 8192)
    #expect(driver.active?.firstIndex == 0x2000)
    #expect(driver.errorAddress == IOVA(0xd200_0000))
  }

  @Test func `the first mapping of the example writes these twelve bytes`() throws {
    let (machine, driver, table) = try example()
    let mapped = try driver.map(0x1_2345_6abc, 0x1800)
    #expect(mapped.iova == IOVA(0xd202_0abc))
    #expect(
      machine.bytes(at: table + 0x8080, count: 12)
        == flat("13 60 45 23 13 70 45 23 13 80 45 23"))
    driver.unmap(mapped)
    let scratch = driver.active!.scratch.bytes
    #expect(machine.bytes(at: table + 0x8080, count: 12) == scratch + scratch + scratch)
    #expect(scratch[0] & 3 == 3)
  }

  @Test func `after unmapping the example's entries name the scratch page at 0x7abc000`() throws {
    let machine = try GARTMachine()
    let pages = PlacedPages(
      memory: machine.memory, map: machine.map,
      places: [.table: PhysicalAddress(0x1a4_0000), .scratchPage: PhysicalAddress(0x7ab_c000)])
    let driver = try GARTDriver(pages: pages, map: machine.map, hardware: machine.hardware)
    #expect(machine.registers(0x98) == [0x0001_a400])
    let mapped = try driver.map(0x1_2345_6abc, 0x1800)
    driver.unmap(mapped)
    #expect(
      machine.bytes(at: 0x1a4_0080, count: 12)
        == flat("03 c0 ab 07 03 c0 ab 07 03 c0 ab 07"))
    #expect(throws: SetUpError.outOfMemory(what: "the GATT")) {
      try GARTDriver(
        pages: PlacedPages(memory: machine.memory, map: machine.map, places: [:]),
        map: machine.map, hardware: machine.hardware)
    }
  }

  @Test func `a device reads the example's page through entry 0x2003`() throws {
    let (machine, _, table) = try example()
    machine.memory.store(0x2345_6013 as UInt32, at: PhysicalAddress(table + 0x800c))
    machine.memory.store(0x1122_3344 as UInt32, at: PhysicalAddress(0x1_2345_6abc))
    var bus = machine.bus()
    let record = bus.read(4, by: GARTMachine.controller, at: IOVA(0xd200_3abc))
    #expect(record.bytesRead == [0x44, 0x33, 0x22, 0x11])
    #expect(record.hits.first?.physical?.lowerBound == PhysicalAddress(0x1_2345_6abc))
  }

  @Test func `Q3: 8,159 pages can be had, then the driver is told so`() throws {
    let (_, driver, _) = try example()
    var count = 0
    while (try? driver.map(0x1_4000_0000, 4096)) != nil { count += 1 }
    #expect(count == 8159)
    #expect(throws: MappingFailure.full("GART aperture")) { try driver.map(0x1_4000_0000, 4096) }
  }

  @Test func `the table's other half is AGP's scratch page without the valid bit`() throws {
    let (machine, driver, table) = try example()
    let agp = driver.active!.agpScratch
    #expect(agp.rawValue & 3 == 0 && agp.rawValue != 0)
    for index: UInt64 in [0, 1, 0x1fff, 0x2000, 0x201f] {
      #expect(machine.bytes(at: table + index * 4, count: 4) == agp.bytes)
    }
    #expect(machine.bytes(at: table + 0x2020 * 4, count: 4) == driver.active!.scratch.bytes)
    #expect(machine.bytes(at: table + 0x3fff * 4, count: 4) == driver.active!.scratch.bytes)
  }

  @Test func `AGP binds into its half only, and unbinding leads nowhere again`() throws {
    let (machine, driver, table) = try example()
    let flushes = machine.hardware.nodes[0].flushCount
    #expect(driver.bindAGP([PhysicalAddress(0x1_2345_6000), PhysicalAddress(0x7000)], at: 5))
    #expect(machine.bytes(at: table + 20, count: 8) == flat("13 60 45 23 03 70 00 00"))
    #expect(machine.hardware.nodes[0].flushCount == flushes + 1)
    #expect(!driver.bindAGP([PhysicalAddress(0x8000)], at: 6))
    #expect(!driver.bindAGP([PhysicalAddress(0x8000)], at: 0x2000))
    #expect(!driver.bindAGP([PhysicalAddress(0x8000), PhysicalAddress(0x9000)], at: 0x1fff))
    #expect(!driver.bindAGP([], at: 1) && !driver.bindAGP([PhysicalAddress(0)], at: -1))
    var bus = machine.bus()
    #expect(bus.write([1], by: GARTMachine.disk, at: IOVA(0xd000_6010)).fault == nil)
    driver.unbindAGP(5..<7)
    #expect(machine.bytes(at: table + 24, count: 4) == driver.active!.agpScratch.bytes)
    bus = machine.bus()
    #expect(
      bus.write([1], by: GARTMachine.disk, at: IOVA(0xd000_6010)).fault
        == .gart(.invalidEntry))
  }

  // Free entries

  @Test func `Q5: 32 emergency entries stay invalid, the rest is one scratch page`() throws {
    let machine = try GARTMachine()
    let driver = try machine.primary()
    let table = driver.active!.table.rawValue
    #expect(machine.bytes(at: table, count: 128) == [UInt8](repeating: 0, count: 128))
    let scratch = driver.active!.scratch.bytes
    for index: UInt64 in [32, 33, 0x3fff] {
      #expect(machine.bytes(at: table + index * 4, count: 4) == scratch)
    }
    // The error address leads nowhere.
    var bus = machine.bus()
    let record = bus.write([1], by: GARTMachine.controller, at: driver.errorAddress)
    #expect(record.fault == .gart(.invalidEntry))
  }

  @Test func `Q6: today fresh entries are invalid and become scratch after a use`() throws {
    let machine = try GARTMachine()
    let driver = try machine.primary { $0.version = .linux7_0 }
    let table = driver.active!.table.rawValue
    #expect(machine.bytes(at: table, count: 0x1_0000) == [UInt8](repeating: 0, count: 0x1_0000))
    let mapped = try driver.map(0x1_4000_0000, 4096)
    #expect(mapped.iova == IOVA(0xd000_0000))
    #expect(driver.errorAddress == IOVA(.max))
    driver.unmap(mapped)
    #expect(machine.bytes(at: table, count: 4) == driver.active!.scratch.bytes)
  }

  @Test func `digits choose the last megabytes, what lies before stays zero`() throws {
    let machine = try GARTMachine()
    let driver = try machine.primary {
      $0.version = .linux4_4
      $0.windowByteCount = 16 << 20
    }
    #expect(driver.active?.window == 0xd300_0000..<0xd400_0000)
    let table = driver.active!.table.rawValue
    #expect(machine.bytes(at: table + 0x2fff * 4, count: 4) == [0, 0, 0, 0])
    #expect(try driver.map(0x1_4000_0000, 1).iova == IOVA(0xd302_0000))
  }

  // What goes through the GART

  @Test(arguments: [
    (GARTDriverVersion.linux2_6_27, 0xffff_f000 as UInt64, 0x1000 as UInt64, true),
    (.linux2_6_27, 0xffff_e000, 0x1000, false), (.linux2_6_27, 0xffff_fff0, 0xf, false),
    (.linux7_0, 0xffff_f000, 0x1000, false), (.linux7_0, 0xffff_f000, 0x2000, true),
    (.linux4_4, 0x1_0000_0000, 0x10, true),
  ])
  func `Q8: what a device reaches is handed out as it is`(
    version: GARTDriverVersion, address: UInt64, byteCount: UInt64, isRemapped: Bool
  ) throws {
    let machine = try GARTMachine()
    let driver = try machine.primary { $0.version = version }
    let mapped = try driver.map(address, byteCount)
    #expect((mapped.iova.rawValue != address) == isRemapped)
    #expect(try driver.map(address, byteCount, for: GARTMachine.disk).iova == IOVA(address))
  }

  @Test func `force sends everything through, and what does not fit goes without`() throws {
    let machine = try GARTMachine()
    let driver = try machine.primary { $0.isForced = true }
    #expect(try driver.map(0x1000_0000, 4096).iova == IOVA(0xd002_0000))
    // 64 MiB do not fit in the window; the device reaches them anyway.
    #expect(try driver.map(0x1000_0000, 64 << 20).iova == IOVA(0x1000_0000))
  }

  @Test func `Q2: 2 6 27 maps 1 TiB to page 0x1000, later versions refuse`() throws {
    let machine = try GARTMachine()
    let driver = try machine.primary()
    let mapped = try driver.map(0x100_0000_0000, 16)
    var bus = machine.bus()
    let record = bus.write([0xab], by: GARTMachine.controller, at: mapped.iova)
    #expect(record.hits.first?.physical?.lowerBound == PhysicalAddress(0x1000))
    #expect(machine.bytes(at: 0x1000, count: 1) == [0xab])
    let other = try GARTMachine()
    let later = try other.primary { $0.version = .linux7_0 }
    #expect(throws: MappingFailure.self) { try later.map(0x100_0000_0000, 16) }
    #expect(throws: MappingFailure.self) { try later.map(0xff_ffff_f000, 0x1001) }
    #expect(try later.map(0xff_ffff_f000, 0x1000).iova == IOVA(0xd000_0000))
  }

  @Test func `a full window stops 2 6 27 beyond 128 KiB, and says what would be lost`() throws {
    let machine = try GARTMachine()
    let driver = try machine.primary { $0.windowByteCount = 2 << 20 }
    _ = try driver.map(0x1_4000_0000, 460 << 12)
    #expect(throws: MappingFailure.full("GART aperture")) {
      try driver.map(0x1_5000_0000, 128 << 10)
    }
    #expect(throws: MappingFailure.panic("memory would be corrupted")) {
      try driver.map(0x1_5000_0000, (128 << 10) + 1, direction: .fromDevice)
    }
    #expect(throws: MappingFailure.panic("random memory would be sent to the device")) {
      try driver.map(0x1_5000_0000, (128 << 10) + 1, direction: .toDevice)
    }
    #expect(
      "\(MappingFailure.panic("memory would be corrupted"))"
        == "kernel panic: memory would be corrupted")
  }

  @Test func `panic stops at the first mapping that does not fit`() throws {
    let machine = try GARTMachine()
    let driver = try machine.primary {
      $0.windowByteCount = 2 << 20
      $0.panicsWhenFull = true
    }
    #expect(throws: MappingFailure.panic("the GART window is full")) {
      try driver.map(0x1_5000_0000, 2 << 20)
    }
  }

  @Test func `what the driver did not give out is not unmapped`() throws {
    let machine = try GARTMachine()
    let driver = try machine.primary()
    let table = driver.active!.table
    var mapped = try driver.map(0x1_4000_0000, 4096)
    for iova: UInt64 in [0xcfff_f000, 0xd000_0000, 0xd001_f000, 0xd400_0000] {
      mapped.iova = IOVA(iova)
      driver.unmap(mapped)
    }
    #expect(machine.bytes(at: table.rawValue, count: 128) == [UInt8](repeating: 0, count: 128))
    #expect(machine.bytes(at: table.rawValue + 128, count: 4) == flat("13 00 00 40"))
  }

  // Scatter lists

  private func list(_ buffers: [(UInt64, UInt64)]) -> [Range<PhysicalAddress>] {
    buffers.map { PhysicalAddress($0.0)..<PhysicalAddress($0.0 + $0.1) }
  }

  @Test func `without merging each buffer is a segment, and what is reached goes as it is`() throws
  {
    let machine = try GARTMachine()
    let driver = try machine.primary()
    let mapped = try driver.map(
      list: list([(0x1_4000_0000, 4096), (0x1000_0abc, 100), (0x1_5000_0800, 4096)]),
      for: GARTMachine.controller, direction: .toDevice)
    #expect(
      mapped == [
        ListedBuffer(iova: IOVA(0xd002_0000), segment: 0),
        ListedBuffer(iova: IOVA(0x1000_0abc), segment: 1),
        ListedBuffer(iova: IOVA(0xd002_1800), segment: 2),
      ])
    // One flush for the list, one at boot.
    #expect(machine.hardware.nodes[0].flushCount == 2)
  }

  @Test func `merged buffers follow each other on the bus, up to 64 KiB`() throws {
    let machine = try GARTMachine()
    let driver = try machine.primary { $0.mergesLists = true }
    let mapped = try driver.map(
      list: list([
        (0x1_4000_0800, 0x800), (0x1_5000_0000, 0x1000), (0x1_6000_0000, 0x100),
        // Starts inside a page; follows one that ends inside a page; too long together.
        (0x1_7000_0100, 0xf00), (0x1_8000_0000, 0xe000), (0x1_9000_0000, 0x2000),
      ]), for: GARTMachine.controller, direction: .fromDevice)
    #expect(
      mapped == [
        ListedBuffer(iova: IOVA(0xd002_0800), segment: 0),
        ListedBuffer(iova: IOVA(0xd002_1000), segment: 0),
        ListedBuffer(iova: IOVA(0xd002_2000), segment: 0),
        ListedBuffer(iova: IOVA(0xd002_3100), segment: 1),
        ListedBuffer(iova: IOVA(0xd002_4000), segment: 1),
        ListedBuffer(iova: IOVA(0xd003_2000), segment: 2),
      ])
    for (address, target) in [
      (0xd002_0800 as UInt64, 0x1_4000_0800 as UInt64), (0xd002_1fff, 0x1_5000_0fff),
      (0xd002_3100, 0x1_7000_0100), (0xd003_1fff, 0x1_8000_dfff),
    ] {
      #expect(
        machine.hardware.translate(
          IOVA(address), byteCount: 1, access: .read, in: machine.memory)
          == .mapped(PhysicalAddress(target), byteCount: 1))
    }
  }

  @Test func `a list that does not fit merged is tried buffer by buffer, or not at all`() throws {
    let machine = try GARTMachine()
    let driver = try machine.primary {
      $0.windowByteCount = 2 << 20
      $0.mergesLists = true
    }
    // Leaves every second page of 32 free: no two in a row.
    var live: [MappedBuffer] = []
    while let mapped = try? driver.map(0x1_4000_0000, 4096) { live.append(mapped) }
    for index in stride(from: 0, to: 32, by: 2) { driver.unmap(live[index]) }
    let buffers = list([(0x1_4000_0000, 4096), (0x1_5000_0000, 4096)])
    let mapped = try driver.map(list: buffers, for: GARTMachine.controller, direction: .toDevice)
    #expect(mapped.map(\.segment) == [0, 1])
    #expect(mapped.map(\.iova) == [live[0].iova, live[2].iova])
    let many = list((0..<20).map { (0x1_4000_0000 + $0 * 0x10_0000, 4096) })
    #expect(throws: MappingFailure.full("GART aperture")) {
      try driver.map(list: many, for: GARTMachine.controller, direction: .toDevice)
    }
    // Nothing of the failed list is left.
    #expect(try driver.map(0x1_4000_0000, 4096).iova == live[4].iova)
  }

  @Test func `what a list took before it found no room is given back before the second try`() throws
  {
    let machine = try GARTMachine()
    let driver = try machine.primary {
      $0.windowByteCount = 2 << 20
      $0.mergesLists = true
    }
    var live: [MappedBuffer] = []
    while let mapped = try? driver.map(0x1_4000_0000, 4096) { live.append(mapped) }
    for index in stride(from: 0, to: 32, by: 2) { driver.unmap(live[index]) }
    let flushCount = machine.hardware.nodes[0].flushCount
    // A page, then two in a row, for which there is no room.
    let mapped = try driver.map(
      list: list([(0x1_4000_0800, 0x100), (0x1_5000_0000, 4096), (0x1_6000_0000, 4096)]),
      for: GARTMachine.controller, direction: .toDevice)
    #expect(mapped.map(\.segment) == [0, 1, 2])
    // The search goes on behind the page that was given back.
    #expect(
      mapped.map(\.iova.rawValue) == [
        live[2].iova.rawValue + 0x800, live[4].iova.rawValue, live[6].iova.rawValue,
      ])
    #expect(machine.hardware.nodes[0].flushCount == flushCount + 2)
    let active = try #require(driver.active)
    func entry(_ iova: IOVA) -> [UInt8]? {
      let index = Int((iova.rawValue - active.aperture.base) / 4096)
      return machine.bytes(at: driver.entryAddress(active.table, index).rawValue, count: 4)
    }
    #expect(entry(live[0].iova) == entry(live[8].iova))
    #expect(entry(live[2].iova) == flat("13 00 00 40"))
    #expect(entry(live[4].iova) == flat("13 00 00 50"))
  }

  @Test func `a long segment that found no room stops the kernel though its buffer needs none`()
    throws
  {
    let driver = try GARTMachine().primary {
      $0.windowByteCount = 2 << 20
      $0.isForced = true
    }
    while (try? driver.map(0x1_4000_0000, 4096)) != nil {}
    // The second try sends the long buffer untranslated, and fails for the short one.
    let buffers = list([(0x1000_0000, 160 << 10), (0x1_5000_0000, 4096)])
    #expect(throws: MappingFailure.panic("memory would be corrupted")) {
      try driver.map(list: buffers, for: GARTMachine.controller, direction: .fromDevice)
    }
    let short = list([(0x1000_0000, 4096), (0x1_5000_0000, 4096)])
    #expect(throws: MappingFailure.full("GART aperture")) {
      try driver.map(list: short, for: GARTMachine.controller, direction: .fromDevice)
    }
  }

  @Test func `forced coherent memory is aligned to its size`() throws {
    let machine = try GARTMachine()
    let driver = try machine.primary { $0.isForced = true }
    _ = try driver.map(0x1000_0000, 4096)
    let buffer = PhysicalAddress(0x1010_0000)..<PhysicalAddress(0x1010_5000)
    // Five pages go to a multiple of eight: entry 40.
    #expect(try driver.mapCoherent(buffer, for: GARTMachine.disk).iova == IOVA(0xd002_8000))
    let free = try GARTMachine().primary()
    #expect(
      try free.mapCoherent(buffer, for: GARTMachine.disk).iova == IOVA(0x1010_0000))
  }

  @Test func `iommu= is read word by word`() {
    var options = GARTOptions()
    options.read("")
    #expect(options == GARTOptions())
    options.read("nofullflush,memaper=3,16M,noagp,panic,unknown")
    #expect(options.mergesLists && !options.isForced && !options.flushesEveryMapping)
    #expect(options.apertureOrder == 3 && options.windowByteCount == 16 << 20)
    #expect(options.ignoresAGP && options.panicsWhenFull)
    options.read("merge,memaper,fullflush,nopanic")
    #expect(options.isForced && options.apertureOrder == 1 && options.flushesEveryMapping)
    #expect(!options.panicsWhenFull)
    options.read("noforce,off,67108864")
    #expect(!options.isForced && !options.mergesLists && options.isOff)
    #expect(options.windowByteCount == 64 << 20)
    options.read("99999999999999999999,memaper=9,nomerge")
    #expect(options.windowByteCount == 64 << 20 && options.apertureOrder == 1)
  }

  // Flushes

  @Test func `every mapping flushes every node, no unmapping does`() throws {
    let machine = try GARTMachine(nodeCount: 2)
    let driver = try machine.primary()
    #expect(machine.hardware.nodes.map(\.flushCount) == [1, 1])
    let mapped = try driver.map(0x1_4000_0000, 4096)
    #expect(machine.hardware.nodes.map(\.flushCount) == [2, 2])
    driver.unmap(mapped)
    _ = try driver.map(0x1000, 4096)
    #expect(machine.hardware.nodes.map(\.flushCount) == [2, 2])
  }

  @Test func `nofullflush flushes when the search comes round`() throws {
    let machine = try GARTMachine()
    let driver = try machine.primary {
      $0.flushesEveryMapping = false
      $0.windowByteCount = 2 << 20
    }
    // 512 pages, 32 of them never given out.
    let first = try driver.map(0x1_4000_0000, 240 << 12)
    let second = try driver.map(0x1_5000_0000, 200 << 12)
    #expect(machine.hardware.nodes[0].flushCount == 1)
    driver.unmap(first)
    _ = try driver.map(0x1_6000_0000, 100 << 12)
    #expect(machine.hardware.nodes[0].flushCount == 2)
    driver.unmap(second)
  }

  @Test func `Q7: the flush writes back what 0x9c held at boot`() throws {
    let machine = try GARTMachine()
    machine.hardware.load(0x2, node: 0, at: 0x9c)
    let driver = try machine.primary()
    var bus = machine.bus()
    #expect(machine.registers(0x9c) == [0x0])
    _ = bus.write([1], by: GARTMachine.controller, at: driver.errorAddress)
    _ = try driver.map(0x1_4000_0000, 4096)
    #expect(machine.hardware.configurationWrites.last?.value == 0x3)
  }

  @Test func `Q4: between unmapping and the next flush a device still finds its old buffer`() throws
  {
    let machine = try GARTMachine { $0.cache = .unlimited }
    let driver = try machine.primary()
    let mapped = try driver.map(0x1_4000_0000, 4096)
    func answer() -> Translation {
      machine.hardware.translate(mapped.iova, byteCount: 4, access: .write, in: machine.memory)
    }
    #expect(answer() == .mapped(PhysicalAddress(0x1_4000_0000), byteCount: 4))
    driver.unmap(mapped)
    #expect(answer() == .mapped(PhysicalAddress(0x1_4000_0000), byteCount: 4))
    _ = try driver.map(0x1_5000_0000, 4096)
    #expect(answer() == .mapped(driver.active!.scratch.page, byteCount: 4))
  }

  // Suspend and shutdown

  @Test func `resume writes table, enable and flush; the aperture is firmware's`() throws {
    let machine = try GARTMachine(nodeCount: 2)
    let driver = try machine.primary()
    let mapped = try driver.map(0x1_4000_0000, 4096)
    machine.hardware.powerCycle()
    machine.hardware.load(control: .init(rawValue: 0x02), base: .init(rawValue: 0x68))
    driver.resume()
    #expect(machine.registers(0x90) == [0x03, 0x03])
    #expect(machine.registers(0x94) == [0x68, 0x68])
    #expect(machine.hardware.nodes.map(\.flushCount) == [1, 1])
    var bus = machine.bus()
    _ = bus.write([0x5a], by: GARTMachine.controller, at: mapped.iova)
    #expect(machine.bytes(at: 0x1_4000_0000, count: 1) == [0x5a])
  }

  @Test func `resume writes an aperture that the kernel had made itself`() throws {
    let machine = try GARTMachine(control: 0, base: 0)
    let driver = try machine.primary()
    machine.hardware.powerCycle()
    driver.resume()
    #expect(machine.registers(0x90) == [0x03])
    #expect(machine.registers(0x94) == [0x10])
    #expect(machine.registers(0x98) == [UInt32(driver.active!.table.rawValue >> 8)])
  }

  @Test(arguments: [
    (GARTDriverVersion.linux2_6_27, false, 0x02 as UInt32), (.linux2_6_27, true, 0x02),
    (.linux4_4, false, 0x42), (.linux4_4, true, 0x43), (.linux7_0, true, 0x43),
  ])
  func `shutdown clears GartEn and keeps the table base`(
    version: GARTDriverVersion, hasAGP: Bool, control: UInt32
  ) throws {
    let machine = try GARTMachine(
      topology: hasAGP ? agpBridge(base: 0xd000_0000, size: 0xf30) : PCI.Topology())
    let driver = try machine.primary { $0.version = version }
    driver.shutDown()
    #expect(machine.registers(0x90) == [control])
    #expect(machine.registers(0x98) == [UInt32(driver.active!.table.rawValue >> 8)])
  }

  @Test(arguments: seeds)
  func `whatever is mapped leads to its buffer, whatever is not to the scratch page`(
    seed: UInt64
  ) throws {
    var generator = SeededGenerator(seed: seed)
    let machine = try GARTMachine(nodeCount: 2)
    let driver = try machine.primary {
      $0.windowByteCount = 4 << 20
      $0.flushesEveryMapping = Bool.random(using: &generator)
    }
    var live: [MappedBuffer] = []
    for _ in 0..<600 {
      if Bool.random(using: &generator), live.count > 1 {
        driver.unmap(live.remove(at: Int.random(in: 0..<live.count, using: &generator)))
      } else {
        let start = UInt64.random(in: 0x1_0000_0000..<0x1_ffff_0000, using: &generator)
        let count = UInt64.random(in: 1..<60_000, using: &generator)
        if let mapped = try? driver.map(start, count) { live.append(mapped) }
      }
    }
    #expect(!live.isEmpty)
    var used = Set<UInt64>()
    for buffer in live {
      for offset in [0, buffer.byteCount / 2, buffer.byteCount - 1] {
        let answer = machine.hardware.translate(
          IOVA(buffer.iova.rawValue + offset), byteCount: 1, access: .read, in: machine.memory)
        let target = PhysicalAddress(buffer.buffer.lowerBound.rawValue + offset)
        #expect(answer == .mapped(target, byteCount: 1), "seed \(seed)")
      }
      let last = (buffer.iova.rawValue + buffer.byteCount - 1) >> 12
      for page in buffer.iova.pageNumber...last { #expect(used.insert(page).inserted) }
    }
    let scratch = driver.active!.scratch.page
    for page in UInt64(0xd3c2_0000 >> 12)..<(0xd400_0000 >> 12) where !used.contains(page) {
      #expect(
        machine.hardware.translate(
          IOVA(page << 12), byteCount: 1, access: .read, in: machine.memory)
          == .mapped(scratch, byteCount: 1))
    }
  }
}

/// Bytes as a hexdump shows them.
func hexBytes(_ text: String) -> [UInt8] {
  text.split(separator: " ").map { UInt8($0, radix: 16)! }
}
