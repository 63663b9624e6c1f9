import IOMMUFormats
import IOMMUHardware
import IOMMUImages
import IOMMUKdump
import IOMMUTranslation

/// A machine that is a recording: it answers our driver with what the real one saw, and notes where
/// our driver asks or does anything else.
final class ScriptedPlatform: CalgaryPlatform {
  /// What the real driver did next, in order.
  private var script: ArraySlice<TraceEvent> = []
  /// Entries that our driver stored since the script began, word by word.
  private var stored: [StoredWord] = []
  private(set) var complaint: String?
  /// Accesses and words of our driver that were those of the real one.
  private(set) var stepCount = 0
  let bases: [PhysicalAddress]
  let memory: FlatMemory

  struct StoredWord: Equatable {
    var address: UInt64
    var value: UInt64
  }

  init(bases: [PhysicalAddress], memory: FlatMemory) {
    self.bases = bases
    self.memory = memory
  }

  /// Our driver takes its next steps; they have to be those of `events`, stores included.
  ///
  /// - Returns: What differs; `nil` when nothing does.
  func run(_ events: [TraceEvent], _ body: () throws -> String?) rethrows -> String? {
    script = events.filter { if case .memory = $0.action { false } else { true } }[...]
    stored = []
    complaint = nil
    let difference = try body()
    if let complaint { return complaint }
    if let difference { return difference }
    if let rest = script.first {
      return "the real driver goes on, at line \(rest.line), where ours is done"
    }
    let theirs = events.flatMap(Self.words)
    guard theirs == stored else {
      let index = zip(theirs, stored).enumerated().first { $1.0 != $1.1 }?.offset
      let word = index.map { stored[$0] } ?? stored.dropFirst(theirs.count).first
      return "our driver stores "
        + (word.map { "\(hexadecimal($0.value)) at \(hexadecimal($0.address))" } ?? "less")
        + ", the real one something else"
    }
    stepCount += theirs.count
    return nil
  }

  /// Whether the recording goes on with a read of this register.
  func continues(with kind: Calgary.RegisterKind, _ base: PhysicalAddress, _ phb: Int) -> Bool {
    guard case .register(let access) = script.first?.action else { return false }
    return !access.isWrite && access.base == base
      && access.offset == Calgary.Register(kind, phb).offset
  }

  var isAtEnd: Bool { script.isEmpty }

  private static func words(_ event: TraceEvent) -> [StoredWord] {
    guard case .memory(let store) = event.action, store.wordByteCount == 8 else { return [] }
    let bytes = store.bytes
    return (0..<store.wordCount).map { index in
      StoredWord(
        address: store.address.rawValue &+ 8 &* UInt64(index),
        value: bytes[(8 * index)..<(8 * index + 8)].reduce(0) { $0 << 8 | UInt64($1) })
    }
  }

  private func complain(_ text: String) {
    if complaint == nil { complaint = text }
  }

  private func next(_ what: String) -> TraceEvent.Action? {
    guard let event = script.popFirst() else {
      complain("our driver \(what), the real one is done")
      return nil
    }
    return event.action
  }

  // MARK: The machine

  func chipBases() throws(Calgary.RioTableError) -> [PhysicalAddress] { bases }

  func readIdentity(of function: Requester) -> UInt32 {
    // Only reads that a function answered were recorded.
    guard case .configuration(let access) = script.first?.action, access.function == function
    else { return .max }
    script.removeFirst()
    stepCount += 1
    return UInt32(access.value)
  }

  private func access(
    _ isWrite: Bool, _ base: PhysicalAddress, _ offset: UInt64, _ byteCount: Int
  ) -> RegisterAccess? {
    let name =
      Calgary.Register(containing: offset)?.name ?? hexadecimal(offset)
    let what = (isWrite ? "writes " : "reads ") + name
    guard let action = next(what) else { return nil }
    guard case .register(let access) = action, access.isWrite == isWrite, access.base == base,
      access.offset == offset, access.byteCount == byteCount
    else {
      complain("our driver \(what), the real one does something else")
      return nil
    }
    stepCount += 1
    return access
  }

  func readRegister(_ base: PhysicalAddress, _ offset: UInt64, byteCount: Int) -> UInt64 {
    access(false, base, offset, byteCount)?.processorValue ?? 0
  }

  func writeRegister(
    _ value: UInt64, _ base: PhysicalAddress, _ offset: UInt64, byteCount: Int
  ) {
    guard let access = access(true, base, offset, byteCount) else { return }
    if access.processorValue != value {
      complain(
        "our driver writes \(hexadecimal(value)) to \(access.name), the real one "
          + hexadecimal(access.processorValue))
    }
  }

  func allocateTable(byteCount: UInt64, phb _: Int) -> PhysicalAddress {
    guard case .tableAllocation(let place, let size)? = next("takes a table") else {
      complain("our driver takes a table, the real one does something else")
      return PhysicalAddress(0)
    }
    stepCount += 1
    if size != byteCount { complain("our driver takes a table of \(byteCount) bytes, not \(size)") }
    return place
  }

  func storeEntries(
    from first: Calgary.TranslationControlEntry, count: Int, at address: PhysicalAddress
  ) {
    for index in 0..<UInt64(count) {
      stored.append(
        StoredWord(
          address: address.rawValue &+ 8 &* index, value: first.advanced(byPages: index).rawValue))
    }
  }

  func clearEntries(at address: PhysicalAddress, count: Int) {
    for index in 0..<UInt64(count) {
      stored.append(StoredWord(address: address.rawValue &+ 8 &* index, value: 0))
    }
  }

  func loadEntries(at address: PhysicalAddress, count: Int) -> [UInt64] {
    (0..<UInt64(count)).map {
      memory.bigEndianQuadword(at: PhysicalAddress(address.rawValue &+ 8 &* $0)) ?? 0
    }
  }

  /// Windows of bridges are not in the recording.
  func bridgeWindows(below _: UInt8) -> [Range<UInt64>] { [] }
}
