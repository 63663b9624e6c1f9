import IOMMUFormats
import IOMMUTranslation

extension Northbridge {
  /// What an access to `address` comes to at this node: passed unchanged outside the aperture or
  /// when the GART does not translate for the initiator; from the cache; or by a walk, which may
  /// leave an error in the registers.
  ///
  /// - Parameter byteCount: At least 1; the answer ends with the page.
  /// - Complexity: At most one entry read.
  package mutating func translate(
    _ address: IOVA, byteCount: UInt64, access: Access, by initiator: Initiator = .device,
    in memory: some PhysicalMemory
  ) -> Translation {
    guard let window = initiator == .device ? registers.window : registers.cpuWindow else {
      return .mapped(PhysicalAddress(address.rawValue), byteCount: byteCount)
    }
    let isInside = address.rawValue &- window.base < window.byteCount
    if isInside, let entry = cachedEntry(for: address.pageNumber) {
      let offset = address.offsetInPage
      return .mapped(
        PhysicalAddress(entry.page.rawValue | offset),
        byteCount: min(byteCount, PageCount.pageByteCount - offset))
    }
    var observer = LastEntry()
    let answer = DeviceHandle(requester: function, route: .table(.gatt(window)))
      .translate(address, byteCount: byteCount, access: access, in: memory, observer: &observer)
    guard isInside else { return answer }
    if let entry = observer.entry, entry.isValid {
      keep(entry, for: address.pageNumber)
    } else {
      logWalkError(at: address.rawValue)
    }
    return answer
  }
}

/// The entry that a walk has read; `nil` when there was no memory to read it from.
private struct LastEntry: WalkObserver {
  var entry: GART.GATTEntry?

  mutating func read<Entry: TableEntry>(
    _ entry: Entry, at _: PhysicalAddress, in _: TablePlace, index _: UInt64,
    as _: @autoclosure () -> Entry.Variant
  ) {
    self.entry = GART.GATTEntry(low: entry.low, high: entry.high)
  }
}
