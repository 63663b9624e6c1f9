import IOMMUFormats

extension VTd {
  /// A table above the page tables: root, contexts, PASID directory or PASIDs.
  public struct UpperTable: Hashable, Sendable {
    public enum Kind: Hashable, Sendable {
      case root
      /// The contexts of a bus, from a device and function on: half of them in scalable mode.
      case contexts(bus: UInt8, firstDeviceFunction: UInt8)
      case pasidDirectory(Requester)
      /// 64 address spaces of a device.
      case pasids(Requester, first: PASID)
    }

    public var kind: Kind
    public var start: PhysicalAddress
    public var byteCount: UInt64
    public var isScalable: Bool

    /// The level that walk observers see for its entries.
    public var level: Int {
      switch kind {
      case .root: VTd.Unit.rootLevel
      case .contexts: VTd.Unit.contextLevel
      case .pasidDirectory: VTd.Unit.pasidDirectoryLevel
      case .pasids: VTd.Unit.pasidTableLevel
      }
    }
  }
}

extension VTd.Unit {
  /// Every table above the page tables, once for each who uses it, from the root down.
  ///
  /// Follows present entries whether or not the unit would take them; at most
  /// ``VTd/Resolver/addressSpaceLimit`` tables, and at most 2^24 directory entries.
  public func upperTables(in memory: some PhysicalMemory) -> [VTd.UpperTable] {
    let isScalable = rootTableAddress.mode == .scalable
    guard isScalable || rootTableAddress.mode == .legacy else { return [] }
    func table(_ kind: VTd.UpperTable.Kind, _ start: PhysicalAddress, _ byteCount: UInt64)
      -> VTd.UpperTable
    {
      VTd.UpperTable(kind: kind, start: start, byteCount: byteCount, isScalable: isScalable)
    }
    var tables = [table(.root, rootTableAddress.rootTable, 4096)]
    for bus in UInt8.min...UInt8.max {
      let contexts = contextTables(bus: bus, in: memory)
      for first: UInt8 in isScalable ? [0, 128] : [0] {
        guard let start = contexts(first) else { continue }
        tables.append(table(.contexts(bus: bus, firstDeviceFunction: first), start, 4096))
      }
    }
    guard isScalable else { return tables }
    var entriesLeft = 1 << 24
    for requester in requesters(in: memory) {
      guard let start = contextTables(bus: requester.bus, in: memory)(requester.deviceFunction),
        let context = VTd.ScalableContextEntry(
          from: memory,
          at: Self.scalableContextEntryAddress(
            in: start, deviceFunction: requester.deviceFunction))
      else { continue }
      let byteCount = UInt64(context.pasidLimit / 64) * 8
      tables.append(table(.pasidDirectory(requester), context.pasidDirectory, byteCount))
      for index in 0..<context.pasidLimit / 64 {
        guard tables.count < VTd.Resolver.addressSpaceLimit, entriesLeft > 0 else { return tables }
        entriesLeft -= 1
        let first = PASID(index * 64)
        let place = Self.directoryEntryAddress(in: context.pasidDirectory, first)
        guard let entry = VTd.PASIDDirectoryEntry(from: memory, at: place), entry.isPresent else {
          continue
        }
        tables.append(table(.pasids(requester, first: first), entry.pasidTable, 4096))
      }
    }
    return tables
  }
}
