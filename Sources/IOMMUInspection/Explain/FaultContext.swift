import IOMMUFormats
import IOMMUTranslation

/// What somebody knows of a machine beside its log: firmware's table, what lies where, what was mapped.
public struct FaultContext: Sendable {
  /// Firmware's table of VT-d units.
  public var firmware: VTd.DMAR?
  /// Nothing of that table is missing.
  public var firmwareIsWhole = true
  /// Firmware's table of AMD-Vi units.
  public var ivrs: AMDVi.IVRS?
  /// What lies where in physical memory.
  public var resources: ResourceMap?
  /// What a trace says of the numbers of faults.
  public var history: MappingHistory?

  /// Nothing is known.
  public init() {}

  /// Adds what is known to an explanation.
  public func complete(_ explanation: inout FaultExplanation) {
    let record = explanation.fault.record
    if let firmware { explanation.hints += firmware.hints(on: record, isWhole: firmwareIsWhole) }
    if let ivrs { explanation.hints += ivrs.hints(on: record) }
    if let resources {
      // The kernel's list knows more than a machine's ranges of RAM.
      explanation.hints.removeAll { $0.hasPrefix(FaultExplanation.isRAM) }
      explanation.hints += resources.hints(on: record)
    }
    if let history { explanation.history = history.texts(for: explanation.fault) }
  }
}

extension ResourceMap {
  /// What lies where a fault's number says, taken as a physical address.
  fileprivate func hints(on record: FaultRecord) -> [String] {
    guard let address = record.address else { return [] }
    let names = names(at: PhysicalAddress(address))
    let what = names.isEmpty ? "nothing that the kernel lists" : names.joined(separator: ", in it ")
    switch record.addressKind {
    case .physical: return ["at this address is \(what)"]
    case .iova:
      let isRAM = names.first == "System RAM"
      let isReserved = names.contains { $0.lowercased() == "reserved" }
      return [
        "as a physical address the number is \(what)"
          + (isRAM ? ": perhaps one that was never mapped" : "")
          + (isReserved
            ? ": memory of firmware, which devices may still use that firmware has started" : "")
      ]
    case .guestVirtual, .guestPhysical, .interrupt, .interruptIndex: return []
    }
  }
}
