import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// The I/O side of a machine with AMD-Vi: PCI, a unit behind its registers, and the table in which
/// firmware tells of it.
///
/// Kernels reach it by ``ivrsTable``, ``registers(at:)`` and ``capability``; devices by
/// ``translate(_:in:)``. It outlives a crash: the kernel after it finds the unit as the one before has
/// left it.
public final class AMDViPlatform {
  /// The IVRS table's bytes, as firmware leaves them in memory.
  public let ivrsTable: [UInt8]
  /// The header of the unit's capability block, as configuration space has it.
  public let capability: AMDVi.CapabilityHeader
  private let unit: AMDViUnit

  /// Where the registers of the one unit lie.
  public static let base = PhysicalAddress(0xfed8_0000)
  /// The function that the unit is.
  public static let function = Requester(bus: 0, device: 0, function: 2)

  /// A machine with one unit above all its devices.
  ///
  /// - Parameters:
  ///   - configuration: What the unit is, and what firmware wants of memory.
  ///   - memory: The machine's memory, where tables and rings are.
  ///   - aliases: Devices whose requests carry another number, and that number.
  public init(
    _ configuration: AMDViConfiguration, memory: FlatMemory,
    aliases: [(device: Requester, source: Requester)] = []
  ) throws(SetUpError) {
    let hardware = configuration.unit
    do {
      unit = try AMDViUnit(hardware, memory: memory)
    } catch {
      throw .amdviUnit(error)
    }
    capability = hardware.capability
    let devices =
      AMDVi.IVRS.DeviceEntry.range(
        Requester(bus: 0, device: 0, function: 3), through: Requester(rawValue: 0xffff))
      + aliases.map { .alias($0.device, carries: $0.source) }
    let flags = configuration.firmwareFlags
    // As firmware does: once for kernels that know the first type alone, once for all others. HATS is
    // at the same distance from the end in both.
    let blocks = [
      AMDVi.IVRS.Block(
        .unit, deviceID: Self.function, base: Self.base, flags: flags,
        features: UInt32(configuration.hostLevels - 4) << 30, entries: devices),
      AMDVi.IVRS.Block(
        .extendedUnit, deviceID: Self.function, base: Self.base, flags: flags,
        extendedFeatures: hardware.features.rawValue, entries: devices),
    ]
    ivrsTable =
      AMDVi.IVRS(
        header: ACPI.TableHeader(
          revision: 2, oemID: "IOMMU", oemTableID: "MACHINE", creatorID: "SWFT"),
        info: AMDVi.IVRS.Info(
          physicalAddressWidth: 52, virtualAddressWidth: 64, guestWidthCode: 2,
          hasExtendedFeatures: true),
        blocks: blocks + configuration.firmwareBlocks
      ).bytes
  }

  /// The registers of the unit at `base`; `nil` where no unit answers.
  public func registers(at base: PhysicalAddress) -> AMDViUnit? { base == Self.base ? unit : nil }
}

extension AMDViPlatform: DMAPort {
  /// What the unit looks at for such requests: the device table entry, I above all.
  public func refuses(translated request: DMARequest, in _: FlatMemory) -> Fault? {
    unit.passTranslated(
      AMDVi.Request(
        request.requester, request.address, request.access == .read ? .read : .write))
      ? nil : .translatedRequestRefused
  }

  public func translate(_ request: DMARequest, in memory: FlatMemory) -> Translation? {
    unit.translate(request, in: memory)
  }
}
