import IOMMUFormats

/// The short way that a handle's requests of one kind have, if any.
///
/// Plain words behind a pointer, and no enum with payloads: reading one field copies nothing else.
@frozen
public struct ShortParameters: Sendable {
  /// One bit each, so that a kind is told by one test; with ordinary cases LLVM makes a table of
  /// jumps, which costs seven instructions for every call.
  @frozen
  @usableFromInline
  enum Kind: UInt8, Sendable {
    /// Every request takes the exact path.
    case none = 0
    case threeLevels = 1
    case fourLevels = 2
    case fiveLevels = 4
    case tce = 8
    case gatt = 16
    case threeNamedLevels = 32
    case fourNamedLevels = 64
  }

  @usableFromInline let kind: UInt8
  /// Of VT-d tables and AMD-Vi's host tables; empty otherwise.
  @usableFromInline let radix: RadixParameters
  /// Of TCE tables and of GATTs; without an address otherwise.
  @usableFromInline let flat: FlatPath

  /// The short way of a handle's requests of one kind through a window of memory.
  init(_ handle: DeviceHandle, _ access: Access, window: MemoryWindow) {
    let dmaMask = handle.dmaMask
    var kind = Kind.none
    var radix: RadixParameters?
    var flat: FlatPath?
    switch handle.route {
    case .table(.secondStage(let table)):
      kind = Self.kind(levels: table.format.levels)
      radix = table.path(access, dmaMask: dmaMask, window: window)
    case .table(.firstStage(let table)):
      kind = Self.kind(levels: table.format.levels)
      radix = table.path(access, dmaMask: dmaMask, window: window)
    case .table(.tce(let table)):
      kind = .tce
      flat = table.path(access, dmaMask: dmaMask, window: window)
    case .table(.gatt(let gart)):
      kind = .gatt
      flat = gart.path(access, dmaMask: dmaMask, window: window)
    case .table(.amdHost(let table)):
      kind = [3: .threeNamedLevels, 4: .fourNamedLevels][table.format.levels] ?? .none
      radix = kind == .none ? nil : table.path(access, dmaMask: dmaMask, window: window)
    case .untranslated, .passThrough, .table, .blocked: break
    }
    self.kind = (radix == nil && flat == nil ? .none : kind).rawValue
    self.radix = radix ?? RadixParameters()
    self.flat = flat ?? FlatPath()
  }

  private static func kind(levels: Int) -> Kind {
    switch levels {
    case 3: .threeLevels
    case 4: .fourLevels
    case 5: .fiveLevels
    default: .none
    }
  }
}

/// A pointer to parameters, so that none is copied that is not needed. Safe while the ``ExactPath`` is
/// there that has them: whoever uses one holds it.
@frozen
@usableFromInline
@safe
struct ShortPath {
  @usableFromInline let place: UnsafePointer<ShortParameters>

  @unsafe
  @inlinable @inline(__always)
  init(_ place: UnsafePointer<ShortParameters>) { unsafe self.place = place }

  @usableFromInline
  var parameters: ShortParameters {
    @inlinable @inline(__always) unsafeAddress { unsafe place }
  }

  @inlinable @inline(__always)
  func isOf(_ kind: ShortParameters.Kind) -> Bool { parameters.kind & kind.rawValue != 0 }

  @inlinable @inline(__always)
  var radix: RadixPath {
    // Safe: a stored property has a place, and is there as long as what it is stored in.
    unsafe RadixPath(place.pointer(to: \.radix).unsafelyUnwrapped)
  }

  @inlinable @inline(__always)
  var flat: FlatPath { parameters.flat }
}

extension ShortPath {
  /// The physical address, or ``RadixPath/noAnswer``, for the kinds that callers have in line: those
  /// whose code needs no register kept.
  @inlinable @inline(__always)
  func translate(_ address: UInt64) -> UInt64 {
    // Flat tables are the shortest way: that one has the address says that it is one.
    if likely(flat.contains(address)) {
      return likely(flat.permission != 0)
        ? flat.translateTCE(address) : flat.translateGATT(address)
    }
    if likely(isOf(.fourLevels)) { return radix.translate(address, levels: 4) }
    return RadixPath.noAnswer
  }

  /// The same for the kinds that callers have not in line.
  @inlinable @inline(__always)
  func translateOutOfLine(_ address: UInt64) -> UInt64 {
    if isOf(.threeLevels) { return radix.translate(address, levels: 3) }
    if isOf(.fiveLevels) { return radix.translate(address, levels: 5) }
    return RadixPath.noAnswer
  }

  /// Tables whose entries name the next level.
  @inlinable @inline(__always)
  var hasNamedLevels: Bool {
    parameters.kind
      & (ShortParameters.Kind.threeNamedLevels.rawValue
        | ShortParameters.Kind.fourNamedLevels.rawValue) != 0
  }

  /// What a batch begins with, through tables whose entries name the next level. Not inlined, so that the
  /// others keep their registers.
  @inlinable @inline(never)
  func translateNamed(_ requests: Requests, _ regions: inout some RegionStore) -> BatchPart {
    isOf(.fourNamedLevels)
      ? radix.translate(requests, levels: 4, .namedLevels, regions: &regions)
      : radix.translate(requests, levels: 3, .namedLevels, regions: &regions)
  }

  /// Translates what a batch begins with.
  @inlinable @inline(__always)
  func translate(_ requests: Requests, _ regions: inout some RegionStore) -> BatchPart {
    if isOf(.fourLevels) {
      return radix.translate(requests, levels: 4, regions: &regions)
    }
    if isOf(.threeLevels) {
      return radix.translate(requests, levels: 3, regions: &regions)
    }
    if isOf(.fiveLevels) {
      return radix.translate(requests, levels: 5, regions: &regions)
    }
    if hasNamedLevels { return translateNamed(requests, &regions) }
    let block = requests.prefix(min(requests.count, BatchPart.blockCount))
    if isOf(.tce) { return flat.translateTCE(block: block) }
    if isOf(.gatt) { return flat.translateGATT(block: block) }
    for index in 0..<requests.count { requests[index] = RadixPath.noAnswer }
    return BatchPart(count: requests.count, isComplete: false)
  }
}

/// The addresses from a batch's start on that were translated together.
@frozen
@usableFromInline
struct BatchPart {
  /// Enough prefetches to fill the time of one, few enough for the first-level cache.
  @inlinable static var blockCount: Int { 256 }

  @usableFromInline let count: Int
  /// None of the answers is `noAnswer`.
  @usableFromInline let isComplete: Bool

  @inlinable @inline(__always)
  init(count: Int, isComplete: Bool) {
    self.count = count
    self.isComplete = isComplete
  }
}

extension VTd.SecondStageTable {
  /// `nil` where IR and IW say what devices may do.
  func path(_ access: Access, dmaMask: UInt64, window: MemoryWindow) -> RadixParameters? {
    guard !format.usesIOPermissions else { return nil }
    let nowhere = PhysicalAddress(0)
    let allowed = VTd.SecondStageEntry(page: nowhere, level: 1, permissions: access.permission)
    let large = VTd.SecondStageEntry(page: nowhere, level: 2, permissions: [])
    return RadixParameters(
      window: window, root: root, lastAddress: min(dmaMask, 1 << UInt64(addressWidth) - 1),
      tests: EntryTests(
        allowed: allowed.rawValue, pageSize: large.rawValue, access, marks: marks,
        reservedInPointers: format.reservedInLowPointers | format.reservedInHighPointers,
        reservedInPages: format.reservedInPages))
  }
}

extension VTd.FirstStageTable {
  /// Knows the lower half of the addresses: the upper one is rare, and the walker knows it.
  func path(_ access: Access, dmaMask: UInt64, window: MemoryWindow) -> RadixParameters? {
    RadixParameters(
      window: window, root: root,
      lastAddress: min(dmaMask, lastLowAddress), tests: tests(access))
  }

  /// The same of tables in a guest's addresses: where those lie in the window others find out.
  func guestPath(_ access: Access, window: MemoryWindow) -> RadixParameters {
    RadixParameters(
      window: window, guestRoot: root, lastAddress: lastLowAddress, tests: tests(access))
  }

  private var lastLowAddress: UInt64 { 1 << UInt64(format.addressWidth - 1) - 1 }

  private func tests(_ access: Access) -> EntryTests {
    let needs = access == .read ? rules.firstStageReadNeeds : rules.firstStageWriteNeeds
    let nowhere = PhysicalAddress(0)
    func entry(level: Int) -> UInt64 {
      VTd.FirstStageEntry(
        page: nowhere, level: level, isWritable: needs.contains(.write),
        isUser: needs.contains(.user)
      ).rawValue
    }
    let allowed = entry(level: 1)
    return EntryTests(
      allowed: allowed, pageSize: entry(level: 2) ^ allowed, access, marks: marks,
      reservedInPointers: format.reservedInLowPointers | format.reservedInHighPointers,
      reservedInPages: format.reservedInPages)
  }
}

extension AMDVi.HostTable {
  /// Knows tables whose entries lead one level down; the walker knows those that skip levels. `nil` where
  /// something besides the tables decides.
  func path(_ access: Access, dmaMask: UInt64, window: MemoryWindow) -> RadixParameters? {
    guard stop == nil, rules.exclusion.isEmpty, rules.permissions.contains(access.permission) else {
      return nil
    }
    typealias Entry = AMDVi.PageTableEntry
    let page = Entry(
      page: PhysicalAddress(0), sizeLog2: 12, level: 1, permissions: access.permission
    ).rawValue
    let nextLevel = Entry.nextLevelMask
    let leaf = page | marks.accessed | (access == .write ? marks.dirty : 0)
    let large = EntryTest(set: leaf, clear: AMDVi.HostFormat.reservedInPages | nextLevel)
    return RadixParameters(
      window: window, root: root,
      lastAddress: min(dmaMask, 1 << UInt64(format.addressWidth) - 1),
      tests: EntryTests(
        pointer: EntryTest(
          set: page | marks.accessed, clear: AMDVi.HostFormat.reservedInTables | nextLevel),
        page4KiB: EntryTest(set: leaf, clear: AMDVi.HostFormat.reservedInPages),
        page2MiB: large, page1GiB: large, dirty: marks.dirty))
  }
}

extension EntryTests {
  /// - Parameters:
  ///   - allowed: What an entry that allows the access has set.
  ///   - pageSize: What a large page has set.
  ///   - marks: Bits that have to be set already: setting them is the walker's work.
  init(
    allowed: UInt64, pageSize: UInt64, _ access: Access, marks: StageMarks,
    reservedInPointers: UInt64, reservedInPages: (UInt64, UInt64, UInt64)
  ) {
    let pointer = allowed | marks.accessed
    let page = pointer | (access == .write ? marks.dirty : 0)
    self.init(
      pointer: EntryTest(set: pointer, clear: reservedInPointers | pageSize),
      page4KiB: EntryTest(set: page, clear: reservedInPages.0),
      page2MiB: EntryTest(set: page | pageSize, clear: reservedInPages.1),
      page1GiB: EntryTest(set: page | pageSize, clear: reservedInPages.2), dirty: marks.dirty)
  }
}

extension Calgary.TCETable {
  func path(_ access: Access, dmaMask: UInt64, window: MemoryWindow) -> FlatPath? {
    let end = min(size.entryCount << 12, dmaMask == .max ? .max : dmaMask + 1)
    guard let run = holes.longestRun(below: end),
      let entry = table.advanced(byBytes: run.lowerBound >> 12 * 8)
    else { return nil }
    return FlatPath(
      window: window, entry: entry, entryByteCount: 8, addresses: run,
      permission: access.permission)
  }
}

extension Calgary.TCETable.Holes {
  /// The longest run of whole pages from 0 to `end` without a hole in it; `nil` when there is none.
  func longestRun(below end: UInt64) -> Range<UInt64>? {
    let holes = [legacy, memory1, memory2, VTd.interruptAddresses].filter { !$0.isEmpty }.sorted {
      $0.lowerBound < $1.lowerBound
    }
    var start: UInt64 = 0
    var longest: Range<UInt64> = 0..<0
    for hole in holes + [end..<end] {
      let next = min(hole.lowerBound, end)
      if start < next, next - start > longest.upperBound - longest.lowerBound {
        longest = start..<next
      }
      // Round up: a page that a hole begins or ends in is left to the exact path.
      start = max(start, hole.upperBound > .max - 4095 ? .max : (hole.upperBound + 4095) & ~4095)
    }
    return longest.isEmpty ? nil : longest
  }
}

extension GART.Window {
  func path(_ access: Access, dmaMask: UInt64, window: MemoryWindow) -> FlatPath? {
    guard dmaMask >= base, base <= .max - byteCount else { return nil }
    let end = min(base + byteCount, dmaMask == .max ? .max : dmaMask + 1)
    return FlatPath(
      window: window, entry: table, entryByteCount: 4, addresses: base..<end, permission: [])
  }
}
