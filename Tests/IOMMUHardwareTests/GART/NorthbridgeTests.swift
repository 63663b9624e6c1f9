import IOMMUFormats
import IOMMUTranslation
import Testing

@testable import IOMMUHardware

/// 64 MiB at 0xd0000000, its table at 0x100000.
func northbridge(_ change: (inout Northbridge.Model) -> Void = { _ in }) -> Northbridge {
  var model = Northbridge.Model()
  change(&model)
  var node = Northbridge(function: Requester("00:18.3")!, model: model)
  node.writeConfiguration(0x68, at: 0x94, byteCount: 4)
  node.writeConfiguration(0x1000, at: 0x98, byteCount: 4)
  node.writeConfiguration(0x03, at: 0x90, byteCount: 4)
  return node
}

private func memory() throws -> FlatMemory { try FlatMemory(byteCount: 2 << 20) }

/// Entry 0 names 0x12345000.
private func memoryWithOneEntry() throws -> FlatMemory {
  let memory = try memory()
  memory.store(0x1234_5003 as UInt32, at: PhysicalAddress(0x10_0000))
  return memory
}

extension Northbridge {
  mutating func read(
    _ address: UInt64, by initiator: Initiator = .device, in memory: FlatMemory
  ) -> Translation {
    translate(IOVA(address), byteCount: 1, access: .read, by: initiator, in: memory)
  }
}

private func to(_ address: UInt64, _ byteCount: UInt64 = 1) -> Translation {
  .mapped(PhysicalAddress(address), byteCount: byteCount)
}

@Suite struct NorthbridgeRegisterTests {
  @Test func `function 3 says what it is`() {
    var node = Northbridge(function: Requester("00:18.3")!)
    #expect(node.readConfiguration(at: 0x00, byteCount: 4) == 0x1103_1022)
    #expect(node.readConfiguration(at: 0x08, byteCount: 4) == 0x0600_0000)
    #expect(node.readConfiguration(at: 0x0c, byteCount: 4) == 0x0080_0000)
    for offset in [0x40, 0x48, 0x4c, 0x50, 0x54, 0x90, 0x94, 0x98, 0x9c] {
      #expect(node.readConfiguration(at: offset, byteCount: 4) == 0)
    }
  }

  @Test(arguments: [
    (0x90, 0x0000_007f as UInt64), (0x94, 0x0000_7fff), (0x98, 0xffff_fff0), (0x9c, 0x0000_0001),
    (0x40, 0x0000_1fff), (0x48, 0xffff_ffff), (0x4c, 0xffff_ffff), (0x50, 0xffff_fff8),
    (0x54, 0x0000_00ff), (0x00, 0x1103_1022), (0xa0, 0),
  ])
  func `ones reach the bits that exist`(offset: Int, expected: UInt64) {
    var node = Northbridge(function: Requester("00:18.3")!)
    node.writeConfiguration(0xffff_ffff, at: offset, byteCount: 4)
    #expect(node.readConfiguration(at: offset, byteCount: 4) == expected)
  }

  @Test func `bytes and words reach their own lanes`() {
    var node = northbridge()
    node.writeConfiguration(0x12, at: 0x9a, byteCount: 1)
    #expect(node.readConfiguration(at: 0x98, byteCount: 4) == 0x0012_1000)
    node.writeConfiguration(0xabcd, at: 0x99, byteCount: 2)
    #expect(node.readConfiguration(at: 0x98, byteCount: 4) == 0x00ab_cd00)
    #expect(node.readConfiguration(at: 0x99, byteCount: 1) == 0xcd)
    #expect(node.readConfiguration(at: 0x96, byteCount: 4) == 0xcd00_0000)
  }

  @Test func `an access across registers reaches both`() {
    var node = northbridge()
    #expect(node.readConfiguration(at: 0x90, byteCount: 8) == 0x0000_0068_0000_0003)
    // The last byte of 0x90 and the first three of 0x94.
    node.writeConfiguration(0x0000_10ff, at: 0x93, byteCount: 4)
    #expect(node.readConfiguration(at: 0x90, byteCount: 8) == 0x0000_0010_0000_0003)
  }

  @Test func `what lies outside configuration space is ones and takes nothing`() {
    var node = northbridge()
    let before = (0..<64).map { node.register(at: 4 * $0) }
    for offset in [-9, -1, 0x100, 0x1000, 0xff_ffff, Int.min, Int.max] {
      node.writeConfiguration(0, at: offset, byteCount: 1)
      #expect(node.readConfiguration(at: offset, byteCount: 1) == 0xff)
    }
    #expect(node.readConfiguration(at: 0xfe, byteCount: 4) == 0xffff_0000)
    #expect(node.readConfiguration(at: 0x90, byteCount: 0) == 0)
    #expect((0..<64).map { node.register(at: 4 * $0) } == before)
  }

  @Test(arguments: seeds)
  func `any access of any width and alignment leaves reserved bits zero`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    var node = northbridge { $0.cache = .sets(setCount: 4, wayCount: 2) }
    let memory = try memory()
    for _ in 0..<3000 {
      let offset = Int.random(in: -16..<300, using: &generator)
      let byteCount = Int.random(in: 0...8, using: &generator)
      node.writeConfiguration(generator.next(), at: offset, byteCount: byteCount)
      let other = Int.random(in: -16..<300, using: &generator)
      let read = node.readConfiguration(at: other, byteCount: byteCount)
      #expect(byteCount == 8 || read >> UInt64(8 * byteCount) == 0)
      _ = node.read(0xd000_0000 + generator.next() % 0x800_0000, in: memory)
      #expect(node.control.rawValue & ~0x7f == 0)
      #expect(node.base.rawValue & ~0x7fff == 0)
      #expect(node.tableBase.rawValue & 0xf == 0)
      #expect(node.cacheControl.rawValue & ~3 == 0)
    }
  }

  @Test func `a flush is seen under way once and then done`() {
    var node = northbridge()
    node.writeConfiguration(1, at: 0x9c, byteCount: 4)
    #expect(node.readConfiguration(at: 0x9c, byteCount: 4) == 1)
    #expect(node.readConfiguration(at: 0x9c, byteCount: 4) == 0)
    #expect(node.flushCount == 1)
    node.writeConfiguration(0, at: 0x9c, byteCount: 4)
    #expect(node.flushCount == 1)
  }

  @Test func `how long a flush is under way is the model's`() {
    var slow = northbridge { $0.flushPollCount = 3 }
    slow.writeConfiguration(1, at: 0x9c, byteCount: 1)
    // Writing 0 does not stop it, and bytes without the bit do not see it.
    slow.writeConfiguration(0, at: 0x9c, byteCount: 4)
    #expect(slow.readConfiguration(at: 0x9d, byteCount: 1) == 0)
    #expect((0..<4).map { _ in slow.readConfiguration(at: 0x9c, byteCount: 1) } == [1, 1, 1, 0])
    var fast = northbridge { $0.flushPollCount = 0 }
    fast.writeConfiguration(1, at: 0x9c, byteCount: 4)
    #expect(fast.readConfiguration(at: 0x9c, byteCount: 4) == 0)
    #expect(fast.flushCount == 1)
  }

  @Test func `power lost is everything lost`() throws {
    var node = northbridge { $0.cache = .unlimited }
    let memory = try memoryWithOneEntry()
    _ = node.read(0xd000_0000, in: memory)
    _ = node.read(0xd000_1000, in: memory)
    node.powerCycle()
    #expect(node.control.rawValue == 0 && node.base.rawValue == 0 && node.tableBase.rawValue == 0)
    #expect(node.cacheControl.rawValue == 0 && node.machineCheckStatus.rawValue == 0)
    #expect(node.cache.count == 0 && node.walkErrorCount == 0)
  }

  @Test func `what firmware left is loaded without a write's effects`() {
    var node = northbridge()
    node.load(0x3, at: 0x9c)
    #expect(node.register(at: 0x9c) == 0x2)
    #expect(node.flushCount == 0)
    node.load(0xffff_ffff, at: 0x90)
    #expect(node.register(at: 0x90) == 0x7f)
  }
}

@Suite struct NorthbridgeTranslationTests {
  @Test func `devices and the CPU see the window, outside it nothing changes`() throws {
    let memory = try memoryWithOneEntry()
    var node = northbridge()
    for initiator in Northbridge.Initiator.allCases {
      #expect(node.read(0xd000_0abc, by: initiator, in: memory) == to(0x1234_5abc))
      #expect(node.read(0xcfff_ffff, by: initiator, in: memory) == to(0xcfff_ffff))
      #expect(node.read(0xd400_0000, by: initiator, in: memory) == to(0xd400_0000))
    }
    #expect(
      node.translate(IOVA(0xcfff_fff0), byteCount: 64, access: .write, in: memory)
        == to(0xcfff_fff0, 16))
  }

  @Test(arguments: [
    (0x03 as UInt64, 0x1234_5010 as UInt64, 0x1234_5010 as UInt64),
    (0x13, 0x1234_5010, 0xd000_0010), (0x23, 0xd000_0010, 0x1234_5010),
    (0x33, 0xd000_0010, 0xd000_0010), (0x02, 0xd000_0010, 0xd000_0010),
    (0x0f, 0xd000_0010, 0xd000_0010), (0x43, 0x1234_5010, 0x1234_5010),
  ])
  func `each disable bit keeps out one kind of access`(
    control: UInt64, device: UInt64, cpu: UInt64
  ) throws {
    let memory = try memoryWithOneEntry()
    var node = northbridge()
    node.writeConfiguration(control, at: 0x90, byteCount: 4)
    #expect(node.read(0xd000_0010, in: memory) == to(device))
    #expect(node.read(0xd000_0010, by: .cpu, in: memory) == to(cpu))
  }

  @Test func `an invalid entry sets a sticky error and fills the log once`() throws {
    let memory = try memoryWithOneEntry()
    var node = northbridge()
    #expect(node.read(0xd000_1abc, in: memory) == .fault(.gart(.invalidEntry)))
    #expect(node.readConfiguration(at: 0x9c, byteCount: 4) == 2)
    #expect(node.readConfiguration(at: 0x48, byteCount: 8) == 0xa400_0000_0005_001b)
    #expect(node.readConfiguration(at: 0x50, byteCount: 8) == 0xd000_1ab8)
    #expect(node.read(0xd000_2000, in: memory) == .fault(.gart(.invalidEntry)))
    // The first address stays; OVER says that more came.
    #expect(node.readConfiguration(at: 0x48, byteCount: 8) == 0xe400_0000_0005_001b)
    #expect(node.readConfiguration(at: 0x50, byteCount: 8) == 0xd000_1ab8)
    #expect(node.walkErrorCount == 2)
    // A good access clears nothing.
    #expect(node.read(0xd000_0000, in: memory) == to(0x1234_5000))
    #expect(node.readConfiguration(at: 0x9c, byteCount: 4) == 2)
    node.writeConfiguration(2, at: 0x9c, byteCount: 4)
    #expect(node.readConfiguration(at: 0x9c, byteCount: 4) == 0)
    #expect(node.flushCount == 0)
  }

  @Test func `the log says whether the report was asked for`() throws {
    let memory = try memory()
    var node = northbridge()
    node.writeConfiguration(0x400, at: 0x40, byteCount: 4)
    _ = node.read(0xd000_0000, in: memory)
    #expect(node.machineCheckStatus.rawValue == 0xb400_0000_0005_001b)
    node.writeConfiguration(0, at: 0x48, byteCount: 8)
    _ = node.read(0xd000_3000, in: memory)
    #expect(node.machineCheckStatus.rawValue == 0xb400_0000_0005_001b)
    #expect(node.machineCheckAddress.rawValue == 0xd000_3000)
  }

  @Test func `Q7: a flush that writes back a stale error clears the one that came since`() throws {
    let memory = try memory()
    var node = northbridge()
    node.load(0x2, at: 0x9c)
    let saved = node.readConfiguration(at: 0x9c, byteCount: 4)
    #expect(saved == 2)
    node.writeConfiguration(saved | 1, at: 0x9c, byteCount: 4)
    _ = node.read(0xd000_0000, in: memory)
    #expect(node.cacheControl.hasWalkError)
    node.writeConfiguration(saved | 1, at: 0x9c, byteCount: 4)
    #expect(!node.cacheControl.hasWalkError)
  }

  @Test func `Q11: erratum 156 reads the page that an invalid entry names, and says so`() throws {
    let memory = try memory()
    memory.store(0x1234_5002 as UInt32, at: PhysicalAddress(0x10_0000))
    var sound = northbridge()
    #expect(sound.read(0xd000_0010, in: memory) == .fault(.gart(.invalidEntry)))
    var flawed = northbridge {
      $0.hasErratum156 = true
      $0.cache = .unlimited
    }
    #expect(flawed.read(0xd000_0010, in: memory) == to(0x1234_5010))
    #expect(flawed.cacheControl.hasWalkError)
    #expect(flawed.cache.count == 0)
    #expect(
      flawed.translate(IOVA(0xd000_0010), byteCount: 1, access: .write, in: memory)
        == .fault(.gart(.invalidEntry)))
  }

  @Test func `a table where no memory is stops the access and is an error`() throws {
    let memory = try memory()
    var node = northbridge()
    node.writeConfiguration(0x1ff0, at: 0x98, byteCount: 4)
    #expect(node.read(0xd040_0000, in: memory) == .fault(.gart(.tableUnreadable)))
    #expect(node.cacheControl.hasWalkError)
  }

  @Test(arguments: seeds)
  func `with the cache off a live northbridge answers as its registers do`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let memory = try memory()
    for index: UInt64 in 0..<0x4000 {
      let entry = UInt32(truncatingIfNeeded: generator.next())
      memory.store(entry, at: PhysicalAddress(0x10_0000 + index * 4))
    }
    var node = northbridge()
    let machine = Machine(name: "K8", units: [.gart(node.registers)])
    for _ in 0..<3000 {
      let address = IOVA(0xcff0_0000 + generator.next() % 0x420_0000)
      let access: Access = generator.next() % 2 == 0 ? .read : .write
      let byteCount = 1 + generator.next() % 9000
      #expect(
        node.translate(address, byteCount: byteCount, access: access, in: memory)
          == machine.translate(
            Requester(rawValue: 0x20), address, byteCount: byteCount, access: access, in: memory))
    }
  }
}

@Suite struct NorthbridgeCacheTests {
  @Test func `Q4: only a flush drops a translation`() throws {
    let memory = try memoryWithOneEntry()
    var node = northbridge { $0.cache = .unlimited }
    #expect(node.read(0xd000_0010, in: memory) == to(0x1234_5010))
    memory.store(0x0abc_d003 as UInt32, at: PhysicalAddress(0x10_0000))
    #expect(node.read(0xd000_0020, in: memory) == to(0x1234_5020))
    #expect(node.read(0xd000_0020, by: .cpu, in: memory) == to(0x1234_5020))
    // Another table, off and on again: the cache does not notice.
    node.writeConfiguration(0x1800, at: 0x98, byteCount: 4)
    node.writeConfiguration(0x02, at: 0x90, byteCount: 4)
    #expect(node.read(0xd000_0020, in: memory) == to(0xd000_0020))
    node.writeConfiguration(0x03, at: 0x90, byteCount: 4)
    #expect(node.read(0xd000_0020, in: memory) == to(0x1234_5020))
    node.writeConfiguration(0x1000, at: 0x98, byteCount: 4)
    node.writeConfiguration(1, at: 0x9c, byteCount: 4)
    #expect(node.read(0xd000_0020, in: memory) == to(0x0abc_d020))
  }

  @Test func `a hit ends with its page`() throws {
    let memory = try memoryWithOneEntry()
    var node = northbridge { $0.cache = .unlimited }
    _ = node.read(0xd000_0000, in: memory)
    #expect(
      node.translate(IOVA(0xd000_0ff0), byteCount: 64, access: .write, in: memory)
        == to(0x1234_5ff0, 16))
  }

  @Test func `invalid entries are walked again each time`() throws {
    let memory = try memory()
    var node = northbridge { $0.cache = .unlimited }
    #expect(node.read(0xd000_0000, in: memory) == .fault(.gart(.invalidEntry)))
    memory.store(0x1234_5003 as UInt32, at: PhysicalAddress(0x10_0000))
    #expect(node.read(0xd000_0000, in: memory) == to(0x1234_5000))
  }

  @Test func `switching off drops the cache where the model says so`() throws {
    let memory = try memoryWithOneEntry()
    var node = northbridge {
      $0.cache = .unlimited
      $0.disablingDropsCache = true
    }
    _ = node.read(0xd000_0000, in: memory)
    node.writeConfiguration(0x02, at: 0x90, byteCount: 4)
    #expect(node.cache.count == 0)
  }
}
