import IOMMUFormats
import Testing

@testable import IOMMUTranslation

/// Every entry in its turn, as the manual would go through them: slow, and nothing is joined.
private struct ReferenceTour {
  enum Event: Equatable {
    case enter(PhysicalAddress, byteCount: UInt64, level: Int, address: UInt64)
    case leaf(
      UInt64, sizeLog2: Int, PhysicalAddress, Permissions, entryAddress: PhysicalAddress, level: Int
    )
    case obstacle(Obstacle)
  }

  let limit: UInt64
  var remainingTables: UInt64
  var events: [Event] = []
  var reaches: [PhysicalAddress: Int] = [:]
  var path: [PhysicalAddress] = []

  mutating func visit(
    _ table: PhysicalAddress, root: PhysicalAddress, of format: some TableFormat, level: Int,
    address: UInt64, permissions: Permissions, in memory: some PhysicalMemory
  ) throws(EnumerationExhausted) {
    reaches[table, default: 0] += 1
    guard remainingTables > 0, reaches[table]! <= 8192 else {
      throw EnumerationExhausted(root: root, table: table, level: level, address: address)
    }
    remainingTables -= 1
    path.append(table)
    defer { path.removeLast() }
    let count = format.entryCount(level: level)
    let size = UInt64(bytes(of: format))
    events.append(.enter(table, byteCount: count * size, level: level, address: address))
    var missing: Obstacle?
    func tellMissing() {
      if let missing { events.append(.obstacle(missing)) }
      missing = nil
    }
    for index in 0..<count {
      let place = PhysicalAddress(table.rawValue &+ index * size)
      let start = address + index << UInt64(format.sizeLog2(level: level))
      let span = UInt64(1) << UInt64(format.sizeLog2(level: level))
      guard start < limit else { break }
      guard let (kind, allowed) = entry(of: format, at: place, level: level, in: memory) else {
        if missing == nil {
          missing = Obstacle(
            cause: .unreadable, entryAddress: place, level: level, address: start, byteCount: 0)
        }
        missing?.byteCount += span
        continue
      }
      tellMissing()
      let both = permissions.intersection(allowed)
      switch kind {
      case .empty: break
      case .malformed:
        events.append(
          .obstacle(
            Obstacle(
              cause: .malformed, entryAddress: place, level: level, address: start, byteCount: span)
          ))
      case .page(let page, let sizeLog2, _):
        events.append(
          .leaf(start, sizeLog2: sizeLog2, page, both, entryAddress: place, level: level))
      case .table(let lower, _) where path.contains(lower):
        events.append(
          .obstacle(
            Obstacle(
              cause: .loop(TableLoop(from: table, to: lower)), entryAddress: place, level: level,
              address: start, byteCount: span)))
      case .table(let lower, let lowerLevel):
        try visit(
          lower, root: root, of: format, level: lowerLevel, address: start, permissions: both,
          in: memory)
      }
    }
    tellMissing()
  }

  private func bytes<Format: TableFormat>(of _: Format) -> Int { Format.Entry.byteCount }

  private func entry<Format: TableFormat>(
    of format: Format, at place: PhysicalAddress, level: Int, in memory: some PhysicalMemory
  ) -> (EntryKind, Permissions)? {
    guard let entry = Format.Entry(from: memory, at: place) else { return nil }
    return (format.kind(of: entry, level: level), format.permissions(of: entry, level: level))
  }
}

/// Writes down what it is told, runs leaf by leaf.
private struct Recorder: TableVisitor {
  var events: [ReferenceTour.Event] = []
  var longestRun: UInt64 = 0

  mutating func enter(table: PhysicalAddress, byteCount: UInt64, level: Int, address: UInt64) {
    events.append(.enter(table, byteCount: byteCount, level: level, address: address))
  }
  mutating func leaf(_ leaf: Leaf) {
    events.append(
      .leaf(
        leaf.address, sizeLog2: leaf.sizeLog2, leaf.page, leaf.permissions,
        entryAddress: leaf.entryAddress, level: leaf.level))
  }
  mutating func leaves(_ run: LeafRun) {
    longestRun = max(longestRun, run.count)
    for index in 0..<run.count { leaf(run[index]) }
  }
  mutating func obstacle(_ obstacle: Obstacle) { events.append(.obstacle(obstacle)) }
}

/// A visitor that knows nothing of runs.
private struct LeafByLeaf: TableVisitor {
  var recorder = Recorder()
  mutating func leaf(_ leaf: Leaf) { recorder.leaf(leaf) }
}

/// The same memory, in each way that memory may be looked at.
private struct Look: PhysicalMemory {
  enum Way: CaseIterable {
    /// Where it lies; in copies of pages; word by word; where it lies, at no multiple of eight.
    case inPlace, copied, words, crooked
  }

  let base: FlatMemory
  let way: Way
  /// The bytes of `base`, one further on; for ``Way/crooked``.
  let shifted: [UInt8]

  init(_ base: FlatMemory, _ way: Way) {
    self.base = base
    self.way = way
    guard way == .crooked else {
      shifted = []
      return
    }
    var bytes = [UInt8](repeating: 0, count: Int(base.ram.last!.upperBound.rawValue) + 9)
    for range in base.ram {
      let start = Int(range.lowerBound.rawValue) + 1
      let count = Int(range.byteCount)
      bytes.replaceSubrange(
        start..<(start + count), with: base.bytes(at: range.lowerBound, count: count)!)
    }
    shifted = bytes
  }

  func quadword(at address: PhysicalAddress) -> UInt64? { base.quadword(at: address) }
  func doubleword(at address: PhysicalAddress) -> UInt32? { base.doubleword(at: address) }
  func read(at address: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer) -> Int {
    way == .words ? 0 : base.read(at: address, into: buffer)
  }
  func bytesInPlace(from address: PhysicalAddress) -> UnsafeRawBufferPointer? {
    guard let bytes = base.bytesInPlace(from: address) else { return nil }
    switch way {
    case .inPlace: return bytes
    case .copied, .words: return nil
    case .crooked:
      return shifted.withUnsafeBytes {
        UnsafeRawBufferPointer(rebasing: $0[(Int(address.rawValue) + 1)...].prefix(bytes.count))
      }
    }
  }
  var backedRanges: [Range<PhysicalAddress>] { base.backedRanges }
}

@Suite struct TableTourTests {
  /// What a tour of all ways says, compared with the reference; the longest run told of.
  @discardableResult
  private static func check(
    _ format: some TableFormat, root: UInt64, in base: FlatMemory, below limit: UInt64? = nil,
    budget tables: UInt64 = 3000, _ comment: Comment
  ) -> UInt64 {
    let root = PhysicalAddress(root)
    var reference = ReferenceTour(limit: limit ?? .max, remainingTables: tables)
    var failure: EnumerationExhausted?
    do throws(EnumerationExhausted) {
      try reference.visit(
        root, root: root, of: format, level: format.levels, address: 0, permissions: .readWrite,
        in: base)
    } catch {
      failure = error
    }
    var longest: UInt64 = 0
    for way in Look.Way.allCases {
      var budget = EnumerationBudget(remainingTables: tables)
      var recorder = Recorder()
      var thrown: EnumerationExhausted?
      do throws(EnumerationExhausted) {
        try format.forEachEntry(
          from: root, in: Look(base, way), below: limit, budget: &budget, visitor: &recorder)
      } catch {
        thrown = error
      }
      #expect(thrown == failure, comment)
      #expect(budget.remainingTables == reference.remainingTables, comment)
      if recorder.events != reference.events {
        let index = zip(recorder.events, reference.events).enumerated().first { $1.0 != $1.1 }
        Issue.record("\(way): \(String(describing: index)) \(comment)")
      }
      if way == .inPlace { longest = recorder.longestRun }
      if way == .words { #expect(recorder.longestRun <= 1, comment) }
    }
    return longest
  }

  /// 64 pages with a hole in them: eight of pointers, the first of each to the next, the others
  /// filled with runs of words that go on by a page of any size; all damaged here and there.
  ///
  /// - Parameter flags: Set in every word.
  private static func runs(
    using generator: inout SeededGenerator, hostAddressWidth: UInt64, bigEndian: Bool = false,
    flags: UInt64 = 0
  ) throws -> FlatMemory {
    let memory = try FlatMemory(ram: [
      PhysicalAddress(0)..<PhysicalAddress(0x2_0000),
      PhysicalAddress(0x2_3000)..<PhysicalAddress(0x4_0000),
    ])
    for place: UInt64 in stride(from: 0, to: 0x8000, by: 8) {
      var word = (generator.oneIn(3) ? generator.next() % 8 : generator.next() % 66) << 12 | 3
      if generator.oneIn(100) { word ^= 1 << (generator.next() % 64) }
      if place & 0xfff == 0 { word = place + 0x1003 }
      word |= flags
      memory.store(bigEndian ? word.byteSwapped : word, at: place)
    }
    var place: UInt64 = 0x8000
    while place < 0x4_0000 {
      var length = generator.next() % 200 + 1
      if generator.oneIn(8) { length = 1500 }
      var word: UInt64
      var step: UInt64 = 4096
      switch generator.next() % 8 {
      case 0:
        // Up to the end of what an address may be, and beyond it.
        word = 1 << hostAddressWidth - (generator.next() % 100) << 12 | 3
      case 1: word = 1 << 48 - (generator.next() % 100) << 12 | 3
      case 2: (word, step) = ((generator.next() % 64) << 21 | 0x83, 1 << 21)
      case 3: (word, step) = ((generator.next() % 64) << 30 | 0x87, 1 << 30)
      case 4: (word, step) = (generator.next() & ~3, 0)
      case 5: (word, step) = (generator.next() << 12 & (1 << 40 - 1) | 1, 4096)
      case 6: (word, step) = ((generator.next() % 64) << 12 | 3, 0)
      default: (word, step) = (generator.next() % 64 << 12 | generator.next() % 8, 4096)
      }
      for _ in 0..<length where place < 0x4_0000 {
        defer { place += 8; word &+= step }
        guard memory.isBacked(PhysicalAddress(place), byteCount: 8) else { continue }
        var stored = word | flags
        if generator.oneIn(400) { stored ^= 1 << (generator.next() % 64) }
        if generator.oneIn(2000) { stored = generator.next() }
        memory.store(bigEndian ? stored.byteSwapped : stored, at: place)
      }
    }
    return memory
  }

  @Test(arguments: seeds, 3...5)
  func `second-stage tables are gone through entry for entry`(seed: UInt64, levels: Int) throws {
    var generator = SeededGenerator(seed: seed)
    var longest: UInt64 = 0
    for limits in WalkerTests.limits {
      let width = UInt64(12 + 9 * levels)
      let usesIOPermissions = generator.oneIn(2)
      let format = VTd.SecondStageFormat(
        levels: levels, limits: limits, usesIOPermissions: usesIOPermissions)
      let random = try WalkerTests.randomTables(using: &generator)
      Self.check(
        format, root: (generator.next() % 66) << 12, in: random, budget: 10, "seed \(seed)")
      for round in 0..<3 {
        let memory = try Self.runs(
          using: &generator, hostAddressWidth: UInt64(limits.hostAddressWidth),
          flags: usesIOPermissions ? 3 << 61 : 0)
        // Often in the middle of a table, sometimes in the middle of a page.
        var limit: UInt64? = generator.next() & (1 << width - 1) >> (generator.next() % width)
        if round == 0 { limit = nil }
        // Once from where the last of the pages of pointers is of level 2.
        let root = round == 0 ? UInt64(9 - levels) : generator.next() % 8
        longest = max(
          longest,
          Self.check(
            format, root: root << 12, in: memory, below: limit,
            budget: round == 0 ? 30 : generator.next() % 30,
            "seed \(seed), below \(limit ?? 0)"))
      }
    }
    #expect(longest > 100, "runs are told of in one piece; seed \(seed)")
  }

  @Test(arguments: seeds, 4...5)
  func `first-stage tables are gone through entry for entry`(seed: UInt64, levels: Int) throws {
    var generator = SeededGenerator(seed: seed)
    for limits in WalkerTests.limits {
      let format = VTd.FirstStageFormat(levels: levels, limits: limits)
      for _ in 0..<2 {
        let memory = try Self.runs(
          using: &generator, hostAddressWidth: UInt64(limits.hostAddressWidth))
        Self.check(
          format, root: (generator.next() % 8) << 12, in: memory, budget: generator.next() % 30,
          "seed \(seed)")
      }
    }
  }

  @Test(arguments: seeds)
  func `flat tables are gone through entry for entry, holes of memory in them too`(
    seed: UInt64
  ) throws {
    var generator = SeededGenerator(seed: seed)
    var longest: [UInt64] = [0, 0]
    for round in 0..<5 {
      // Crooked tables, and tables that end beyond memory; the first is all there.
      var root = (generator.next() % 64) << 12 | (generator.oneIn(4) ? generator.next() % 8 : 0)
      var limit = generator.oneIn(2) ? nil : generator.next() % 0x200_0000
      if round == 0 { (root, limit) = (0x1_0000, nil) }
      let tces = try Self.runs(using: &generator, hostAddressWidth: 48, bigEndian: true)
      longest[0] = max(
        longest[0],
        Self.check(
          Calgary.TCEFormat(size: .kib128), root: root, in: tces, below: limit, "seed \(seed), TCE")
      )
      let gatt = try Self.runs(using: &generator, hostAddressWidth: 32)
      for place: UInt64 in stride(from: 0, to: 0x1_0000, by: 4) where generator.oneIn(2) {
        gatt.store(UInt32(0xffff_f001 &- (place / 4 % 100) << 12), at: PhysicalAddress(place))
      }
      for place: UInt64 in stride(from: 0x1_0000, to: 0x1_8000, by: 4) {
        gatt.store(
          UInt32(truncatingIfNeeded: 0xff80_0ff3 &+ place << 10), at: PhysicalAddress(place))
      }
      longest[1] = max(
        longest[1],
        Self.check(
          GART.GATTFormat(apertureByteCount: 64 << 20), root: root, in: gatt, below: limit,
          "seed \(seed), GATT"))
    }
    #expect(longest.allSatisfy { $0 > 100 }, "seed \(seed)")
  }

  @Test func `a visitor that knows no runs is told of each leaf`() throws {
    let memory = try FlatMemory(byteCount: 0x1_0000)
    for index: UInt64 in 0..<8192 {
      memory.store(bigEndian: index << 12 | 3, at: PhysicalAddress(index * 8))
    }
    var budget = EnumerationBudget(remainingTables: 1)
    var visitor = LeafByLeaf()
    try Calgary.TCEFormat(size: .kib64).forEachEntry(
      from: PhysicalAddress(0), in: memory, budget: &budget, visitor: &visitor)
    #expect(
      visitor.recorder.events
        == (0..<8192).map {
          .leaf(
            $0 << 12, sizeLog2: 12, PhysicalAddress($0 << 12), .readWrite,
            entryAddress: PhysicalAddress($0 * 8), level: 1)
        })
  }

  @Test func `a table may be reached 8,192 times and no more`() throws {
    let memory = try FlatMemory(byteCount: 0x1_0000)
    // Sixteen pointers to a directory with 512 pointers to one table, and one pointer more.
    for index: UInt64 in 0..<16 { memory.store(0x2003, at: 0x1000 + index * 8) }
    memory.store(0x4003, at: 0x1080)
    for index: UInt64 in 0..<512 { memory.store(0x5003, at: 0x2000 + index * 8) }
    let format = VTd.SecondStageFormat(levels: 3, limits: .permissive)
    var budget = EnumerationBudget(remainingTables: 10_000)
    var recorder = Recorder()
    try format.forEachEntry(
      from: PhysicalAddress(0x1000), in: memory, budget: &budget, visitor: &recorder)
    #expect(budget.remainingTables == 10_000 - 1 - 16 - 8192 - 1)
    memory.store(0x5003, at: 0x4000)
    budget = EnumerationBudget(remainingTables: 10_000)
    #expect(
      throws: EnumerationExhausted(
        root: PhysicalAddress(0x1000), table: PhysicalAddress(0x5000), level: 1,
        address: 16 << 30)
    ) {
      try format.forEachEntry(
        from: PhysicalAddress(0x1000), in: memory, budget: &budget, visitor: &recorder)
    }
  }

  @Test(arguments: seeds)
  func `joined runs are the same however memory is looked at`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    for _ in 0..<10 {
      let memory = try Self.runs(using: &generator, hostAddressWidth: 46)
      let root = PhysicalAddress((generator.next() % 64) << 12)
      let tables: [Table] = [
        .secondStage(
          VTd.SecondStageTable(
            root: root, format: VTd.SecondStageFormat(levels: 3, limits: WalkerTests.limits[0]),
            addressWidth: 39, isReported: true)),
        .tce(
          Calgary.TCETable(
            table: root, size: .kib64, refusesDualAddressCycles: true,
            holes: Calgary.TCETable.Holes(legacy: 0..<0, memory1: 0..<0, memory2: 0..<0))),
      ]
      for content in tables {
        let table = DMATable(owner: .table(root), table: content)
        func outcome(_ memory: some PhysicalMemory) -> TableMappings {
          var budget = EnumerationBudget(remainingTables: 200)
          return table.mappings(in: memory, budget: &budget)
        }
        let expected = outcome(Look(memory, .words))
        #expect(outcome(memory) == expected, "seed \(seed)")
        #expect(outcome(Look(memory, .copied)) == expected, "seed \(seed)")
      }
    }
  }
}
