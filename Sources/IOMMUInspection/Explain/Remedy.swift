import IOMMUFormats
import IOMMUTranslation

/// What a driver should have written where a walk was stopped.
struct Remedy {
  let text: String?

  init(_ walk: ToldWalk) {
    guard case .fault(let fault) = walk.end else {
      text = nil
      return
    }
    if let reason = fault.vtdReason {
      text = Self.vtd(reason, walk)
    } else if let reason = fault.amdviReason {
      text = reason.remedy(walk)
    } else if let reason = fault.calgaryReason {
      text = Self.calgary(reason, walk)
    } else if fault == .gart(.invalidEntry) {
      text = "a GATT entry with the buffer's page, valid and coherent"
    } else if fault == .beyondDeviceMask {
      text = "a number that the device has address lines for"
    } else if fault == .protectedMemory {
      text = "a buffer outside the protected regions of PMEN_REG"
    } else {
      text = nil
    }
  }

  private static func calgary(_ reason: Calgary.FaultReason, _ walk: ToldWalk) -> String? {
    switch reason {
    case .emptyEntry, .readNotPermitted, .writeNotPermitted: permission(walk)
    case .beyondTable, .dualAddressCycle, .untranslatedHole:
      "another number: this one has no TCE"
    default: nil
    }
  }

  private static func vtd(_ reason: VTd.FaultReason, _ walk: ToldWalk) -> String? {
    switch reason {
    case .rootEntryNotPresent:
      return "a root entry for the bus that points to a context table, and a context entry"
    case .contextEntryNotPresent:
      let place = walk.steps.last.map { " at \($0.address)" } ?? ""
      return "a context entry\(place) with P, a page table, its width and a domain, before the "
        + "device's first DMA"
    case .contextEntryInvalid, .contextEntryReserved, .rootEntryReserved,
      .secondStageEntryReserved, .scalableRootEntryReserved, .scalableContextEntryReserved,
      .scalableContextEntryInvalid, .pasidDirectoryEntryReserved, .pasidEntryReserved,
      .pasidEntryInvalid, .firstStageEntryReserved, .scalableSecondStageEntryReserved:
      return reserved(walk) ?? "an entry with a width and a type that the unit supports"
    case .addressBeyondWidth, .scalableAddressBeyondWidth, .addressNotCanonical:
      return "a number within the table's width"
    case .interruptAddressReached, .scalableInterruptAddressReached:
      return "a page that is memory: 0xfeexxxxx is not"
    case .scalableRootEntryNotPresent:
      return "a root entry whose half for the device points to a context table"
    case .scalableContextEntryNotPresent, .pasidDirectoryEntryNotPresent, .pasidEntryNotPresent:
      return "this entry with P: without it the device has no PASID tables or no page table"
    case .firstStageEntryNotPresent:
      return "the buffer's page in a leaf here or below, with P, and R/W for a device that writes"
    case .readNotPermitted, .writeNotPermitted, .secondStageEntryNotPresent,
      .scalableReadNotPermitted, .scalableWriteNotPermitted:
      return permission(walk)
    default: return nil
    }
  }

  /// The entry without the bits that must be zero.
  static func reserved(_ walk: ToldWalk) -> String? {
    guard let step = walk.steps.last, !step.entry.violations.isEmpty else { return nil }
    var words = step.entry.words
    for field in step.entry.fields where field.field.use == .reserved {
      words[field.field.bits.lowerBound / 64] &= ~field.field.mask
    }
    let texts = words.reversed().map { "0x" + hexadecimal($0, digits: 16) }
    return "the same entry without reserved bits: \(texts.joined(separator: " "))"
  }

  /// The entry with the permission, or what is missing below it.
  private static func permission(_ walk: ToldWalk) -> String? {
    // In a first-stage entry bit 0 is P: its permissions are others.
    guard let step = walk.steps.last, !step.entry.name.hasPrefix("FS-") else { return nil }
    let bits = Permissions.readWrite.rawValue
    let wanted = walk.access.permission
    let letter = wanted == .read ? "R" : "W"
    guard step.entry.words[0] & UInt64(bits) != 0 else {
      return step.place > .level(1)
        ? "a pointer to a table here, tables below it, and a leaf with the buffer's page and \(letter)"
        : "the buffer's page here, with \(letter): 0x…\(hexadecimal(wanted.rawValue, digits: 3))"
    }
    // Some entry on the way lacks the permission; the first of them has to change.
    let lacking = walk.steps.first {
      $0.place.level != nil && $0.entry.words[0] & UInt64(wanted.rawValue) == 0
    }
    guard let lacking else { return nil }
    let word = lacking.entry.words[0] | UInt64(wanted.rawValue)
    return "\(lacking.titleText) at \(lacking.address) with \(letter): "
      + "0x\(hexadecimal(word, digits: 16)), if the buffer was mapped for this direction"
  }
}
