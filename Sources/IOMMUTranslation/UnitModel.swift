import IOMMUFormats

/// A translation unit as its registers stand: what a machine asks of every kind of IOMMU.
///
/// Requesters are resolved once and translated millions of times through what comes of it, so that a
/// unit may stand behind an existential.
package protocol UnitModel: Hashable, Sendable {
  /// What the unit does with a requester's DMA, and how sure it is that the requester is its own.
  ///
  /// - Parameter pasid: What the requests carry; `nil` for requests without PASID.
  func claim(
    on requester: Requester, pasid: PASID?, in memory: some PhysicalMemory,
    observer: inout some WalkObserver
  ) -> RouteClaim

  /// Every table in force, and what of them memory does not hold.
  func tables(in memory: some PhysicalMemory) -> TablesInForce

  /// Whether any device's requests are translated, as the registers stand.
  var translates: Bool { get }

  /// The PCI segment of the devices behind the unit; `nil` where nobody knows, which on nearly all
  /// machines means 0.
  var segment: UInt16? { get }

  /// What passes the unit as it is, as far as its registers say.
  var passages: [Passage] { get }

  /// What passes the unit as it is.
  func passages(in memory: some PhysicalMemory) -> [Passage]

  /// Whether there may be devices all of whose requests the unit blocks, whatever they ask for.
  var blocksDevices: Bool { get }

  /// Every table above the page tables, with who depends on it, as far as memory holds them.
  func upperTableExtents(in memory: some PhysicalMemory) -> [UpperTableExtent]

  /// What becomes of interrupts in the format that software without interrupt remapping uses.
  var interrupts: InterruptPassage { get }

  /// The same with what only memory says: where each device has a table of its own.
  func interrupts(in memory: some PhysicalMemory) -> InterruptPassage

  /// What the unit's interrupt remapping tables say.
  func interruptMappings(in memory: some PhysicalMemory) -> InterruptTables

  /// Why nobody knows which interrupt remapping table is in force, if any; `nil` where that is known.
  var unknownInterruptTable: String? { get }

  /// Whether interrupts may be posted into memory.
  var mayPostInterrupts: Bool { get }

  /// Memory that the CPU reaches through the unit; `nil` where it reaches all memory past it.
  var cpuAperture: CPUAperture? { get }

  /// What to say when another unit has a table for the same owner; `nil` where both mean the same.
  func ambiguity(of owner: TableOwner) -> TableGap?

  /// The unit is off, and devices of which another unit has tables may be behind it all the same: kernels
  /// write one table for all units.
  var mayPassOthersDevices: Bool { get }
}

extension UnitModel {
  package func passages(in _: some PhysicalMemory) -> [Passage] { passages }
  package func interrupts(in _: some PhysicalMemory) -> InterruptPassage { interrupts }
  package func upperTableExtents(in _: some PhysicalMemory) -> [UpperTableExtent] { [] }
  package var cpuAperture: CPUAperture? { nil }
  package var unknownInterruptTable: String? { nil }
  package var mayPostInterrupts: Bool { false }
  package func ambiguity(of _: TableOwner) -> TableGap? { nil }
  package var mayPassOthersDevices: Bool { false }
  package func interruptMappings(in _: some PhysicalMemory) -> InterruptTables { InterruptTables() }
}

/// What a unit does with interrupts in the format that software without interrupt remapping uses.
package enum InterruptPassage: Hashable, Sendable {
  /// The unit leaves all interrupts alone.
  case notRemapped
  /// Nobody knows; says what is not known and why.
  case unknown(String)
  /// It remaps interrupts and lets those in the compatibility format pass.
  case passesCompatibilityFormat
  /// It blocks those in the compatibility format; says why.
  case blocks(String)
}

/// Addresses at which the CPU's own accesses are translated.
package struct CPUAperture: Hashable, Sendable {
  /// Half-open.
  package var addresses: Range<PhysicalAddress>
  /// Whose aperture it is and why it is in force, for people.
  package var text: String

  package init(addresses: Range<PhysicalAddress>, text: String) {
    self.addresses = addresses
    self.text = text
  }
}

/// Where a table above the page tables lies.
package struct UpperTableExtent: Hashable, Sendable {
  package var kind: UpperTableKind
  /// What depends on it, of devices in ``segment``.
  package var scope: TableGap.Scope
  package var segment: UInt32
  /// Half-open.
  package var range: Range<PhysicalAddress>

  package init(
    kind: UpperTableKind, scope: TableGap.Scope, segment: UInt32 = 0, range: Range<PhysicalAddress>
  ) {
    self.kind = kind
    self.scope = scope
    self.segment = segment
    self.range = range
  }
}

extension UnitModel {
  package var segment: UInt16? { nil }
}

/// What a unit says of a requester.
package enum RouteClaim: Sendable {
  /// The requester is not behind this unit.
  case none
  /// The requester may be behind this unit, which would do this with its requests. Of several units
  /// that say so the first counts, one that blocks an unknown requester after all others.
  ///
  /// `isListed` says that firmware names the unit among those that the requester may be behind, whether
  /// or not the unit has tables for it.
  case possible(DeviceHandle.Route, isKnown: Bool, isListed: Bool = false)
  /// The requester is behind this unit; a later unit that says so overrules an earlier one.
  case certain(DeviceHandle.Route)
}

/// Requests that reach the address that they name.
package struct Passage: Hashable, Sendable {
  /// Which devices may make them.
  package enum Devices: Hashable, Sendable {
    case all
    case buses(ClosedRange<UInt8>)
    /// Those with these numbers.
    case requesters(segment: UInt32, ClosedRange<UInt16>)
    /// Those behind the unit whose registers lie there.
    case behindUnit(PhysicalAddress)
  }

  package var devices: Devices
  /// The addresses that pass, half-open, ascending.
  package var addresses: [Range<UInt64>]

  package init(_ devices: Devices, addresses: [Range<UInt64>] = [0 ..< .max]) {
    self.devices = devices
    self.addresses = addresses
  }

  /// Whether a request to this address passes.
  package func contains(_ address: UInt64) -> Bool { addresses.contains { $0.contains(address) } }

  /// Whether any request to these addresses passes.
  package func overlaps(_ range: Range<UInt64>) -> Bool {
    addresses.contains { $0.overlaps(range) }
  }
}

extension Passage.Devices: CustomStringConvertible {
  /// `any device`, `bus 02`, `buses 02 to 03`.
  package var description: String {
    switch self {
    case .all: "any device"
    case .buses(let buses):
      buses.count == 1
        ? "bus " + hexadecimal(buses.lowerBound, digits: 2)
        : "buses \(hexadecimal(buses.lowerBound, digits: 2)) to "
          + hexadecimal(buses.upperBound, digits: 2)
    case .requesters(let segment, let range):
      range.count == 1
        ? "\(PCI.Function(segment: segment, Requester(rawValue: range.lowerBound)))"
        : "\(PCI.Function(segment: segment, Requester(rawValue: range.lowerBound))) to "
          + "\(PCI.Function(segment: segment, Requester(rawValue: range.upperBound)))"
    case .behindUnit(let base):
      base.rawValue == 0
        ? "devices of a unit of unknown place" : "devices of the unit at \(base)"
    }
  }
}

/// A translation unit of any kind.
public struct TranslationUnit: Hashable, Sendable {
  package let model: any UnitModel

  package init(_ model: any UnitModel) { self.model = model }

  /// The unit as one of this kind; `nil` when it is another.
  package func `as`<Model: UnitModel>(_: Model.Type) -> Model? { model as? Model }

  public static func == (left: Self, right: Self) -> Bool {
    func isEqual<Model: UnitModel>(_ model: Model) -> Bool { model == right.model as? Model }
    return isEqual(left.model)
  }

  public func hash(into hasher: inout Hasher) { model.hash(into: &hasher) }
}
