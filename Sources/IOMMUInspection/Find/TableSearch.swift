import IOMMUFormats
import IOMMUTranslation

/// Looks for translation tables in memory, by their structure alone.
///
/// A dump has no registers. One pass over memory keeps the pages whose bits could be a table's;
/// what is left is followed, entry by entry, as hardware would. Each candidate has a score and the
/// reasons for it.
public struct TableSearch: Sendable {
  /// How far a search has come, in bytes of memory.
  public struct Progress: Sendable {
    public var doneByteCount: UInt64
    public var byteCount: UInt64
  }

  /// Everything found: tables that translate before the firmware's, the higher score first, and of
  /// equals the capture kernel's, which is in force later.
  public let candidates: [TableCandidate]
  /// More places look like tables than any machine has: not all of them were followed.
  public let isExhausted: Bool
  /// Bytes of memory that were there to be searched.
  public let byteCount: UInt64

  /// Candidates below this score are not worth a line.
  public static let lowestScore = 25

  /// Searches all of memory.
  ///
  /// - Parameters:
  ///   - crashKernel: Where the capture kernel lives, if that is known.
  ///   - progress: Called now and then.
  /// - Complexity: O(bytes of memory), and one walk of the tables of each candidate.
  public init(
    in memory: some PhysicalMemory, crashKernel: [Range<PhysicalAddress>] = [],
    progress: (Progress) -> Void = { _ in }
  ) {
    var sweep = MemorySweep()
    byteCount = sweep.run(over: memory, progress: progress)
    var judge = RootJudge(memory: memory)
    var roots: [RootCandidate] = []
    for page in sweep.rootPages {
      guard let root = judge.candidate(at: PhysicalAddress(page * 4096)),
        root.candidate.score >= Self.lowestScore
      else { continue }
      roots.append(root)
    }
    let flat = FlatTableJudge(memory: memory)
    var found = OwnerJudge(crashKernel: crashKernel).judged(roots)
    found += flat.tceTables(pages: sweep.tcePages)
    found += flat.gatts(pages: sweep.gattPages)
    var firmware = FirmwareTables.Budget()
    found += sweep.dmarOffsets.compactMap {
      FirmwareTables.dmar(at: PhysicalAddress($0), in: memory, budget: &firmware)
    }
    isExhausted = judge.isExhausted || firmware.isExhausted
    if let rio = FirmwareTables.rioTable(in: memory) { found.append(rio) }
    candidates = found.filter { $0.score >= Self.lowestScore }.sorted {
      $0.rank < $1.rank
    }
  }

  /// The tables that are used when nobody says which: all that are certain and may be in force together.
  ///
  /// - Parameter apertureBase: Where the aperture of a GATT begins, where somebody knows.
  public func selection(
    in memory: some PhysicalMemory, apertureBase: UInt64? = nil
  ) -> TableSelection {
    var selection = TableSelection()
    var owners: [(requesters: Set<Requester>, root: PhysicalAddress)] = []
    for candidate in candidates where candidate.isCertain && candidate.kind.translates {
      guard let unit = candidate.unit ?? apertureBase.flatMap({ candidate.node(apertureBase: $0) })
      else {
        selection.passedOver.append(
          (candidate, "where its aperture lies is said by no table; give --aperture BASE"))
        continue
      }
      // Flat tables and trees are never of one machine.
      if let first = selection.taken.first, first.kind.family != candidate.kind.family {
        selection.passedOver.append((candidate, "it is of other hardware than \(first.address)"))
        continue
      }
      if let vtd = unit.as(VTd.Unit.self) {
        let requesters = Set(vtd.requesters(in: memory))
        if let other = owners.first(where: { !$0.requesters.isDisjoint(with: requesters) }) {
          selection.passedOver.append(
            (candidate, "it has devices of \(other.root) too, as another kernel's has"))
          continue
        }
        owners.append((requesters, candidate.address))
      }
      selection.taken.append(candidate)
      selection.units.append(unit)
    }
    return selection
  }

  /// What a page looks like as a root table: in the mode that fits better, legacy when none does.
  public static func rootTable(
    at address: PhysicalAddress, in memory: some PhysicalMemory
  ) -> TableCandidate {
    var judge = RootJudge(memory: memory)
    return judge.candidate(at: address)?.candidate
      ?? TableCandidate(
        kind: .rootTable, address: address, byteCount: PageCount.pageByteCount, score: 0,
        reasons: ["leads to no device"])
  }

  /// Whose a root table is, by where its tables lie; `nil` where nothing tells.
  public static func owner(
    ofRootTable address: PhysicalAddress, in memory: some PhysicalMemory
  ) -> TableCandidate.Owner? {
    var judge = RootJudge(memory: memory)
    guard let root = judge.candidate(at: address) else { return nil }
    return root.looksCopied ? .captureKernel : nil
  }
}

/// Which of the tables found are used.
public struct TableSelection: Sendable {
  /// In force together, the best first.
  public var taken: [TableCandidate] = []
  /// The units that those make, in the same order.
  public var units: [TranslationUnit] = []
  /// Certain tables that are not used, and why.
  public var passedOver: [(candidate: TableCandidate, reason: String)] = []
}

extension TableCandidate.Kind {
  /// Kinds that one machine may have together.
  fileprivate var family: Int {
    switch self {
    case .rootTable, .scalableRootTable, .dmar: 0
    case .tceTable, .rioTable: 1
    case .gatt: 2
    }
  }
}

extension TableCandidate {
  /// Smaller is better.
  fileprivate var rank: (Int, Int, Int, UInt64) {
    (kind.translates ? 0 : 1, -score, owner == .captureKernel ? 0 : 1, address.rawValue)
  }
}

/// Tells a dead kernel's tables from those of the kernel that dumps it.
struct OwnerJudge {
  let crashKernel: [Range<PhysicalAddress>]

  /// Root tables that others are compared with: there is one for each kernel that has run. A dump
  /// may be made of them.
  private static let comparedLimit = 32

  func judged(_ roots: [RootCandidate]) -> [TableCandidate] {
    let certain = roots.filter(\.candidate.isCertain).prefix(Self.comparedLimit)
    return roots.map { root in
      var candidate = root.candidate
      guard candidate.isCertain else { return candidate }
      let copies = certain.filter {
        $0.candidate.address != candidate.address && !$0.trees.isDisjoint(with: root.trees)
      }
      if !copies.isEmpty {
        candidate.reasons.append(
          "shares page tables with the root table at "
            + listText(copies.map { "\($0.candidate.address)" }))
      }
      if !crashKernel.isEmpty {
        let isInside = crashKernel.contains { $0.contains(candidate.address) }
        candidate.owner = isInside ? .captureKernel : .deadKernel
        candidate.reasons.append("lies \(isInside ? "in" : "outside") the crash kernel's memory")
      } else if root.looksCopied {
        candidate.owner = .captureKernel
        candidate.reasons.append(
          "\(root.companions.count - root.companionsNearby) of \(root.companions.count) "
            + (candidate.kind == .scalableRootTable ? "PASID directories" : "page table trees")
            + " lie away from the root and context tables: copies, which a capture kernel makes")
      } else if copies.contains(where: \.looksCopied) {
        candidate.owner = .deadKernel
      }
      return candidate
    }
  }
}

/// One pass over memory: which pages are worth a closer look.
private struct MemorySweep {
  private(set) var rootPages: [UInt64] = []
  private(set) var tcePages: [UInt64] = []
  private(set) var gattPages: [UInt64] = []
  private(set) var dmarOffsets: [UInt64] = []

  /// Pages kept of each kind at most: a dump made of nothing else would fill memory.
  private static let pageLimit = 1 << 20
  private static let chunkByteCount = 1 << 16
  private let sieve = PageSieve()

  /// - Returns: Bytes seen.
  mutating func run(
    over memory: some PhysicalMemory, progress: (TableSearch.Progress) -> Void
  ) -> UInt64 {
    let ranges = memory.backedRanges
    let total = ranges.reduce(0) { $0 &+ $1.byteCount }
    let buffer = UnsafeMutableRawBufferPointer.allocate(
      byteCount: Self.chunkByteCount, alignment: 4096)
    defer { buffer.deallocate() }
    var done: UInt64 = 0
    for range in ranges {
      var address = range.lowerBound.rawValue
      let end = range.upperBound.rawValue
      while address < end {
        // Up to a multiple of the chunk, so that all but the first begin at a page.
        let room = UInt64(Self.chunkByteCount) - address % UInt64(Self.chunkByteCount)
        let wanted = Int(min(room, end - address))
        let piece = piece(of: memory, at: address, upTo: wanted, buffer: buffer)
        let count = piece.count
        if count == 0 {
          // A range may promise a page that is not there.
          let next = min(end, address | 4095 == .max ? end : (address | 4095) + 1)
          done &+= next - address
          address = next
          continue
        }
        look(at: piece, address, memory)
        address += UInt64(count)
        done &+= UInt64(count)
        if address % (UInt64(Self.chunkByteCount) << 8) == 0 {
          progress(TableSearch.Progress(doneByteCount: done, byteCount: total))
        }
      }
    }
    return total
  }

  /// Bytes of memory: where they lie when that can be, else copied into `buffer`.
  private func piece(
    of memory: some PhysicalMemory, at address: UInt64, upTo byteCount: Int,
    buffer: UnsafeMutableRawBufferPointer
  ) -> UnsafeRawBufferPointer {
    if let bytes = memory.bytesInPlace(from: PhysicalAddress(address)) {
      return UnsafeRawBufferPointer(rebasing: bytes.prefix(byteCount))
    }
    let count = memory.read(
      at: PhysicalAddress(address),
      into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<byteCount]))
    return UnsafeRawBufferPointer(rebasing: buffer[..<count])
  }

  private mutating func look(
    at bytes: UnsafeRawBufferPointer, _ start: UInt64, _ memory: some PhysicalMemory
  ) {
    var offset = 0
    while offset < bytes.count {
      let address = start + UInt64(offset)
      let room = Int(4096 - address % 4096)
      let piece = UnsafeRawBufferPointer(
        rebasing: bytes[offset..<min(bytes.count, offset + room)])
      if piece.count == PageSieve.pageByteCount {
        lookAtPage(piece, address, memory)
      } else {
        addSignatures(in: piece, at: address, memory)
      }
      offset += piece.count
    }
  }

  private mutating func lookAtPage(
    _ page: UnsafeRawBufferPointer, _ address: UInt64, _ memory: some PhysicalMemory
  ) {
    let look = sieve.look(page)
    guard look != .zero else { return }
    addSignatures(in: page, at: address, memory)
    guard look != [] else { return }
    if look.contains(.root), rootPages.count < Self.pageLimit, isRoot(page) {
      rootPages.append(address / 4096)
    }
    if look.contains(.tce), tcePages.count < Self.pageLimit, hasTCEs(page) {
      tcePages.append(address / 4096)
    }
    if look.contains(.gatt), gattPages.count < Self.pageLimit, hasGATTEntries(page) {
      gattPages.append(address / 4096)
    }
  }

  /// The signature may begin on one page and end on the next.
  private mutating func addSignatures(
    in piece: UnsafeRawBufferPointer, at address: UInt64, _ memory: some PhysicalMemory
  ) {
    guard dmarOffsets.count < Self.pageLimit else { return }
    for offset in PageSieve.offsets(of: "DMAR", in: piece) {
      dmarOffsets.append(address + UInt64(offset))
    }
    let pattern = PageSieve.pattern("DMAR")
    for tail in 1...3 where address >= UInt64(tail) {
      let place = address - UInt64(tail)
      // Most pages do not begin with the signature's end, and need no look at the page before.
      guard piece.count >= 4, PageSieve.endsSignature(piece, pattern: pattern, tail: tail),
        memory.doubleword(at: PhysicalAddress(place)) == pattern
      else { continue }
      dmarOffsets.append(place)
    }
  }

  private func isRoot(_ page: UnsafeRawBufferPointer) -> Bool {
    var isUsed = false
    for offset in stride(from: 0, to: page.count, by: 8) {
      let entry = VTd.RootEntry(
        low: UInt64(littleEndian: page.loadUnaligned(fromByteOffset: offset, as: UInt64.self)))
      guard entry.low != 0 else { continue }
      guard entry.isPresent, entry.contextTable.rawValue != 0 else { return false }
      isUsed = true
    }
    return isUsed
  }

  /// A page of a table that is worth finding has several.
  private func hasTCEs(_ page: UnsafeRawBufferPointer) -> Bool {
    var count = 0
    for offset in stride(from: 0, to: page.count, by: 8) {
      let word = page.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
      guard word != 0 else { continue }
      let entry = Calgary.TranslationControlEntry(rawValue: UInt64(bigEndian: word))
      guard !entry.permissions.isEmpty, entry.page.rawValue != 0 else { return false }
      count += 1
    }
    return count >= 4
  }

  private func hasGATTEntries(_ page: UnsafeRawBufferPointer) -> Bool {
    var valid = 0
    for offset in stride(from: 0, to: page.count, by: 4) {
      let entry = GART.GATTEntry(
        rawValue: UInt32(
          littleEndian: page.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
      guard entry.rawValue != 0 else { continue }
      guard entry.page.rawValue != 0 else { return false }
      if entry.isValid { valid += 1 }
    }
    // A page of an aperture that AGP shares may hold invalid entries alone.
    return valid > 0 || page.loadUnaligned(as: UInt32.self) != 0
  }
}
