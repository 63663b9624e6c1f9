import IOMMUFormats
import IOMMUTranslation

// What entries of AMD-Vi interrupt tables say, in words.

extension AMDVi.InterruptEntry: Explained {
  func meaning(_: OnlyVariant) -> String {
    let silence = suppressesFaults ? ", faults not logged" : ""
    guard remaps else { return notPresent + silence }
    guard !isGuest else { return "for a guest, which entries of 32 bits cannot be" + silence }
    return deliveryText(
      vector: vector, destination: UInt32(destination), typeCode: typeCode, isLogical: isLogical,
      requestsEnd: requestsEnd) + silence
  }

  /// Hardware looks at nothing but RemapEn in an entry that does not remap.
  func checkedViolations(_ variant: OnlyVariant) -> [BitField] {
    remaps ? reservedViolations(variant) : []
  }

  func illegalValues(_: OnlyVariant) -> [String] {
    guard remaps else { return [] }
    return (typeCode > 1 ? ["IntType is \(typeCode), and the most is 1"] : [])
      + (isGuest ? ["GuestMode is set"] : [])
  }
}

extension AMDVi.WideInterruptEntry: Explained {
  func meaning(_ variant: Variant) -> String {
    let silence = suppressesFaults ? ", faults not logged" : ""
    guard remaps else { return notPresent + silence }
    let destination = variant.usesExtendedDestinations ? destination : destination & 0xff
    guard variant.isGuest else {
      return deliveryText(
        vector: vector, destination: destination, typeCode: typeCode, isLogical: isLogical,
        requestsEnd: requestsEnd) + silence
    }
    return
      "vector \(hexadecimal(vector)) of the guest with tag \(hexadecimal(tag)), virtual APIC at "
      + "\(page), "
      + (isRunning ? "running on APIC id \(hexadecimal(destination))" : "not running")
      + (isLogged ? ", logged while it does not run" : "") + silence
  }

  /// Hardware looks at nothing but RemapEn in an entry that does not remap.
  func checkedViolations(_ variant: Variant) -> [BitField] {
    remaps ? reservedViolations(variant) : []
  }

  func illegalValues(_ variant: Variant) -> [String] {
    remaps && !variant.isGuest && typeCode > 1
      ? ["IntType is \(typeCode), and the most is 1"] : []
  }
}

/// `vector 0x31 to APIC id 0x2, fixed, physical`. How it is triggered, the interrupt's message says.
private func deliveryText(
  vector: UInt8, destination: UInt32, typeCode: UInt8, isLogical: Bool, requestsEnd: Bool
) -> String {
  let type =
    switch typeCode {
    case 0: VTd.DeliveryMode.fixed.words
    case 1: VTd.DeliveryMode.lowestPriority.words
    default: "undefined delivery mode"
    }
  return "vector \(hexadecimal(vector)) to APIC id \(hexadecimal(destination)), \(type), "
    + (isLogical ? "logical" : "physical") + (requestsEnd ? ", end to be told (RqEoi)" : "")
}

/// An interrupt remapping table of one device, or of some.
struct AMDViInterruptTableWords: DescribedUpperTable {
  let start: PhysicalAddress
  let entryCount: Int
  let remapping: AMDVi.InterruptRemapping
  /// The first device that it is for.
  let device: PCI.Function?

  var byteCount: UInt64 { UInt64(entryCount) * entryByteCount }
  var place: UpperTableKind { AMDVi.interruptTableKind }
  var entryByteCount: UInt64 { remapping.usesWideEntries ? 16 : 4 }
  var ownerText: String { device.map { "\($0)" } ?? "" }

  func device(at _: UInt64) -> PCI.Function? { device }

  func words(at index: UInt64, others: Int, in memory: some PhysicalMemory) -> EntryWording? {
    guard index < UInt64(entryCount) else { return nil }
    let address = PhysicalAddress(start.rawValue &+ index &* entryByteCount)
    let description: EntryDescription
    if remapping.usesWideEntries {
      guard let entry = AMDVi.WideInterruptEntry(from: memory, at: address) else { return nil }
      description = EntryDescription(
        explaining: entry,
        .init(
          isGuest: entry.isGuest,
          usesExtendedDestinations: remapping.usesExtendedDestinations))
    } else {
      guard let entry = AMDVi.InterruptEntry(from: memory, at: address) else { return nil }
      description = EntryDescription(explaining: entry, OnlyVariant())
    }
    let owner = device.map { " of \($0)" + (others == 0 ? "" : " and \(others) more") } ?? ""
    return EntryWording(
      title: "interrupt entry \(hexadecimal(index))\(owner)", separator: ": ",
      statement: description.meaning, entry: description)
  }
}
