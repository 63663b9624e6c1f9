import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// AMD-Vi in the lab.
struct AMDViHardware: CrashHardware {
  var kernel = AMDViConfiguration.Kernel.current()

  func boot(_ setup: CrashSetup) throws(SetUpError) -> PrimaryKernel {
    var configuration = setup.configuration(.amdvi)
    configuration.amdvi = AMDViConfiguration(
      kernel: kernel,
      passesThrough: setup.strategy == .passThrough, deviceTLBs: setup.deviceTLBs,
      caches: setup.caches.amdvi)
    return try PrimaryKernel(configuration)
  }

  func captureKernel(
    _ setup: CrashSetup, after primary: PrimaryKernel
  ) throws(SetUpError) -> any CaptureKernel {
    guard let strategy = strategy(setup.strategy), let platform = primary.amdviPlatform else {
      return try setup.blindKernel(primary.memory)
    }
    return try AMDViCaptureKernel(
      strategy, of: setup.anyDevice, on: platform, memory: primary.memory,
      crashKernel: setup.machine.map.crashKernel, flushes: !setup.omitsFlushes,
      memoryRanges: setup.firmwareMemory)
  }

  /// What the capture kernel does; `nil` for one that knows of no unit.
  private func strategy(_ strategy: CrashStrategy) -> AMDViCaptureKernel.Strategy? {
    switch strategy {
    // A table of another size is not copied, and what is done then is to set up anew.
    case .offAndAnew, .anew, .resetLinks, .busMasterOff, .copyFails: .reinitialise
    case .offInCapture: .switchOff
    case .copyContexts: .copy
    case .reuseInPlace: .reuse
    case .passThrough: .passThrough
    default: nil
    }
  }
}
