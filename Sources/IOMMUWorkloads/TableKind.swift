/// A table layout that workloads translate through.
public enum TableKind: String, CaseIterable, Sendable {
  case vtd3Levels = "vtd3"
  case vtd4Levels = "vtd4"
  case vtd5Levels = "vtd5"
  case vtd2MiB = "vtd4-2m"
  case vtd1GiB = "vtd4-1g"
  case amdvi3Levels = "amdvi3"
  case amdvi4Levels = "amdvi4"
  case tce
  case gatt

  /// In words, for a table's first column.
  public var title: String {
    switch self {
    case .vtd3Levels: "VT-d, 3 levels, 4 KiB"
    case .vtd4Levels: "VT-d, 4 levels, 4 KiB"
    case .vtd5Levels: "VT-d, 5 levels, 4 KiB"
    case .vtd2MiB: "VT-d, 4 levels, 2 MiB"
    case .vtd1GiB: "VT-d, 4 levels, 1 GiB"
    case .amdvi3Levels: "AMD-Vi, 3 levels, 4 KiB"
    case .amdvi4Levels: "AMD-Vi, 4 levels, 4 KiB"
    case .tce: "Calgary TCE, 4 KiB"
    case .gatt: "AMD GATT, 4 KiB"
    }
  }

  /// Bytes that one leaf entry maps, as a power of two.
  public var pageSizeLog2: Int {
    switch self {
    case .vtd2MiB: 21
    case .vtd1GiB: 30
    default: 12
    }
  }

  /// Bytes of IOVA that one table can map.
  public var reach: UInt64 {
    switch self {
    case .tce: 4 << 30
    case .gatt: 2 << 30
    default: 512 << 30
    }
  }

  /// Bytes of leaf entries for `span` bytes of IOVA.
  public func leafByteCount(span: UInt64) -> UInt64 {
    (span >> UInt64(pageSizeLog2)) * (self == .gatt ? 4 : 8)
  }
}
