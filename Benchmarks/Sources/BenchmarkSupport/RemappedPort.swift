import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import IOMMUWorkloads

/// A remapping unit in front of the workloads' tables, and one port of it.
public final class RemappedPort {
  let unit: RemappingUnit
  let port: TranslationPort

  public init(_ tables: WorkloadTables, _ caches: CacheConfiguration) throws {
    var configuration = RemappingUnitConfiguration.qemu
    configuration.caches = caches
    unit = try RemappingUnit(configuration, memory: tables.memory)
    unit.write(
      VTd.RootTableAddress(rootTable: tables.rootTable).rawValue,
      at: VTd.RegisterOffset.rootTableAddress, byteCount: 8)
    var command = VTd.GlobalCommand(rawValue: 0)
    command.setsRootTablePointer = true
    command.enablesTranslation = true
    unit.write(UInt64(command.rawValue), at: VTd.RegisterOffset.globalCommand, byteCount: 4)
    port = unit.makePort()
  }

  /// Where the device's read of `address` goes; `nil` when it goes nowhere.
  @inline(__always)
  func translate(_ address: IOVA) -> PhysicalAddress? {
    guard
      case .mapped(let physical, _) = port.translate(
        VTd.Request(WorkloadTables.requester, address))
    else { return nil }
    return physical
  }

  /// Packed calls, one for each.
  public var calls: Run {
    { [port] in hotTranslatePort(port, WorkloadTables.requester, $0, $1) }
  }

  public var batch: Run {
    { [port] in hotTranslatePortBatch(port, WorkloadTables.requester, $0, $1) }
  }

  /// Requests with all that a bus transaction says, one call each.
  var requests: Run { { [self] in translate($0, into: $1) } }

  /// One loop in the machine code, whoever runs it.
  @inline(never)
  private func translate(
    _ addresses: UnsafeBufferPointer<IOVA>,
    into answers: UnsafeMutableBufferPointer<PackedTranslation>
  ) {
    for index in addresses.indices {
      answers[index] =
        translate(addresses[index]).map { PackedTranslation(rawValue: $0.rawValue) }
        ?? .addressTooWide
    }
  }
}

extension CacheConfiguration {
  /// As hardware has them, but no paging-structure cache.
  public static func withoutPagingStructures(iotlb: Geometry = hardware.iotlb) -> Self {
    var caches = hardware
    caches.iotlb = iotlb
    caches.pagingStructures = .none
    return caches
  }
}
