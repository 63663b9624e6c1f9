import CReference
import IOMMUFormats
import IOMMUTranslation
import IOMMUWorkloads

/// A function of the C reference: tables, addresses, their answers, and how many.
typealias CFunction = (
  UnsafePointer<reference_tables>?, UnsafePointer<UInt64>?, UnsafeMutablePointer<UInt64>?, Int
) -> UInt64

/// The tables that all walks of one process share, and C's way through them.
final class Suite: @unchecked Sendable {
  // Sendable: neither the tables nor what C is told of them ever changes.
  let tables: WorkloadTables
  private let reference: UnsafeMutablePointer<reference_tables>

  /// 16 GiB of IOVA: 32 MiB of leaf entries of each kind.
  static let span: UInt64 = 16 << 30

  /// Translations of one run.
  static let count = 1 << 18

  private static let made = Result { try Suite() }

  /// The tables, made when first asked for.
  static func shared() throws -> Suite { try made.get() }

  private init() throws {
    tables = try WorkloadTables(span: Self.span, tceTableCount: 4)
    reference = .allocate(capacity: 1)
    reference.initialize(
      to: reference_tables(
        memory: tables.memory.start, byte_count: UInt64(tables.memory.byteCount),
        root: tables.root.rawValue, last_address: 1 << 48 - 1,
        amdvi_root: tables.amdviRoot.rawValue,
        tce_table: tables.tceTables[0].rawValue, tce_count: 4 << 20,
        gatt_table: tables.gattTable.rawValue,
        gatt_base: WorkloadTables.aperture.lowerBound.rawValue,
        gatt_byte_count: WorkloadTables.aperture.byteCount))
  }

  deinit { reference.deallocate() }

  /// A C function as a run.
  func c(_ function: @escaping CFunction) -> Run {
    { [self] addresses, answers in
      _ = function(reference, addresses.words, answers.words, addresses.count)
    }
  }
}

extension FlatMemory {
  /// Physical address 0, for C.
  var start: UnsafeMutablePointer<UInt8> {
    let bytes = bytesInPlace(from: PhysicalAddress(0))!
    return UnsafeMutablePointer(
      mutating: bytes.baseAddress!.assumingMemoryBound(to: UInt8.self))
  }

  /// Bytes from physical address 0 to the end of RAM.
  var byteCount: Int { Int(ram.last!.upperBound.rawValue) }
}

extension UnsafeBufferPointer<IOVA> {
  /// An IOVA is one word.
  var words: UnsafePointer<UInt64> {
    UnsafeRawPointer(baseAddress!).assumingMemoryBound(to: UInt64.self)
  }
}

extension UnsafeMutableBufferPointer<PackedTranslation> {
  /// A packed answer is one word.
  var words: UnsafeMutablePointer<UInt64> {
    UnsafeMutableRawPointer(baseAddress!).assumingMemoryBound(to: UInt64.self)
  }
}
