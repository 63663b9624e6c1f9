import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// A machine with one flat table, its driver and its devices on one thread: the chip's users take turns.
///
/// What was taken back may answer from a cache until the next flush, and never after it.
struct FlatMachine {
  /// How the hardware is reached.
  private enum Hardware {
    case calgary(CalgaryUnit)
    case gart(Northbridges)
  }

  private static let table: UInt64 = 1 << 20
  private static let entryCount = 8192
  private static let frames: Range<UInt64> = 2 << 20..<32 << 20
  private static let phb = 1

  private let hardware: Hardware
  private let memory: FlatMemory
  /// The first address that the table translates.
  private let base: UInt64
  private var generator: Generator
  private var pool: PagePool
  /// By page: what the table says.
  private var current = [Mapping?](repeating: nil, count: entryCount)
  /// By page: what it said since the last flush.
  private var earlier: [Int: [Mapping?]] = [:]
  /// Pages that come back with the next flush.
  private var returning: [UInt64] = []
  private(set) var figures = Figures()

  private struct Mapping: Equatable {
    var page: UInt64
    var reads: Bool
    var writes: Bool
  }

  let hasCache: Bool
  let kind: String

  init(calgarySeed seed: UInt64) {
    var generator = Generator(seed: seed)
    var options = CalgaryOptions()
    if !generator.oneIn(4) {
      options.cache =
        generator.oneIn(3)
        ? .unlimited
        : .init(
          setCount: 1 << generator.below(6), wayCount: 1 + generator.below(4),
          keepsEmptyEntries: generator.oneIn(2))
    }
    let model: Calgary.Chip.Model = generator.oneIn(2) ? .calgary : .calioc2
    kind = model == .calgary ? "Calgary" : "CalIOC2"
    hasCache = options.cache != nil
    let unit = CalgaryUnit(model: model, base: PhysicalAddress(0xfe00_0000), options: options)
    unit.setUpBuses([0...0, 2...3, nil, nil])
    hardware = .calgary(unit)
    base = 0
    (memory, pool) = Self.memory()
    self.generator = generator
    // 64 KiB of entries, translation on, addresses above 4 GiB refused.
    unit.write(
      (Self.table).byteSwapped, at: Calgary.RegisterOffset.tableAddress(Self.phb), byteCount: 8)
    unit.write(
      UInt64((0x2110_0000 as UInt32).byteSwapped),
      at: Calgary.RegisterOffset.configuration(Self.phb), byteCount: 4)
  }

  init(gartSeed seed: UInt64) {
    var generator = Generator(seed: seed)
    var model = Northbridge.Model()
    model.flushPollCount = generator.below(4)
    model.cache =
      [.off, .unlimited, .sets(setCount: 8, wayCount: 4), .sets(setCount: 1, wayCount: 16)][
        generator.below(4)]
    kind = "GART"
    hasCache = model.cache != .off
    let bridges = Northbridges(nodeCount: 1 + generator.below(4), model: model)
    hardware = .gart(bridges)
    let place = 1 + UInt64(generator.below(31))
    base = place << 25
    (memory, pool) = Self.memory()
    self.generator = generator
    for node in bridges.nodes {
      bridges.writeConfiguration(place, to: node.function, at: 0x94)
      bridges.writeConfiguration(Self.table >> 8, to: node.function, at: 0x98)
      bridges.writeConfiguration(1, to: node.function, at: 0x90)
    }
  }

  private static func memory() -> (FlatMemory, PagePool) {
    guard let memory = try? FlatMemory(byteCount: 32 << 20) else { fail("no memory") }
    return (memory, PagePool(frames))
  }

  // MARK: The driver

  private func storeEntry(_ index: Int, _ mapping: Mapping?) {
    switch hardware {
    case .calgary:
      let word = mapping.map { $0.page | ($0.writes ? 2 : 0) | ($0.reads ? 1 : 0) } ?? 0
      memory.store(bigEndian: word, at: PhysicalAddress(Self.table + UInt64(index) * 8))
    case .gart:
      let word = mapping.map { UInt32($0.page) | 3 } ?? 0
      memory.store(word, at: PhysicalAddress(Self.table + UInt64(index) * 4))
    }
  }

  private mutating func flush() {
    switch hardware {
    case .calgary(let unit):
      let offset = Calgary.RegisterOffset.tableAddress(Self.phb)
      let value = unit.read(at: offset, byteCount: 8)
      expect(value.byteSwapped & 0xffff_ffff_8000 == Self.table, "TAR is \(value)")
      unit.write(value, at: offset, byteCount: 8)
    case .gart(let bridges):
      for node in bridges.nodes {
        bridges.writeConfiguration(1, to: node.function, at: 0x9c)
        var reads = 0
        while bridges.readConfiguration(node.function, at: 0x9c) & 1 == 1 {
          reads += 1
          expect(reads < 16, "the flush does not end")
        }
      }
    }
    earlier = [:]
    for page in returning { pool.giveBack(page) }
    returning = []
    figures.invalidations += 1
  }

  private mutating func change(_ index: Int, to mapping: Mapping?) {
    let old = current[index]
    guard old != mapping else { return }
    earlier[index, default: []].append(old)
    current[index] = mapping
    storeEntry(index, mapping)
    if let old { returning.append(old.page) }
    figures.operations += 1
  }

  private mutating func map() {
    let index = generator.below(Self.entryCount)
    guard current[index] == nil, !pool.isEmpty, returning.count < 1024 else { return }
    let isCalgary = if case .calgary = hardware { true } else { false }
    let writes = !isCalgary || !generator.oneIn(4)
    change(
      index,
      to: Mapping(
        page: pool.take(&generator), reads: !isCalgary || !writes || !generator.oneIn(4),
        writes: writes))
  }

  private mutating func unmap() {
    guard let index = anyMapped() else { return }
    change(index, to: nil)
  }

  private mutating func anyMapped() -> Int? {
    let start = generator.below(Self.entryCount)
    for step in 0..<64 where current[(start + step) % Self.entryCount] != nil {
      return (start + step) % Self.entryCount
    }
    return nil
  }

  // MARK: The devices

  private func translate(_ address: UInt64, _ access: Access) -> Translation? {
    let request = DMARequest(
      access, by: Requester(bus: 2, device: 4, function: 0), at: IOVA(address), byteCount: 8)
    return switch hardware {
    case .calgary(let unit): unit.translate(request, in: memory)
    case .gart(let bridges): bridges.translate(request, in: memory)
    }
  }

  private mutating func check(_ index: Int, _ access: Access) {
    let offset = generator.next() & 0xff8
    let address = base + UInt64(index) << 12 + offset
    // 640 KiB to 1 MiB is a hole, wherever Calgary's table says.
    let isHole = base == 0 && 0xa_0000..<0x10_0000 ~= address
    guard let answer = translate(address, access) else { fail("\(address) passes the unit") }
    func agrees(_ mapping: Mapping?) -> Bool {
      guard !isHole, let mapping, access == .read ? mapping.reads : mapping.writes else {
        if case .fault = answer { return true }
        return false
      }
      return answer == .mapped(PhysicalAddress(mapping.page | offset), byteCount: 8)
    }
    if agrees(current[index]) {
      if case .mapped = answer { figures.mapped += 1 } else { figures.faults += 1 }
    } else {
      expect(
        hasCache,
        "\(address): \(answer) without a cache, and the table says \(String(describing: current[index]))"
      )
      expect(
        earlier[index]?.contains { agrees($0) } == true,
        "\(address): \(answer) after a flush, and the table says \(String(describing: current[index]))"
      )
      figures.stale += 1
    }
    // What a hole answers is no error of the bridge's.
    if case .fault(let fault) = answer, fault.isRecorded { collectFault() }
  }

  /// The hardware has kept the fault; cleared, it keeps the next.
  private mutating func collectFault() {
    guard generator.oneIn(8) else { return }
    switch hardware {
    case .calgary(let unit):
      let offset = Calgary.RegisterOffset.channelStatus(Self.phb)
      expect(unit.read(at: offset, byteCount: 4) != 0, "no error is latched")
      unit.write(0, at: offset, byteCount: 4)
      expect(unit.read(at: offset, byteCount: 4) == 0, "CSR stays")
    case .gart(let bridges):
      let function = bridges.nodes[0].function
      expect(bridges.readConfiguration(function, at: 0x9c) & 2 != 0, "no walk error is kept")
      bridges.writeConfiguration(2, to: function, at: 0x9c)
      expect(bridges.readConfiguration(function, at: 0x9c) & 2 == 0, "the walk error stays")
    }
    figures.faultRecords += 1
  }

  mutating func run(operations: Int) {
    for _ in 0..<operations {
      switch generator.below(32) {
      case 0: flush()
      case 1...4: unmap()
      case 5...12: map()
      case 13...20: if let index = anyMapped() { check(index, generator.oneIn(2) ? .read : .write) }
      case 21...24:
        if let index = earlier.keys.min() { check(index, .write) }
      default: check(generator.below(Self.entryCount), generator.oneIn(2) ? .read : .write)
      }
    }
    flush()
    for index in 0..<Self.entryCount {
      check(index, index % 2 == 0 ? .read : .write)
      // Also right behind a flush nothing else answers.
      expect(earlier.isEmpty, "nothing has changed since the flush")
    }
  }
}
