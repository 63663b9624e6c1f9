import IOMMUFormats
import IOMMUTranslation

/// Reads VT-d faults as Linux and Xen log them.
///
/// Both name the device behind `Request device [`, and the reason behind it, in the same line or the
/// next. Linux printed reasons in decimal up to 5.13, then in hexadecimal with `0x`; Xen prints them
/// in hexadecimal without. Source: Linux `drivers/pci/dmar.c`, later `drivers/iommu/intel/dmar.c`; Xen
/// `drivers/passthrough/vtd/iommu.c`.
enum VTdLogReader: LogReader {
  static var unit: String { "Intel VT-d" }

  static var examples: [LogExample] {
    [
      LogExample(
        "Linux 2.6.24 to 3.x",
        """
        DMAR:[DMA Write] Request device [00:1d.7] fault addr 7f6d0000
        DMAR:[fault reason 05] PTE Write access is not set
        """),
      LogExample(
        "Linux 2.6.29 to 4.1",
        """
        INTR-REMAP: Request device [[f0:1f.7] fault index 22
        INTR-REMAP:[fault reason 34] Present field in the IRTE entry is clear
        """),
      LogExample(
        "Linux 4.2 to 5.3",
        "DMAR: [DMA Read] Request device [00:02.0] fault addr 7f6d0000 [fault reason 06] PTE Read "
          + "access is not set"),
      LogExample(
        "Linux 5.4 to 5.13",
        "DMAR: [DMA Write] Request device [00:02.0] PASID ffffffff fault addr 7f6d0000 [fault "
          + "reason 05] PTE Write access is not set"),
      LogExample(
        "Linux 5.14 and later",
        "DMAR: [DMA Write NO_PASID] Request device [00:03.0] fault addr 0x1000 [fault reason 0x05] "
          + "PTE Write access is not set"),
      LogExample(
        "Linux 5.14 and later",
        "DMAR: [DMA Read PASID 0x1a] Request device [e8:01.0] fault addr 0x7f0000001000 [fault "
          + "reason 0x59] SM: Present bit in PASID Table Entry is clear"),
      LogExample(
        "Linux 4.2 and later",
        "DMAR: [INTR-REMAP] Request device [f0:1f.0] fault index 0x4 [fault reason 0x22] Present "
          + "field in the IRTE entry is clear"),
      LogExample("Linux", "DMAR: DRHD: handling fault status reg 2"),
      LogExample("Xen", "(XEN) [VT-D]iommu.c:919: iommu_fault_status: Primary Pending Fault"),
      LogExample(
        "Linux 5.14 and later", "DMAR: VT-d detected Invalidation Time-out Error: SID 0"),
      LogExample(
        "Xen",
        """
        (XEN) [VT-D]DMAR:[DMA Write] Request device [0000:00:03.0] fault addr 1000
        (XEN) [VT-D]DMAR: reason 05 - PTE Write access is not set
        """),
      LogExample(
        "Xen",
        """
        (XEN) [VT-D]INTR-REMAP: Request device [0000:00:1f.0] fault index 0
        (XEN) [VT-D]INTR-REMAP: reason 25 - Blocked a compatibility format interrupt request
        """),
    ]
  }

  static var marks: [StaticString] {
    [
      "[DMA", "INTR-REMAP] Request", "INTR-REMAP: Request", "Request device", "fault reason",
      "DMAR: reason", "REMAP: reason", "UNKNOWN: reason", "UNKNOWN: Request",
      "handling fault status", "iommu_fault_status:", "VT-d detected",
    ]
  }

  static func continues(_ message: Substring, at mark: Substring) -> Bool {
    if mark.hasPrefix("Request device") { return !message.contains("Request device") }
    let isReason =
      mark.hasPrefix("fault reason") || mark.hasPrefix("DMAR: reason")
      || mark.hasPrefix("REMAP: reason") || mark.hasPrefix("UNKNOWN: reason")
    return isReason && message.contains("Request device") && !hasReason(message)
  }

  private static func hasReason(_ text: Substring) -> Bool {
    text.contains("fault reason") || text.contains(": reason ")
  }

  static func read(_ message: LogMessage) -> LogReading {
    let text = message.text[...]
    if text.hasPrefix("handling fault status") { return status(text) }
    if text.hasPrefix("VT-d detected") { return trouble(text) }
    if text.hasPrefix("iommu_fault_status") { return xenStatus(text) }
    guard text.contains("Request device") else {
      if hasReason(text) {
        return .begun("a reason without the line of its fault, which names device and number")
      }
      // "[DMA" and no more of it: somebody else's words.
      return text.hasPrefix("[DMA Write") || text.hasPrefix("[DMA Read")
        || text.hasPrefix("INTR-REMAP") || text == "[DMA"
        ? .begun("a fault line that is cut before its device") : .nothing
    }
    return request(text)
  }

  // MARK: Requests

  private static func request(_ text: Substring) -> LogReading {
    let scanner = LogScanner(text)
    guard let device = scanner.device(after: "Request device [") else {
      let isCut = !text.contains("fault ")
      return .begun(isCut ? "a fault line that is cut at its device" : "its device is none")
    }
    var record = FaultRecord(source: .vtd(nil), device: device)
    if let index = scanner.hexadecimal(after: "fault index ") {
      record.source = .vtdInterrupt(nil)
      record.addressKind = .interruptIndex
      record.address = index
    } else if let address = scanner.hexadecimal(after: "fault addr ") {
      record.address = address
      let verb = text.prefix { $0 != "]" }
      record.access = verb.contains("Write") ? .write : verb.contains("Read") ? .read : nil
      if !text.contains("NO_PASID"), let pasid = scanner.hexadecimal(after: "PASID "),
        pasid != 0xffff_ffff
      {
        guard pasid < 1 << 20 else { return .begun("its PASID has more than 20 bits") }
        record.pasid = UInt32(pasid)
      }
    } else {
      return .begun("a fault line that is cut before its number")
    }
    guard hasReason(text) else { return .unfinished(record) }
    switch reason(text) {
    case .none: return .unfinished(record)
    case .some(nil): return .unread("its reason is no number of 8 bits")
    case .some(let reason?):
      record.source =
        record.addressKind == .interruptIndex || reason.concernsInterrupts
        ? .vtdInterrupt(reason) : .vtd(reason)
      // A kernel that takes an interrupt for DMA prints the index where addresses have their
      // uppermost bits.
      if reason.concernsInterrupts, record.addressKind == .iova, let address = record.address {
        (record.address, record.addressKind, record.access) =
          (address >> 48, .interruptIndex, nil)
      }
      return .fault(record)
    }
  }

  /// `nil` where it is not there yet, `.some(nil)` where it is none.
  private static func reason(_ text: Substring) -> VTd.FaultReason?? {
    var scanner = LogScanner(text)
    let number: UInt64?
    if scanner.skip(past: "fault reason") {
      scanner.skipBlanks()
      let digits = scanner.rest.prefix { !"] ".contains($0) }
      guard !digits.isEmpty, digits.endIndex < scanner.rest.endIndex else { return .none }
      number =
        digits.hasSuffix("h")
        ? Notation.hexadecimal(utf8: digits.dropLast().utf8) : Notation.printed(digits)
    } else {
      guard scanner.skip(past: ": reason") else { return .none }
      scanner.skipBlanks()
      guard !scanner.rest.isEmpty else { return .none }
      number = scanner.hexadecimal()
    }
    return .some(number.flatMap { UInt8(exactly: $0) }.map { VTd.FaultReason(rawValue: $0) })
  }

  // MARK: What a unit says of itself

  private static func status(_ text: Substring) -> LogReading {
    var scanner = LogScanner(text)
    guard scanner.skip(past: "status reg") else { return .begun("a status that is cut") }
    guard let value = scanner.hexadecimal().flatMap({ UInt32(exactly: $0) }) else {
      return .begun("a status that is no number of 32 bits")
    }
    return .fault(FaultRecord(source: .vtdStatus(VTd.FaultStatus(rawValue: value))))
  }

  /// Xen names one bit of the register a line.
  private static func xenStatus(_ text: Substring) -> LogReading {
    if text.contains("Invalidation Time") {
      return .fault(FaultRecord(source: .vtdQueue(.timeout)))
    }
    if text.contains("Invalidation Completion") {
      return .fault(FaultRecord(source: .vtdQueue(.completion)))
    }
    if text.contains("Invalidation Queue") {
      return .fault(FaultRecord(source: .vtdQueue(.error(nil))))
    }
    let hasOverflow = text.contains("Overflow")
    guard hasOverflow || text.contains("Pending Fault") else { return .begunTable }
    var status = VTd.FaultStatus(rawValue: 0)
    status.hasOverflow = hasOverflow
    status.hasPendingFault = !hasOverflow
    return .fault(FaultRecord(source: .vtdStatus(status)))
  }

  private static func trouble(_ text: Substring) -> LogReading {
    let scanner = LogScanner(text)
    if text.contains("Queue Error") {
      guard let reason = scanner.hexadecimal(after: "Reason") else { return .begun("cut") }
      return .fault(
        FaultRecord(source: .vtdQueue(.error(UInt8(truncatingIfNeeded: reason)))))
    }
    let trouble: FaultRecord.VTdQueueTrouble =
      text.contains("Time-out") ? .timeout : .completion
    guard let id = scanner.hexadecimal(after: "SID") else {
      return .begun("trouble with invalidations that is not known")
    }
    // Units from before there was such a register say 0.
    let device = UInt16(exactly: id).flatMap { $0 == 0 ? nil : Requester(rawValue: $0) }
    return .fault(FaultRecord(source: .vtdQueue(trouble), device: device.map { PCI.Function($0) }))
  }
}
