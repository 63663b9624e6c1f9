import IOMMUFormats
import IOMMUTranslation

/// Reads faults of QEMU's VT-d unit: its trace event, and its messages, which come for the same fault.
///
/// Source: QEMU `hw/i386/trace-events`, `vtd_dmar_fault`; `hw/i386/intel_iommu.c`, messages of
/// `vtd_iova_to_slpte` and `vtd_iommu_translate`.
enum QEMULogReader: LogReader {
  static var unit: String { "QEMU's VT-d unit" }

  static var examples: [LogExample] {
    [
      LogExample(
        "QEMU, trace event",
        "236498@1676271757.075075:vtd_dmar_fault sid 0x18 fault 5 addr 0x1000 write 1"),
      LogExample(
        "QEMU, message",
        "qemu-system-x86_64: vtd_iova_to_slpte: detected slpte permission error (iova=0x1000, "
          + "level=0x3, slpte=0x0, write=1)"),
      LogExample(
        "QEMU, message",
        "qemu-system-x86_64: vtd_iommu_translate: detected translation failure (dev=00:03:00, "
          + "iova=0x1000)"),
    ]
  }

  static var marks: [StaticString] {
    ["vtd_dmar_fault ", "vtd_iommu_translate:", "vtd_iova_to_", "vtd_err "]
  }

  static func read(_ message: LogMessage) -> LogReading {
    let text = message.text[...]
    let scanner = LogScanner(text)
    if text.hasPrefix("vtd_err ") { return .unread("an error of QEMU's unit in other words") }
    if text.hasPrefix("vtd_dmar_fault") {
      guard let sid = scanner.hexadecimal(after: "sid ").flatMap({ UInt16(exactly: $0) }),
        let reason = scanner.decimal(after: " fault ").flatMap({ UInt8(exactly: $0) }),
        let address = scanner.hexadecimal(after: "addr "),
        let write = scanner.decimal(after: "write ")
      else { return .begun("a trace event that is cut") }
      return .fault(
        FaultRecord(
          source: .vtd(VTd.FaultReason(rawValue: reason)),
          device: PCI.Function(Requester(rawValue: sid)), address: address,
          access: write == 0 ? .read : .write))
    }
    guard text.contains("detected") else {
      return text.utf8.count < 40 ? .begunTable : .nothing
    }
    guard let address = scanner.hexadecimal(after: "iova=") else {
      return .begun("a message that is cut before its number")
    }
    var record = FaultRecord(source: .vtd(nil), address: address)
    if let pasid = scanner.hexadecimal(after: "pasid="), pasid < 1 << 20 {
      record.pasid = UInt32(pasid)
    }
    if text.hasPrefix("vtd_iommu_translate") {
      guard let device = scanner.device(after: "dev=") else {
        return .unread("a message without a device")
      }
      record.device = device
      return .fault(record)
    }
    if text.contains("permission error") {
      guard let write = scanner.decimal(after: "write=") else {
        return .begun("a message that is cut")
      }
      // In legacy mode, which most of these units are in; the trace event has the number itself.
      record.access = write == 0 ? .read : .write
    }
    return .fault(record)
  }

  /// A walk that fails is told up to three times: by the walker, as a trace event, by its caller.
  static func joined(_ first: FaultRecord, _ second: FaultRecord) -> FaultRecord? {
    guard case .vtd(let before) = first.source, case .vtd(let after) = second.source,
      before == nil || after == nil, let place = first.address, let other = second.address,
      // A failed translation is told with the number or with its page.
      place >> 12 == other >> 12,
      first.device == nil || second.device == nil
        || first.device == second.device,
      first.access == nil || second.access == nil || first.access == second.access
    else { return nil }
    return FaultRecord(
      source: .vtd(before ?? after), device: first.device ?? second.device,
      pasid: first.pasid ?? second.pasid,
      address: before != nil ? place : after != nil ? other : place,
      access: first.access ?? second.access)
  }
}
