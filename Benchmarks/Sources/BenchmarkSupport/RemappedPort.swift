import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import IOMMUWorkloads

/// A remapping unit in front of the workloads' tables, and one port of it.
public final class RemappedPort {
  let unit: RemappingUnit
  let port: TranslationPort
  private let requester: Requester

  /// A device behind four levels of second-stage tables, in legacy mode.
  public init(_ tables: WorkloadTables, _ caches: CacheConfiguration) throws {
    requester = WorkloadTables.requester
    unit = try tables.makeUnit(caches)
    port = unit.makePort()
  }

  /// A device behind one stage or two, in scalable mode.
  public init(
    _ tables: StagedTables, _ stages: StagedTables.Stages, _ caches: CacheConfiguration
  ) throws {
    requester = StagedTables.requester(stages)
    unit = try tables.makeUnit(caches)
    port = unit.makePort()
  }

  /// As many ports of one unit.
  static func several(
    _ count: Int, _ tables: WorkloadTables, _ caches: CacheConfiguration
  ) throws -> [RemappedPort] {
    let first = try RemappedPort(tables, caches)
    return [first] + (1..<count).map { _ in RemappedPort(beside: first) }
  }

  private init(beside other: RemappedPort) {
    (unit, requester) = (other.unit, other.requester)
    port = unit.makePort()
  }

  /// Where the device's read of `address` goes; `nil` when it goes nowhere.
  @inline(__always)
  func translate(_ address: IOVA) -> PhysicalAddress? {
    guard
      case .mapped(let physical, _) = port.translate(VTd.Request(requester, address))
    else { return nil }
    return physical
  }

  /// Packed calls, one for each.
  public var calls: Run {
    { [port, requester] in hotTranslatePort(port, requester, $0, $1) }
  }

  public var batch: Run {
    { [port, requester] in hotTranslatePortBatch(port, requester, $0, $1) }
  }

  /// Requests of 64 KiB: sixteen addresses, the first bytes of pages in a row, at a time.
  public var diskRequests: Run {
    { [port, requester] in hotTranslateDiskRequests(port, requester, $0, $1) }
  }

  /// Requests with all that a bus transaction says, one call each.
  var requests: Run { { [self] in translate($0, into: $1) } }

  /// One call each by all steps: atomic requests, which no short way answers.
  var allSteps: Run { { [self] in translateByAllSteps($0, into: $1) } }

  @inline(never)
  private func translateByAllSteps(
    _ addresses: UnsafeBufferPointer<IOVA>,
    into answers: UnsafeMutableBufferPointer<PackedTranslation>
  ) {
    for index in addresses.indices {
      answers[index] = PackedTranslation(
        port.translate(VTd.Request(requester, addresses[index], .atomic)))
    }
  }

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
