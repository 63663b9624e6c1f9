import IOMMUFormats
import IOMMUHardware
import IOMMUImages
import IOMMUTranslation

/// Which pages of the aperture must lead where at one place of a trace, and what the northbridges
/// say to that.
struct GARTMappings {
  let truth: GARTTruth
  /// Caches are on: a page that was given back may still be found in one.
  let hasCaches: Bool
  /// Exact: a cache that forgets nothing by itself.
  let cachesAreUnlimited: Bool

  /// Mappings whose number is the physical address, by identifier.
  private(set) var identity: [UInt64: TraceMapping] = [:]
  /// For each page of the aperture the page that it must lead to, or ``nowhere``.
  private var targets: [UInt64]
  /// Pages that were given back and not given out again.
  private var isFreed: [Bool]
  /// For each node and page, what the last access that read the table since the node's last flush has
  /// found there; zero for nothing valid.
  private var seenSinceFlush: [[UInt32]]
  /// Whether that access came while nobody had the page: no flush is owed for it.
  private var wasFreeWhenSeen: [[Bool]]

  /// Pages compared so far.
  private(set) var pageCount = 0
  private(set) var freedPageCount = 0
  private(set) var staleHitCount = 0

  private static let nowhere = UInt64.max

  init(truth: GARTTruth, nodeCount: Int, cache: GARTCache.Geometry) {
    self.truth = truth
    hasCaches = cache != .off
    cachesAreUnlimited = cache == .unlimited
    let count = Int(truth.aperture.entryCount)
    targets = Array(repeating: Self.nowhere, count: count)
    isFreed = Array(repeating: false, count: count)
    seenSinceFlush = Array(
      repeating: Array(repeating: 0, count: hasCaches ? count : 0), count: nodeCount)
    wasFreeWhenSeen = Array(
      repeating: Array(repeating: false, count: hasCaches ? count : 0), count: nodeCount)
  }

  mutating func flushed(node: Int) {
    for index in seenSinceFlush[node].indices { seenSinceFlush[node][index] = 0 }
  }

  // MARK: Beginning and ending

  mutating func begin(
    _ mapping: TraceMapping, on machine: RecordedMachine, _ log: inout DifferenceLog
  ) {
    guard mapping.isRemapped else {
      identity[mapping.identifier] = mapping
      check(identity: mapping, on: machine, &log)
      return
    }
    for (offset, index) in entries(of: mapping, &log).enumerated() {
      begin(entry: index, target: mapping.physical.pageNumber + UInt64(offset), on: machine, &log)
    }
  }

  /// - Parameters:
  ///   - index: An entry of the table.
  ///   - target: The number of the page that it must name.
  mutating func begin(
    entry index: Int, target: UInt64, on machine: RecordedMachine, _ log: inout DifferenceLog
  ) {
    if targets[index] != Self.nowhere {
      log.add(
        "\(name(index)) is given out, and still leads to \(hexadecimal(targets[index] << 12))")
    }
    targets[index] = target
    isFreed[index] = false
    check(entry: index, table: machine.table, on: machine, &log)
  }

  mutating func end(
    _ mapping: TraceMapping, on machine: RecordedMachine, _ log: inout DifferenceLog
  ) {
    guard mapping.isRemapped else {
      identity[mapping.identifier] = nil
      return
    }
    for index in entries(of: mapping, &log) { end(entry: index, on: machine, &log) }
  }

  mutating func end(entry index: Int, on machine: RecordedMachine, _ log: inout DifferenceLog) {
    if targets[index] == Self.nowhere {
      log.add("\(name(index)) is given back and was not given out")
    }
    targets[index] = Self.nowhere
    isFreed[index] = true
    check(entry: index, table: machine.table, on: machine, &log)
  }

  /// The entries of a mapping; none when they are not all in the table.
  private func entries(of mapping: TraceMapping, _ log: inout DifferenceLog) -> Range<Int> {
    let first = mapping.iova.pageNumber &- truth.aperture.base >> 12
    let count = UInt64(targets.count)
    guard first < count, mapping.pageCount <= count - first else {
      log.add("mapping \(mapping.identifier) is not in the aperture")
      return 0..<0
    }
    return Int(first)..<Int(first + mapping.pageCount)
  }

  private func address(_ index: Int) -> UInt64 { truth.aperture.base + UInt64(index) << 12 }

  private func name(_ index: Int) -> String { "page " + hexadecimal(address(index)) }

  // MARK: Comparing

  /// Compares all that is in force, and all that was given back.
  mutating func sweep(on machine: RecordedMachine, _ log: inout DifferenceLog) {
    check(entries: targets.indices, on: machine, &log)
    for mapping in identity.values { check(identity: mapping, on: machine, &log) }
  }

  /// Compares those of some entries that are in force or were given back.
  mutating func check(
    entries: Range<Int>, on machine: RecordedMachine, _ log: inout DifferenceLog
  ) {
    let table = machine.table
    for index in entries.clamped(to: targets.indices)
    where targets[index] != Self.nowhere || isFreed[index] {
      check(entry: index, table: table, on: machine, &log)
    }
  }

  /// Compares one page, in force or given back, at every node.
  private mutating func check(
    entry index: Int, table: PhysicalAddress, on machine: RecordedMachine,
    _ log: inout DifferenceLog
  ) {
    let fresh = GART.GATTEntry(
      from: machine.memory, at: PhysicalAddress(table.rawValue + UInt64(index) * 4))
    let target = targets[index]
    for node in seenSinceFlush.indices {
      let answer = machine.deviceSide.translate(
        IOVA(address(index)), byteCount: 1, access: .read, enteringAt: node, in: machine.memory)
      let isStale =
        hasCaches && isFromCache(answer, node: node, entry: index, fresh: fresh, &log)
      if !isStale, !isAnswer(answer, of: fresh) {
        log.add("\(name(index)) at node \(node): \(answer), which the table does not say")
      }
      if target == Self.nowhere {
        freedPageCount += 1
        guard !isStale, answer != answerForFreed(index) else { continue }
        log.add("\(name(index)) at node \(node) was given back: \(answer)")
      } else {
        pageCount += 1
        guard answer != .mapped(PhysicalAddress(target << 12), byteCount: 1) else { continue }
        // A device that reached for a page of nobody's finds it again: a flush comes when the search
        // comes round, not when a page is given out.
        if isStale, wasFreeWhenSeen[node][index] { continue }
        log.add("\(name(index)) at node \(node): \(answer), not \(hexadecimal(target << 12))")
      }
    }
  }

  /// Whether an answer is one that only a cache can have given, and remembers what was read.
  private mutating func isFromCache(
    _ answer: Translation, node: Int, entry index: Int, fresh: GART.GATTEntry?,
    _ log: inout DifferenceLog
  ) -> Bool {
    let seen = GART.GATTEntry(rawValue: seenSinceFlush[node][index])
    if seen.isValid, isAnswer(answer, of: seen) {
      guard !isAnswer(answer, of: fresh) else { return false }
      staleHitCount += 1
      return true
    }
    if seen.isValid, cachesAreUnlimited {
      log.add("\(name(index)) at node \(node): a translation was lost")
    }
    if let fresh, fresh.isValid {
      seenSinceFlush[node][index] = fresh.rawValue
      wasFreeWhenSeen[node][index] = targets[index] == Self.nowhere
    }
    return false
  }

  /// Addresses outside the aperture pass unchanged.
  private func check(
    identity mapping: TraceMapping, on machine: RecordedMachine, _ log: inout DifferenceLog
  ) {
    guard mapping.byteCount > 0,
      let last = mapping.iova.advanced(byBytes: mapping.byteCount - 1)
    else {
      log.add("mapping \(mapping.identifier) has \(mapping.byteCount) bytes at \(mapping.iova)")
      return
    }
    for address in [mapping.iova, last] {
      let answer = machine.deviceSide.translate(
        address, byteCount: 1, access: .write, enteringAt: 0, in: machine.memory)
      let offset = address.rawValue - mapping.iova.rawValue
      let target = PhysicalAddress(mapping.physical.rawValue &+ offset)
      if answer != .mapped(target, byteCount: 1) {
        log.add("\(address) of mapping \(mapping.identifier): \(answer), not \(target)")
      }
    }
  }

  /// Where a page that was given back leads with nothing cached: in the IOMMU's part to the scratch
  /// page, in AGP's part nowhere.
  private func answerForFreed(_ index: Int) -> Translation {
    UInt64(index) >= truth.aperture.firstEntry
      ? .mapped(truth.aperture.scratchPage, byteCount: 1) : .fault(.gart(.invalidEntry))
  }

  private func isAnswer(_ answer: Translation, of entry: GART.GATTEntry?) -> Bool {
    switch answer {
    case .mapped(let address, _): entry.map { $0.isValid && $0.page == address } ?? false
    case .fault: !(entry?.isValid ?? false)
    case .interruptMessage: false
    }
  }
}
