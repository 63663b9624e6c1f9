import IOMMUFormats
import IOMMUTranslation

// The device table entry, control register and command that Linux prints behind an event.

/// A device table entry as a kernel has printed it, word by word.
struct LoggedDeviceEntry: Sendable, Hashable {
  private var words: [Int: UInt64] = [:]
  private var isInDoublewords = false

  mutating func add(word: Int, _ value: UInt64, isDoubleword: Bool) {
    if words.isEmpty { isInDoublewords = isDoubleword }
    guard words[word] == nil, isDoubleword == isInDoublewords else { return }
    words[word] = value
  }

  var isEmpty: Bool { words.isEmpty }

  /// The entry's four quadwords, low first; `nil` where a line of it is not in the log.
  var quadwords: [UInt64]? {
    guard (0..<(isInDoublewords ? 8 : 4)).allSatisfy({ words[$0] != nil }) else { return nil }
    return (0..<4).map { index in
      isInDoublewords
        ? (words[2 * index] ?? 0) | (words[2 * index + 1] ?? 0) << 32 : words[index] ?? 0
    }
  }

  /// `DTE[0] 0x6190000000000003, DTE[1] 0x00001001049e000b`.
  var text: String {
    words.sorted { $0.key < $1.key }.map {
      "DTE[\($0.key)] 0x" + hexadecimal($0.value, digits: isInDoublewords ? 8 : 16)
    }.joined(separator: ", ")
  }
}

extension LoggedTables {
  /// What was printed of AMD-Vi and is no walk, a line each.
  var deviceDetails: [String] {
    var details: [String] = []
    if let control {
      let names = AMDVi.Control(rawValue: control).setFieldNames
      details.append(
        "control register in the log: 0x\(hexadecimal(control, digits: 16))"
          + (names.isEmpty ? "" : ", \(names.joined(separator: ", "))"))
    }
    if deviceEntry.quadwords == nil, !deviceEntry.isEmpty {
      details.append("of the device table entry the log has only \(deviceEntry.text)")
    }
    return details
  }

  /// What the printed device table entry says to the request of an event; `nil` where not all of it was
  /// printed.
  ///
  /// Every optional feature is taken to be there: the log does not say what the unit has.
  func deviceWalk(
    _ record: FaultRecord, _ event: AMDVi.Event, of device: PCI.Function
  ) -> LoggedWalk? {
    guard let words = deviceEntry.quadwords else { return nil }
    // Where no entry leads.
    let table = AMDVi.DeviceTableBase(
      address: PhysicalAddress(0xf_ffff_ffe0_0000), byteCount: 2 << 20)
    let unit = AMDVi.Unit(base: PhysicalAddress(0), deviceTable: table, control: nil)
    let walk = ToldWalk(
      device.requester, pasid: record.pasid.map { PASID($0) }, IOVA(event.address),
      access: event.isWrite ? .write : .read, machine: Machine(name: "log", units: [.amdvi(unit)]),
      in: PrintedMemory([PrintedMemory.Entry(words: words)]))
    guard event.isInterrupt else { return LoggedWalk(walk, levels: [], missingLevel: nil) }
    guard let step = walk.steps.first, let entry = step.deviceTableEntry else { return nil }
    let wrong = entry.interruptViolations
    return LoggedWalk(
      [step],
      end: wrong.isEmpty
        ? "unknown: which entry of the interrupt table the interrupt has, the log does not say"
        : "interrupts are stopped")
  }
}

extension LoggedWalk {
  /// What the printed device table entry says to the event before it.
  func comparison(with event: AMDVi.Event, hasFlags: Bool) -> String? {
    guard event.code == .illegalDeviceTableEntry, hasFlags,
      let entry = steps.first?.deviceTableEntry
    else { return nil }
    if isExplained(event, by: entry) { return "the fault that was logged" }
    let suspects = event.hasReservedBit ? entry.optionalFieldNames : entry.optionalValues
    guard !suspects.isEmpty else {
      return
        "nothing in this entry is illegal: it was written after the event, or the unit still had "
        + "an older one in its cache"
    }
    return event.hasReservedBit
      ? "no bit is set that all units reserve; a unit reserves those of features that it lacks: "
        + listText(suspects)
      : "nothing in this entry is illegal for all units, but \(listText(suspects))"
  }

  /// What is wrong with the entry for any unit is what the event says.
  private func isExplained(_ event: AMDVi.Event, by entry: AMDVi.DeviceTableEntry) -> Bool {
    guard !event.isInterrupt else {
      let reserved = entry.checkedViolations(.permissive).contains { $0.quadwordIndex >= 2 }
      return event.hasReservedBit ? reserved : !reserved && !entry.interruptViolations.isEmpty
    }
    return fault?.amdviReason?.explains(event, hasFlags: true) == true
  }
}

extension AMDVi.DeviceTableEntry {
  /// What is wrong with the half about interrupts, for any unit.
  fileprivate var interruptViolations: [String] {
    guard isInterruptValid else { return [] }
    return checkedViolations(.permissive).filter { $0.quadwordIndex >= 2 }.map { "\($0.name)" }
      + (interruptControl == .reserved
        || interruptControl == .remap && interruptTableLengthCode > 11
        ? ["IntCtl or IntTabLen"] : [])
  }

  /// Fields that are set and that a unit without any optional feature reserves.
  fileprivate var optionalFieldNames: [String] {
    let reserved = checkedViolations(AMDVi.Limits(hostLevels: 4))
    return Self.fields(.permissive).filter { field in
      field.use != .reserved && self[field] != 0
        && reserved.contains { $0.bits.overlaps(field.bits) }
    }.map { "\($0.name) (\($0.bits.count == 1 ? "bit" : "bits") \($0.bitsText))" }
  }

  /// Values that some units do not take, in words.
  fileprivate var optionalValues: [String] {
    guard isValid, isTranslationValid else { return [] }
    var values: [String] = []
    if mode == 0, !usesGuestTables {
      values.append("Mode 0 (pass-through) is where SNP is on")
    }
    if mode > 4, mode < 7 {
      values.append("Mode \(mode) is where host tables have fewer levels (HATS)")
    }
    if usesGuestTables {
      values.append("GLX and GuestPagingMode may be more than the unit has")
    }
    return values
  }
}

extension WalkStep {
  /// The entry, of a step in the device table.
  var deviceTableEntry: AMDVi.DeviceTableEntry? {
    guard place == .upper(AMDVi.deviceTableKind), entry.words.count == 4 else { return nil }
    var quadwords = Quadwords<4>()
    for (index, word) in entry.words.enumerated() { quadwords[index] = word }
    return AMDVi.DeviceTableEntry(quadwords: quadwords)
  }
}

extension TableEntry where Variant == OnlyVariant {
  /// The fields that are set; one of several bits with its value.
  fileprivate var setFieldNames: [String] {
    Self.fields(OnlyVariant()).filter { $0.use == .value && self[$0] != 0 }.map {
      $0.bits.count == 1 ? "\($0.name)" : "\($0.name) \(self[$0])"
    }
  }
}

extension AMDVi {
  /// A command of four doublewords in words; `nil` for one of a code that is not known.
  static func described(command doublewords: [UInt64]) -> EntryDescription? {
    guard doublewords.count == 4, doublewords.allSatisfy({ $0 <= UInt64(UInt32.max) }) else {
      return nil
    }
    let words = [
      doublewords[0] | doublewords[1] << 32, doublewords[2] | doublewords[3] << 32,
    ]
    guard let type = CommandCode(command: words[0]).format,
      let kind = EntryCatalog.all.first(where: { $0.type == type })
    else { return nil }
    return try? kind.describe(words)
  }
}
