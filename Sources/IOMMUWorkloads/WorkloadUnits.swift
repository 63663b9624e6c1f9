import IOMMUFormats
import IOMMUHardware

extension WorkloadTables {
  /// A live unit that translates ``requester`` through the table of four levels, in legacy mode.
  ///
  /// - Parameter caches: What the unit remembers.
  public func makeUnit(
    _ caches: CacheConfiguration
  ) throws(RemappingUnitConfigurationError) -> RemappingUnit {
    var configuration = RemappingUnitConfiguration.qemu
    configuration.caches = caches
    let unit = try RemappingUnit(configuration, memory: memory)
    unit.startTranslation(VTd.RootTableAddress(rootTable: rootTable))
    return unit
  }
}

extension StagedTables {
  /// A live unit that translates each ``requester(_:)`` through its stages, in scalable mode.
  ///
  /// - Parameter caches: What the unit remembers.
  public func makeUnit(
    _ caches: CacheConfiguration
  ) throws(RemappingUnitConfigurationError) -> RemappingUnit {
    var configuration = RemappingUnitConfiguration.currentServer
    configuration.caches = caches
    let unit = try RemappingUnit(configuration, memory: memory)
    unit.startTranslation(VTd.RootTableAddress(rootTable: rootTable, mode: .scalable))
    return unit
  }
}

extension RemappingUnit {
  /// What a driver writes to begin.
  fileprivate func startTranslation(_ root: VTd.RootTableAddress) {
    write(root.rawValue, at: VTd.RegisterOffset.rootTableAddress, byteCount: 8)
    var command = VTd.GlobalCommand(rawValue: 0)
    command.setsRootTablePointer = true
    command.enablesTranslation = true
    write(UInt64(command.rawValue), at: VTd.RegisterOffset.globalCommand, byteCount: 4)
  }
}

extension CacheConfiguration {
  /// As hardware has them, but no paging-structure cache.
  public static func withoutPagingStructures(iotlb: CacheSize = hardware.iotlb) -> Self {
    var caches = hardware
    caches.iotlb = iotlb
    caches.pagingStructures = .none
    return caches
  }
}
