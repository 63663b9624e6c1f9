import IOMMUFormats
import IOMMUTranslation
import Testing

/// The walk of the manual, section 3.7 and 9.8, one bit at a time: slow, and sharing no code.
struct ReferenceWalker {
  let memory: FlatMemory
  let limits: VTd.Limits

  enum Outcome: Equatable {
    case mapped(UInt64, pageByteCount: UInt64)
    case fault(UInt8)
  }

  func isReserved(bit: Int, level: Int, isLeaf: Bool) -> Bool {
    switch bit {
    case 7:
      switch level {
      case 4, 5: return true
      case 3: return isLeaf && !limits.has1GiBPages
      case 2: return isLeaf && !limits.has2MiBPages
      default: return false
      }
    case 11: return !isLeaf || !limits.hasSnoopControl
    case 12...51:
      if bit >= limits.hostAddressWidth { return true }
      return isLeaf && (level == 2 && bit <= 20 || level == 3 && bit <= 29)
    case 62: return !(isLeaf && limits.hasTransientMappings)
    default: return false
    }
  }

  func walk(_ iova: UInt64, _ access: Access, root: UInt64, levels: Int) -> Outcome {
    let width = min(limits.maximumGuestAddressWidth, [3: 39, 4: 48, 5: 57][levels]!)
    if iova >= 1 << UInt64(width) { return .fault(0x04) }
    let denied: Outcome = .fault(access == .read ? 0x06 : 0x05)
    var table = root
    var mayRead = true
    var mayWrite = true
    for level in stride(from: levels, through: 1, by: -1) {
      let shift = UInt64([1: 12, 2: 21, 3: 30, 4: 39, 5: 48][level]!)
      let place = table + (iova >> shift) % 512 * 8
      guard let bytes = memory.bytes(at: PhysicalAddress(place), count: 8) else {
        return .fault(level == levels ? 0x03 : 0x07)
      }
      let entry = bytes.reversed().reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
      let isRead = entry % 2 == 1
      let isWrite = entry / 2 % 2 == 1
      if !isRead && !isWrite { return denied }
      let isLeaf = level == 1 || level <= 3 && entry >> 7 % 2 == 1
      for bit in 0..<64 where entry >> UInt64(bit) % 2 == 1 {
        if isReserved(bit: bit, level: level, isLeaf: isLeaf) { return .fault(0x0c) }
      }
      mayRead = mayRead && isRead
      mayWrite = mayWrite && isWrite
      let address = entry / 4096 % (1 << 40) * 4096
      guard isLeaf else {
        table = address
        continue
      }
      guard access == .read ? mayRead : mayWrite else { return denied }
      let size: UInt64 = 1 << shift
      let physical = address / size * size + iova % size
      if physical >= 0xfee0_0000, physical <= 0xfeef_ffff { return .fault(0x0e) }
      return .mapped(physical, pageByteCount: size - iova % size)
    }
    fatalError("level 1 always ends the walk")
  }
}

@Suite struct WalkerTests {
  static let limits: [VTd.Limits] = [
    .unit(hostAddressWidth: 39, guestAddressWidth: 57, widths: 0b01110),
    .unit(
      hostAddressWidth: 46, guestAddressWidth: 48, widths: 0b01110, pages2MiB: false,
      pages1GiB: false, snoop: true),
    .unit(hostAddressWidth: 52, guestAddressWidth: 57, widths: 0b01110, transient: true),
  ]

  /// 64 pages of random entries, any of which may stand at any level.
  static func randomTables(using generator: inout SeededGenerator) throws -> FlatMemory {
    let memory = try FlatMemory(byteCount: 64 * 4096)
    for place: UInt64 in stride(from: 0, to: 64 * 4096, by: 8) {
      var entry: UInt64
      switch generator.next() % 100 {
      case 0..<3:
        entry = generator.next()
      case 3..<8:
        entry = generator.next() & ~3
      case 8..<10:
        // A pointer to where no memory answers.
        entry = (64 + generator.next() % 64) << 12
      case 10..<14:
        // One bit that may be reserved.
        entry = (generator.next() % 64) << 12 | 1 << (generator.next() % 64)
      case 14..<20:
        // A large page, sometimes in the interrupt range, sometimes crooked.
        entry = generator.oneIn(3) ? 0xfee0_0080 : (generator.next() % 256) << 30 | 0x80
        if generator.oneIn(2) { entry |= (generator.next() % 512) << 21 }
        if generator.oneIn(8) { entry |= 0x1000 }
      default:
        entry = (generator.next() % 64) << 12
      }
      if !generator.oneIn(20) { entry |= generator.oneIn(4) ? 1 + generator.next() % 2 : 3 }
      // Bits that hardware does not look at.
      if generator.oneIn(4) { entry |= generator.next() & 0xbff0_0000_0000_0504 }
      memory.store(entry, at: place)
    }
    return memory
  }

  @Test(arguments: seeds)
  func `random tables translate as the manual says, bit by bit`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    for limits in Self.limits {
      let memory = try Self.randomTables(using: &generator)
      let reference = ReferenceWalker(memory: memory, limits: limits)
      var faults: [UInt8: Int] = [:]
      var mappedCount = 0
      for _ in 0..<2000 {
        let levels = 3 + Int(generator.next() % 3)
        let root = generator.oneIn(50) ? 65 << 12 : (generator.next() % 64) << 12
        let width = min(limits.maximumGuestAddressWidth, 12 + 9 * levels)
        var iova = generator.next()
        if !generator.oneIn(20) { iova &= 1 << UInt64(width) - 1 }
        let access = generator.oneIn(2) ? Access.read : .write
        let byteCount = 1 + generator.next() % 0x8000
        let handle = DeviceHandle(
          requester: device,
          route: .table(
            .secondStage(
              VTd.SecondStageTable(
                root: PhysicalAddress(root),
                format: VTd.SecondStageFormat(levels: levels, limits: limits),
                addressWidth: width, isReported: true))))
        if iova >> 20 == 0xfee { continue }
        let answer = handle.translate(
          IOVA(iova), byteCount: byteCount, access: access, in: memory)
        switch reference.walk(iova, access, root: root, levels: levels) {
        case .fault(let number):
          faults[number, default: 0] += 1
          #expect(
            answer == .fault(.vtd(VTd.FaultReason(rawValue: number), isRecorded: true)),
            "\(access) \(IOVA(iova)), \(levels) levels from \(PhysicalAddress(root))")
        case .mapped(let physical, let rest):
          mappedCount += 1
          guard case .mapped(let place, let count) = answer else {
            Issue.record("\(access) \(IOVA(iova)), \(levels) levels, is not mapped: \(answer)")
            continue
          }
          #expect(place == PhysicalAddress(physical))
          #expect(count <= min(byteCount, rest))
          // Only the interrupt range cuts a request shorter than its page.
          if count < min(byteCount, rest) {
            #expect(
              (iova + count) >> 20 == 0xfee && (iova + count) % 0x10_0000 == 0
                || (physical + count) == 0xfee0_0000)
          }
        }
      }
      // The tables are worth their randomness when all outcomes occur.
      #expect(mappedCount > 100)
      #expect(Set(faults.keys).isSuperset(of: [0x03, 0x04, 0x05, 0x06, 0x07, 0x0c]))
    }
  }

  @Test func `a table that points to itself ends after its levels`() throws {
    let memory = try FlatMemory(byteCount: 4096)
    for place: UInt64 in stride(from: 0, to: 4096, by: 8) { memory.store(3, at: place) }
    for levels in 3...5 {
      var counter = ReadCounter()
      let walk = VTd.SecondStageFormat(levels: levels, limits: .permissive)
        .walk(0x1234_5678, from: PhysicalAddress(0), in: memory, observer: &counter)
      #expect(walk.end == .page)
      #expect(walk.page == PhysicalAddress(0))
      #expect(counter.levels == Array((1...levels).reversed()))
    }
  }

  struct ReadCounter: WalkObserver {
    var levels: [Int] = []
    mutating func read<Entry: TableEntry>(
      _: Entry, at _: PhysicalAddress, in place: TablePlace, index _: UInt64,
      as _: @autoclosure () -> Entry.Variant
    ) {
      levels.append(place.level ?? 0)
    }
  }

  struct Reads: WalkObserver {
    var text: [String] = []
    mutating func read<Entry: TableEntry>(
      _ entry: Entry, at address: PhysicalAddress, in place: TablePlace, index: UInt64,
      as _: @autoclosure () -> Entry.Variant
    ) {
      let place =
        switch place {
        case .level(let level): "\(level)"
        case .upper(let kind): "in \(kind)"
        }
      text.append(
        "\(Entry.name) \(place) [\(hexadecimal(index))] at \(address): \(hexadecimal(entry.low))")
    }
  }

  @Test func `an observer sees each entry read, from the root down`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    storeContext(table: 0x11_2000, widthCode: 1, in: memory)
    memory.store(0x11_3003, at: 0x11_2000)
    memory.store(0x11_4003, at: 0x11_3488)
    memory.store(0x20_0003, at: 0x11_4a28)
    var reads = Reads()
    let handle = vtdMachine(.unit()).resolve(device, in: memory, observer: &reads)
    let answer = handle.translate(
      IOVA(0x1234_5678), byteCount: 1, access: .read, in: memory, observer: &reads)
    #expect(answer == .to(0x20_0678))
    #expect(
      reads.text == [
        "root entry in root table [0x0] at 0x100000: 0x101001",
        "context entry in context table [0x20] at 0x101200: 0x112001",
        "second-stage entry 3 [0x0] at 0x112000: 0x113003",
        "second-stage entry 2 [0x91] at 0x113488: 0x114003",
        "second-stage entry 1 [0x145] at 0x114a28: 0x200003",
      ])
  }

  @Test func `a walk that fails says where`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    memory.store(0x11_3003, at: 0x11_2000)
    memory.store(0x7000_0003, at: 0x11_3488)
    var observer = Unobserved()
    let walk = VTd.SecondStageFormat(levels: 3, limits: .unit())
      .walk(0x1234_5678, from: PhysicalAddress(0x11_2000), in: memory, observer: &observer)
    #expect(walk.end == .unreadable)
    #expect(walk.level == 1)
    #expect(walk.entryAddress == PhysicalAddress(0x7000_0a28))
    #expect(walk.entry == 0)
  }
}
