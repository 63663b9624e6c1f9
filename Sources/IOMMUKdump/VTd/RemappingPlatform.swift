import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// The I/O side of a machine with VT-d: PCI, a remapping unit behind its registers, and the table
/// in which firmware tells of it.
///
/// Kernels reach it by ``dmarTable``, ``registers(at:)`` and configuration space; devices by
/// ``translate(_:in:)``. It outlives a crash: the kernel after it finds the unit as
/// the one before has left it.
public final class RemappingPlatform {
  public let topology: PCI.Topology
  /// The DMAR table's bytes, as firmware leaves them in memory.
  public let dmarTable: [UInt8]
  private let units: [PhysicalAddress: RemappingUnit]
  /// Where devices' requests enter each unit.
  private let ports: [PhysicalAddress: TranslationPort]
  /// What firmware says of the wiring, which is how the devices are wired.
  private let wiring: RemappingHardware
  /// The same for the devices that there are from the start.
  private let portsOfDevices: [Requester: TranslationPort]

  /// Where the registers of the one unit lie.
  public static let base = PhysicalAddress(0xfed9_0000)

  /// A machine with one unit above all its devices.
  ///
  /// - Parameters:
  ///   - configuration: What the unit is.
  ///   - memory: The machine's memory, where tables and queues are.
  ///   - requesters: The devices there are.
  /// - Throws: ``SetUpError/remappingUnit(_:)`` for a unit that cannot be,
  ///   ``SetUpError/noRoomForBridge(on:to:)`` for more devices than have a place.
  public init(
    _ configuration: RemappingUnitConfiguration, memory: FlatMemory, requesters: [Requester]
  ) throws(SetUpError) {
    do {
      topology = try PCI.Topology(functionsAt: requesters)
    } catch {
      throw .noRoomForBridge(on: 0, to: error.bus)
    }
    let unit: RemappingUnit
    do {
      unit = try RemappingUnit(configuration, memory: memory)
    } catch {
      throw .remappingUnit(error)
    }
    // 2^N pages, with N as the table has it.
    let pageCount = unit.windowByteCount / 4096
    let sizeLog2 = UInt64.bitWidth - (pageCount - 1).leadingZeroBitCount
    let table = VTd.DMAR(
      header: ACPI.TableHeader(
        revision: 1, oemID: "IOMMU", oemTableID: "MACHINE", creatorID: "SWFT"),
      platform: VTd.DMAR.Platform(
        hostAddressWidth: configuration.hostAddressWidth,
        remapsInterrupts: configuration.extendedCapability.hasInterruptRemapping),
      structures: [
        .hardwareUnit(
          VTd.DMAR.HardwareUnit(
            base: Self.base, includesAllPCI: true, pageCountLog2: sizeLog2))
      ])
    dmarTable = table.bytes
    units = [Self.base: unit]
    let ports = [Self.base: unit.makePort()]
    self.ports = ports
    let wiring = RemappingHardware(table, topologies: [topology])
    self.wiring = wiring
    portsOfDevices = Dictionary(
      uniqueKeysWithValues: Set(requesters).compactMap { requester in
        wiring.unit(of: requester).flatMap { ports[$0.base] }.map { (requester, $0) }
      })
  }

  /// Where requests with this number enter; `nil` where no unit is above them.
  private func port(of requester: Requester) -> TranslationPort? {
    portsOfDevices[requester] ?? wiring.unit(of: requester).flatMap { ports[$0.base] }
  }

  /// The registers of the unit at `base`; `nil` where no unit answers.
  public func registers(at base: PhysicalAddress) -> RemappingUnit? { units[base] }
}

extension RemappingPlatform: DMAPort {
  /// What the unit looks at for such requests: root and context entry, and with PASIDs what hangs there.
  /// Specification: Intel VT-d 4.2.3.
  public func refuses(translated request: DMARequest, in _: FlatMemory) -> Fault? {
    guard let port = port(of: request.requester) else { return nil }
    let answer = port.translate(
      VTd.Request(
        request.requester, request.address, VTd.Request.Operation(request.access),
        kind: .translated),
      byteCount: request.byteCount)
    guard case .fault(let fault) = answer else { return nil }
    return fault
  }

  /// Through the unit that firmware's table names for the device, and its port.
  public func translate(_ request: DMARequest, in memory: FlatMemory) -> Translation? {
    port(of: request.requester)?.translate(request, in: memory)
  }
}
