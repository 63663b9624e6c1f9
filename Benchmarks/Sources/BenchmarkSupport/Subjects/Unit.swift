import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import IOMMUWorkloads

extension Subject {
  /// A request on its whole way through a unit: context entry, page tables, caches and counters.
  public static let unit = Subject(
    "Unit", "a VT-d unit end to end, against the exact walk of one device's handle"
  ) {
    let suite = try Suite.shared()
    let handle = suite.tables.handle(.vtd4Levels)
    let memory = suite.tables.memory
    return try [
      Workload.hotPage, .vtd("random 256 KiB", .random, 256 << 10),
      .vtd("random 64 MiB", .random, 64 << 20),
    ].map { workload in
      // Units of its own: what a cache holds, and in which way, is of this workload.
      let walkers = [
        Walker("handle") { walkExactly(handle, memory, $0, $1) },
        Walker("unit, caches as hardware", try RemappedPort(suite.tables, .hardware).requests),
        Walker("unit, no caches", try RemappedPort(suite.tables, .none).requests),
      ]
      return try suite.comparison(
        workload, walkers,
        [Ratio("unit, caches as hardware", to: "handle"), Ratio("unit, no caches", to: "handle")])
    }
  }
}

/// The exact walk, one call each.
@inline(never)
private func walkExactly(
  _ handle: DeviceHandle, _ memory: FlatMemory, _ addresses: UnsafeBufferPointer<IOVA>,
  _ answers: UnsafeMutableBufferPointer<PackedTranslation>
) {
  for index in addresses.indices {
    guard
      case .mapped(let physical, _) = handle.translate(
        addresses[index], byteCount: 1, access: .read, in: memory)
    else {
      answers[index] = .addressTooWide
      continue
    }
    answers[index] = PackedTranslation(rawValue: physical.rawValue)
  }
}
