import IOMMUFormats
import IOMMULinux
import IOMMUTranslation

/// Looks for tables of one kind: one conformance for each, in the folder of its hardware, listed in
/// ``TableFinders``.
///
/// A search goes over memory once and shows each finder the pages whose bits could be its tables', or
/// where its signature stands; afterwards each says what it makes of them.
protocol TableFinder: Sendable {
  /// Whose tables these are: those of different hardware are never of one machine.
  static var hardware: String { get }

  /// The units whose lists in a kernel's memory have such tables; `nil` where kernels keep no such list.
  static var kernelKind: KernelUnit.Kind? { get }

  /// The bits that no page of these tables has set: one mask for each of the eight quadwords of every
  /// 64 bytes, as a little-endian processor loads them. `nil` where single pages say nothing.
  static var excludedBits: SIMD8<UInt64>? { get }

  /// Four characters that a table of this kind begins with.
  static var signature: StaticString? { get }

  init()

  /// Takes a page that is not all zero and has none of the ``excludedBits``.
  ///
  /// - Parameter page: 4 KiB.
  mutating func see(_ page: Span<UInt8>, at address: PhysicalAddress)

  /// Takes a place where the ``signature`` stands.
  mutating func seeSignature(at address: PhysicalAddress)

  /// What was found, in any order and with scores of any height.
  ///
  /// - Parameter crashKernel: Where the capture kernel lives, if that is known.
  mutating func candidates(
    in memory: some PhysicalMemory, crashKernel: [Range<PhysicalAddress>]
  ) -> [TableCandidate]

  /// More places look like tables than any machine has: not all of them were followed.
  var isExhausted: Bool { get }

  /// The unit whose registers would lead to a table.
  ///
  /// Nothing is known of the unit but the table and the hints: all else that could be legal is.
  static func unit(of candidate: TableCandidate, _ hints: TableHints) -> FoundUnit

  /// The requesters that a unit's tables are for; `nil` where any may be behind it.
  static func requesters(
    of unit: TranslationUnit, in memory: some PhysicalMemory
  ) -> Set<Requester>?

  /// A machine's units with what found tables of firmware say of them, and of further ones.
  ///
  /// - Parameter tables: Those of this finder that are certain; may be none.
  /// - Returns: The units, and what is to be said of the tables.
  static func complete(
    _ units: [TranslationUnit], with tables: [TableCandidate], in memory: some PhysicalMemory
  ) -> (units: [TranslationUnit], remarks: [String])
  /// Units with what firmware is known to say of others of the machine.
  static func complete(
    _ units: [TranslationUnit], knowing machine: [TranslationUnit]
  ) -> [TranslationUnit]

  /// What ``NamedTable`` calls tables of this kind; the first name lets the finder decide what it may.
  static var names: [TableName] { get }

  /// The table that somebody says lies at an address.
  ///
  /// - Parameter byteCount: How long it is; `nil` where that is not said.
  /// - Returns: `nil` when its length is not said and cannot be told.
  static func candidate(
    named name: TableName, at address: PhysicalAddress, byteCount: UInt64?,
    in memory: some PhysicalMemory
  ) -> TableCandidate?

  /// What makes a unit's table doubtful that registers or somebody name; `nil` for other units.
  static func doubt(of unit: TranslationUnit, in memory: some PhysicalMemory) -> String?

  /// Why a table that somebody names is certainly none of the kind named, and what it is; `nil` where it
  /// may be.
  static func objection(
    to name: TableName, at address: PhysicalAddress, in memory: some PhysicalMemory
  ) -> String?
}

extension Machine {
  /// What is doubtful of tables that registers or somebody name: a table that leads to no device at all is
  /// likely that of another dump.
  package func doubts(in memory: some PhysicalMemory) -> [String] {
    units.flatMap { unit in TableFinders.all.compactMap { $0.doubt(of: unit, in: memory) } }
  }
}

extension TableFinder {
  static var kernelKind: KernelUnit.Kind? { nil }
  static var excludedBits: SIMD8<UInt64>? { nil }
  static var signature: StaticString? { nil }
  mutating func see(_: Span<UInt8>, at _: PhysicalAddress) {}
  mutating func seeSignature(at _: PhysicalAddress) {}
  var isExhausted: Bool { false }

  static func unit(of candidate: TableCandidate, _: TableHints) -> FoundUnit {
    .unknown("devices' requests do not go through a \(candidate.kind.name)")
  }

  static func requesters(
    of _: TranslationUnit, in _: some PhysicalMemory
  ) -> Set<Requester>? { nil }

  static func complete(
    _ units: [TranslationUnit], with _: [TableCandidate], in _: some PhysicalMemory
  ) -> (units: [TranslationUnit], remarks: [String]) { (units, []) }

  static func complete(
    _ units: [TranslationUnit], knowing _: [TranslationUnit]
  ) -> [TranslationUnit] { units }

  static var names: [TableName] { [] }

  static func candidate(
    named _: TableName, at _: PhysicalAddress, byteCount _: UInt64?, in _: some PhysicalMemory
  ) -> TableCandidate? { nil }

  static func doubt(of _: TranslationUnit, in _: some PhysicalMemory) -> String? { nil }

  static func objection(
    to _: TableName, at _: PhysicalAddress, in _: some PhysicalMemory
  ) -> String? { nil }

  /// The same mask for every quadword.
  static func everyQuadword(_ mask: UInt64) -> SIMD8<UInt64> { SIMD8(repeating: mask) }
}

/// All kinds of tables that a search finds. The first is what an address without a name means.
enum TableFinders {
  static let all: [any TableFinder.Type] = [
    VTd.RootTableFinder.self, Calgary.TCETableFinder.self, GART.GATTFinder.self,
    VTd.DMARFinder.self, Calgary.RioTableFinder.self, AMDVi.DeviceTableFinder.self,
    AMDVi.IVRSFinder.self,
  ]
}

/// What a table says of the unit above it.
enum FoundUnit {
  case unit(TranslationUnit)
  /// Too little: says what is missing and how to give it.
  case unknown(String)
}

/// What somebody knows of units whose tables are found in memory.
public struct TableHints: Sendable {
  /// Where the aperture of a GATT is.
  public var aperture: ApertureHint?
  /// Where the registers of the table's unit lie.
  public var unitBase: PhysicalAddress?
  /// The machine's units, as far as they are known.
  public var units: [TranslationUnit]

  /// `nil` is what nobody knows.
  public init(
    aperture: ApertureHint? = nil, unitBase: PhysicalAddress? = nil, units: [TranslationUnit] = []
  ) {
    self.aperture = aperture
    self.unitBase = unitBase
    self.units = units
  }
}

/// Where the aperture of a GATT is, as somebody knows it.
public struct ApertureHint: Sendable, Hashable {
  /// A multiple of 32 MiB below 2^40.
  public var base: UInt64
  /// `nil` where the table's own length says it.
  public var byteCount: UInt64?

  public init(base: UInt64, byteCount: UInt64? = nil) {
    self.base = base
    self.byteCount = byteCount
  }

  /// Reads `BASE` or `BASE+SIZE`.
  ///
  /// - Throws: ``NotationError`` for what no northbridge can have.
  package init(notation text: String) throws(NotationError) {
    let parts = text.split(separator: "+", maxSplits: 1, omittingEmptySubsequences: false)
    base = try Notation.address(String(parts[0]))
    guard base % (32 << 20) == 0, base < 1 << 40 else {
      throw NotationError("an aperture begins at a multiple of 32 MiB below 1 TiB")
    }
    guard parts.count > 1 else { return }
    let size = try Notation.size(String(parts[1]))
    guard size.nonzeroBitCount == 1, 32 << 20...2 << 30 ~= size else {
      throw NotationError("an aperture has 32, 64, 128, 256 or 512 MiB, 1 GiB or 2 GiB")
    }
    byteCount = size
  }
}

/// The pages that a finder has kept for a closer look, ascending.
struct KeptPages {
  private(set) var numbers: [UInt64] = []
  /// Pages were left out for their number.
  private(set) var isFull = false

  /// At most this many: a dump made of nothing else would fill memory.
  static let limit = 1 << 20

  /// Physical addresses have at most 52 bits: what a broken dump has beyond is no table's.
  static let addressLimit: UInt64 = 1 << 52

  /// Whether a page may be kept.
  func takes(_ address: PhysicalAddress) -> Bool {
    !isFull && address.rawValue < Self.addressLimit
  }

  mutating func add(_ address: PhysicalAddress) {
    if numbers.count < Self.limit { numbers.append(address.rawValue / 4096) } else { isFull = true }
  }
}
