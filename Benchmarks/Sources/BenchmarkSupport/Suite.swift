import CReference
import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import IOMMUWorkloads

/// Translations of one run, by Swift or by C: what a contender does to addresses.
public typealias Run = (UnsafeBufferPointer<IOVA>, UnsafeMutableBufferPointer<PackedTranslation>) ->
  Void

/// The tables all walks of one process share, and every way through them.
public final class Suite {
  public let tables: WorkloadTables
  let reference: UnsafeMutablePointer<reference_tables>

  /// 16 GiB of IOVA: 32 MiB of leaf entries of each kind.
  public static let span: UInt64 = 16 << 30

  public init() throws {
    tables = try WorkloadTables(span: Self.span, tceTableCount: 4)
    reference = .allocate(capacity: 1)
    reference.initialize(
      to: reference_tables(
        memory: UnsafePointer(tables.memory.bytes.baseAddress!.assumingMemoryBound(to: UInt8.self)),
        byte_count: UInt64(tables.memory.bytes.count), root: tables.root.rawValue,
        last_address: 1 << 48 - 1, tce_table: tables.tceTables[0].rawValue, tce_count: 4 << 20,
        gatt_table: tables.gattTable.rawValue,
        gatt_base: WorkloadTables.aperture.lowerBound.rawValue,
        gatt_byte_count: WorkloadTables.aperture.byteCount))
  }

  deinit { reference.deallocate() }

  /// A C function as a run.
  func c(
    _ function:
      @escaping (
        UnsafePointer<reference_tables>?, UnsafePointer<UInt64>?, UnsafeMutablePointer<UInt64>?, Int
      ) -> UInt64
  ) -> Run {
    { [reference] addresses, answers in
      let source = UnsafeRawPointer(addresses.baseAddress!).assumingMemoryBound(to: UInt64.self)
      let target = UnsafeMutableRawPointer(answers.baseAddress!)
        .assumingMemoryBound(to: UInt64.self)
      _ = function(reference, source, target, addresses.count)
    }
  }
}

// The hot loops, each a function of its own that can be found in the machine code by its name.

/// One call each, not inlined.
@inline(never)
public func hotTranslateCall(
  _ translator: borrowing Translator<FlatMemory>, _ address: UInt64
) -> UInt64 {
  translator.translate(IOVA(address), .read).rawValue
}

/// Calls it for each address, in the loop that the C reference has.
@inline(never)
func callEach(
  _ translator: borrowing Translator<FlatMemory>, _ addresses: UnsafeBufferPointer<IOVA>,
  _ answers: UnsafeMutableBufferPointer<PackedTranslation>
) {
  guard let source = addresses.baseAddress, let target = answers.baseAddress else { return }
  var index = 0
  while index < addresses.count {
    target[index] = PackedTranslation(
      rawValue: hotTranslateCall(translator, source[index].rawValue))
    index &+= 1
  }
}

/// One call each, inlined into the loop.
@inline(never)
public func hotTranslateInlined(
  _ translator: borrowing Translator<FlatMemory>, _ addresses: UnsafeBufferPointer<IOVA>,
  _ answers: UnsafeMutableBufferPointer<PackedTranslation>
) {
  for index in addresses.indices {
    answers[index] = translator.translate(addresses[index], .read)
  }
}

@inline(never)
public func hotTranslateBatch(
  _ translator: borrowing Translator<FlatMemory>, _ addresses: UnsafeBufferPointer<IOVA>,
  _ answers: UnsafeMutableBufferPointer<PackedTranslation>
) {
  var span = answers.mutableSpan
  translator.translate(addresses.span, .read, into: &span)
}

@inline(never)
public func hotTranslateBatchRegions(
  _ translator: borrowing Translator<FlatMemory>, _ addresses: UnsafeBufferPointer<IOVA>,
  _ answers: UnsafeMutableBufferPointer<PackedTranslation>, _ cache: RegionCache
) {
  var span = answers.mutableSpan
  translator.translate(addresses.span, .read, into: &span, through: cache)
}
