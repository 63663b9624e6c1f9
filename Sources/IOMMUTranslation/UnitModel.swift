import IOMMUFormats

/// A translation unit as its registers stand: what a machine asks of every kind of IOMMU.
///
/// Requesters are resolved once and translated millions of times through what comes of it, so that a
/// unit may stand behind an existential.
public protocol UnitModel: Hashable, Sendable {
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

  /// What passes the unit as it is.
  var passages: [Passage] { get }
}

/// What a unit says of a requester.
public enum RouteClaim: Sendable {
  /// The requester is not behind this unit.
  case none
  /// The requester may be behind this unit, which would do this with its requests. Of several units
  /// that say so the first counts, one that blocks an unknown requester after all others.
  case possible(DeviceHandle.Route, isKnown: Bool)
  /// The requester is behind this unit; a later unit that says so overrules an earlier one.
  case certain(DeviceHandle.Route)
}

/// Requests that reach the address that they name.
public struct Passage: Hashable, Sendable {
  /// Which devices may make them.
  public enum Devices: Hashable, Sendable {
    case all
    case buses(ClosedRange<UInt8>)
    /// Those behind the unit whose registers lie there.
    case behindUnit(PhysicalAddress)
  }

  public var devices: Devices
  /// The addresses that pass, half-open, ascending.
  public var addresses: [Range<UInt64>]

  public init(_ devices: Devices, addresses: [Range<UInt64>] = [0 ..< .max]) {
    self.devices = devices
    self.addresses = addresses
  }

  /// Whether a request to this address passes.
  public func contains(_ address: UInt64) -> Bool { addresses.contains { $0.contains(address) } }

  /// Whether any request to these addresses passes.
  public func overlaps(_ range: Range<UInt64>) -> Bool { addresses.contains { $0.overlaps(range) } }
}

/// A translation unit of any kind.
public struct TranslationUnit: Hashable, Sendable {
  public let model: any UnitModel

  public init(_ model: any UnitModel) { self.model = model }

  /// The unit as one of this kind; `nil` when it is another.
  public func `as`<Model: UnitModel>(_: Model.Type) -> Model? { model as? Model }

  public static func == (left: Self, right: Self) -> Bool {
    func isEqual<Model: UnitModel>(_ model: Model) -> Bool { model == right.model as? Model }
    return isEqual(left.model)
  }

  public func hash(into hasher: inout Hasher) { model.hash(into: &hasher) }
}
