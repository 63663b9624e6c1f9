import IOMMUFormats
import IOMMUKdump

/// A machine of 256 MiB with 16 MiB of crash kernel at 32 MiB: small, so that every page is
/// looked at.
func smallConfiguration(
  _ mode: TranslationMode, devices: [Device] = Device.usual,
  crashKernel: [Range<PhysicalAddress>] = [
    PhysicalAddress(0x200_0000)..<PhysicalAddress(0x300_0000)
  ],
  ramByteCount: UInt64 = 256 << 20
) throws -> MachineConfiguration {
  let ram = try MemoryMap.ram(byteCount: ramByteCount)
  return MachineConfiguration(
    mode: mode, map: try MemoryMap(ram: ram, crashKernel: crashKernel), devices: devices)
}
