import IOMMUFormats

/// Why a builder does not do what it was asked for. What it says of a mapping holds: see
/// ``TableMappingError``.
public enum TablesError: Error, Equatable, CustomStringConvertible {
  /// The page tables do not take it.
  case mapping(TableMappingError)
  /// No memory is left for a table.
  case noRoom(what: String, byteCount: UInt64)
  /// The allocator gave memory that is unaligned or takes no stores.
  case badAllocation(PhysicalAddress, what: String)
  /// An entry that is not as the builder left it: what it leads to is no table of these.
  case changedTable(PhysicalAddress, what: String)
  /// Devices would reach tables there.
  case holdsTables(Range<PhysicalAddress>)
  /// The device is of another PCI segment than the tables.
  case otherSegment(PCI.Function, tables: UInt32)
  /// The tables have no entry for the device.
  case deviceBeyondTables(PCI.Function)
  /// The device, this address space of it, or another one that does not go with this, goes through another
  /// domain or passes untranslated.
  case boundOtherwise(PCI.Function, PASID?)
  /// Nothing translates for the device, or for this address space of it.
  case notBound(PCI.Function, PASID?)
  /// The domain has no page tables, or is none of these tables.
  case noPageTables(domain: UInt16)
  /// Devices still go through the domain, or other domains lie in it.
  case domainInUse(UInt16)
  /// The number is another domain's already.
  case domainIDTaken(UInt16)
  /// The unit tells no more domains apart.
  case noDomainID
  /// The PASID is beyond the tables.
  case pasidBeyondTables(PASID, limit: UInt64)
  /// The unit, or the mode it is in, lacks something.
  case notSupported(String)
  /// The hardware does not translate these addresses, whatever a table says.
  case notTranslated(Range<IOVA>)

  public var description: String {
    switch self {
    case .mapping(let error): "\(error)"
    case .noRoom(let what, let byteCount):
      "no \(byteCount) bytes are left for \(what): give more memory for tables"
    case .badAllocation(let address, let what):
      "the allocator gave \(address) for \(what), which is unaligned or takes no stores"
    case .changedTable(let address, let what):
      "an entry leads to \(address) for \(what), which is none that was made here: somebody else has stored "
        + "to these tables, which have to be made anew"
    case .holdsTables(let range):
      "tables lie in \(range.text), and devices would reach them: map other memory, give the tables a "
        + "range of their own, or set allowsMappingTables"
    case .otherSegment(let device, let segment):
      "\(device) is of another PCI segment than the tables, which are of \(segment): "
        + "each segment has tables of its own"
    case .deviceBeyondTables(let device):
      "the tables have no entry for \(device): make them for more buses"
    case .boundOtherwise(let device, let pasid):
      "\(device)\(Self.text(pasid)) cannot go through this domain too: it, or another address space of the device, "
        + "is bound to one that this does not go with; unbind that first, or for PASIDs beside an AMD-Vi device's "
        + "own requests bind a nested domain in the device's host domain"
    case .notBound(let device, let pasid):
      "\(device)\(Self.text(pasid)) is bound to no domain: map something for it, or bind it"
    case .noPageTables(let domain):
      "domain \(domain) has no page tables here: devices in it pass untranslated, or it is another unit's"
    case .domainInUse(let domain):
      "devices or other domains still use domain \(domain): unbind them first"
    case .domainIDTaken(let domain): "domain \(domain) is there already: leave the number out"
    case .noDomainID: "the unit tells no more domains apart: let devices share some"
    case .pasidBeyondTables(let pasid, let limit):
      "PASID \(pasid) is beyond the tables, which have \(limit): make them for more"
    case .notSupported(let what): what
    case .notTranslated(let range):
      "\(range.text) lies where the hardware does not translate: choose other addresses"
    }
  }

  private static func text(_ pasid: PASID?) -> String { pasid.map { "/\($0)" } ?? "" }
}

/// Runs something on page tables; what those refuse, the builder refuses.
func inTables<Result>(
  _ body: () throws(TableMappingError) -> Result
) throws(TablesError) -> Result {
  do throws(TableMappingError) { return try body() } catch { throw .mapping(error) }
}
