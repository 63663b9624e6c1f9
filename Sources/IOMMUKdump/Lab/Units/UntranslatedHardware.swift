/// No translation: nommu and swiotlb.
struct UntranslatedHardware: CrashHardware {
  var usesBounceBuffers: Bool

  func boot(_ setup: CrashSetup) throws(SetUpError) -> PrimaryKernel {
    try PrimaryKernel(setup.configuration(usesBounceBuffers ? .swiotlb : .nommu))
  }

  func captureKernel(
    _ setup: CrashSetup, after primary: PrimaryKernel
  ) throws(SetUpError) -> any CaptureKernel {
    usesBounceBuffers
      ? try BouncingKernel(setup.machine.map.crashKernel, memory: primary.memory)
      : BlindKernel(setup.machine.map.crashKernel)
  }
}
