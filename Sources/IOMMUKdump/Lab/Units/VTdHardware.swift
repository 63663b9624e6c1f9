import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// VT-d in the lab.
struct VTdHardware: CrashHardware {
  /// How the primary kernel's tables are laid out.
  var tableMode: VTd.TranslationTableMode

  func boot(_ setup: CrashSetup) throws(SetUpError) -> PrimaryKernel {
    var configuration = setup.configuration(.vtd)
    configuration.vtd = VTdConfiguration(
      hasInvalidationQueue: tableMode == .scalable || !setup.deviceTLBs.isEmpty,
      tableMode: tableMode,
      hasScalableMode: tableMode == .scalable || setup.strategy == .copyFails,
      passesThrough: setup.strategy == .passThrough, deviceTLBs: setup.deviceTLBs,
      caches: setup.caches.vtd)
    return try PrimaryKernel(configuration)
  }

  func captureKernel(
    _ setup: CrashSetup, after primary: PrimaryKernel
  ) throws(SetUpError) -> any CaptureKernel {
    guard let strategy = strategy(setup.strategy), let platform = primary.platform else {
      return try setup.blindKernel(primary.memory)
    }
    var flaws: VTdCaptureKernel.Flaws = setup.omitsFlushes ? .omitsFlushes : []
    if setup.strategy == .copyReusingIDs { flaws.insert(.reusesDomainIDs) }
    if setup.strategy == .copyMisplacing { flaws.insert(.misplacesUpperHalves) }
    let other: VTd.TranslationTableMode = tableMode == .legacy ? .scalable : .legacy
    return try VTdCaptureKernel(
      strategy, of: setup.anyDevice, on: platform, memory: primary.memory,
      crashKernel: setup.machine.map.crashKernel,
      mode: setup.strategy == .copyFails ? other : tableMode, flaws: flaws,
      deviceTLBs: setup.deviceTLBs, memoryRanges: setup.firmwareMemory)
  }

  /// What the capture kernel does; `nil` for one that knows of no unit.
  private func strategy(_ strategy: CrashStrategy) -> VTdCaptureKernel.Strategy? {
    switch strategy {
    case .offAndAnew, .anew, .resetLinks, .busMasterOff: .reinitialise
    case .offInCapture: .switchOff
    case .copyContexts, .copyFails, .copyReusingIDs, .copyMisplacing: .copy
    case .copyPageTables: .copyPageTables
    case .passThrough: .passThrough
    case .liveUpdate: .goOn
    default: nil
    }
  }
}

extension CacheLevel {
  /// What a VT-d unit remembers.
  var vtd: CacheConfiguration {
    switch self {
    case .none: .none
    case .hardware: .hardware
    case .everything:
      CacheConfiguration(
        contexts: .unbounded, pasids: .unbounded, iotlb: .unbounded, pagingStructures: .unbounded,
        interruptEntries: .unbounded, trustsDomainIDs: true)
    }
  }

  /// What an AMD-Vi unit remembers.
  var amdvi: AMDViCacheConfiguration {
    switch self {
    case .none: .none
    case .hardware: .hardware
    case .everything: .everything
    }
  }
}
