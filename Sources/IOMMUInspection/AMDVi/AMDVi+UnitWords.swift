import IOMMUFormats
import IOMMUTranslation

extension AMDVi.Unit: DescribedUnit {
  /// A unit whose tables were found in memory has no known place.
  var name: String { base.rawValue == 0 ? "an AMD-Vi unit" : "AMD-Vi unit at \(base)" }

  var text: String {
    guard translates else { return "\(name), off" }
    let segments = tableSegments.count > 1 ? " and \(tableSegments.count - 1) more segments" : ""
    return "\(name): device table \(deviceTable.address)\(segments)"
  }

  func describedUpperTables(in memory: some PhysicalMemory) -> [any DescribedUpperTable] {
    guard translates else { return [] }
    let segment = UInt32(segment ?? 0)
    let limits = AMDVi.Limits(features)
    let devices = tableSegments.compactMap { $0 }.map {
      DeviceTableWords(
        start: $0.start, byteCount: $0.byteCount, first: $0.first, limits: limits, segment: segment)
    }
    return devices
  }

  func describedTable(of mappings: InterruptMappings) -> (any DescribedUpperTable)? {
    control.map {
      AMDViInterruptTableWords(
        start: mappings.table, entryCount: mappings.entryCount,
        remapping: AMDVi.InterruptRemapping($0, features),
        device: mappings.devices?.first.map {
          PCI.Function(
            segment: UInt32(segment ?? 0), Requester(rawValue: $0.lowerBound))
        })
    }
  }
}

extension AMDVi.UnseenUnit: DescribedUnit {
  var name: String { "AMD-Vi unit at \(scope.base)" }
  var text: String { "\(name), listed by firmware; its registers are not known" }
}

/// A device table, or one segment of it.
private struct DeviceTableWords: DescribedUpperTable {
  let start: PhysicalAddress
  let byteCount: UInt64
  /// The device of the first entry.
  let first: UInt16
  let limits: AMDVi.Limits
  let segment: UInt32

  var place: UpperTableKind { AMDVi.deviceTableKind }
  var entryByteCount: UInt64 { AMDVi.deviceTableEntryByteCount }
  var ownerText: String { "" }

  func words(at index: UInt64, others _: Int, in memory: some PhysicalMemory) -> EntryWording? {
    guard let address = start.advanced(byBytes: index &* entryByteCount),
      let entry = AMDVi.DeviceTableEntry(from: memory, at: address)
    else { return nil }
    let device = PCI.Function(
      segment: segment, Requester(rawValue: first &+ UInt16(truncatingIfNeeded: index)))
    return EntryWording(
      title: "device table entry \(device)", separator: ": ", statement: entry.meaning(limits),
      entry: EntryDescription(explaining: entry, limits))
  }
}
