import IOMMUFormats
import IOMMUTranslation

// What SMMUv3 events say, and what is said of those that kernels have logged.

extension SMMUv3.EventNumber {
  /// What the number means, in a few words.
  var meaning: String { Self.meanings[rawValue] ?? "event of a number that is not known" }

  private static let meanings: [UInt8: String] = [
    0x01: "transaction of a kind that is not supported",
    0x02: "stream beyond the stream table, or without an entry in it",
    0x03: "stream table entry that memory did not give",
    0x04: "stream table entry that cannot be used",
    0x05: "translation request of a stream that may not send any",
    0x06: "stream that takes transactions with a substream only",
    0x07: "translated transaction of a stream that may not send any",
    0x08: "substream beyond the table of context descriptors",
    0x09: "context descriptor that memory did not give",
    0x0a: "context descriptor that cannot be used",
    0x0b: "table entry that memory did not give",
    0x10: "no mapping",
    0x11: "address, or an entry's, beyond the width that is set",
    0x12: "entry whose access flag is clear",
    0x13: "mapping without this permission",
    0x20: "two entries of a TLB for one address",
    0x21: "two cached configurations for one stream",
    0x24: "page request",
    0x25: "structure of a virtual machine that memory did not give",
  ]
}

extension SMMUv3.EventRecord: Explained {
  func meaning(_: SMMUv3.EventNumber) -> String {
    let name = number.name ?? "event \(hexadecimal(number.rawValue))"
    return "\(name) of stream \(hexadecimal(stream)): \(number.meaning)"
  }
}

extension SMMUv3 {
  static func words(for event: EventRecord, in record: FaultRecord) -> LoggedFaultWords {
    let name = event.number.name.map { " \($0)" } ?? ""
    let who =
      record.device.map { "\($0) (stream \(hexadecimal(event.stream)))" }
      ?? "stream \(hexadecimal(event.stream))"
    let space = event.substream.map { " with substream \(hexadecimal($0))" } ?? ""
    let attempt: String
    if let address = record.address {
      let verb = record.access.map { $0 == .read ? "read" : "wrote" } ?? "reached for"
      attempt = "\(who) \(verb) IOVA \(hexadecimal(address))\(space)"
    } else {
      attempt = "\(who) sent a transaction\(space)"
    }
    var words = LoggedFaultWords(
      attempt: attempt,
      meaning: "SMMUv3 event 0x\(hexadecimal(event.number.rawValue, digits: 2))\(name): "
        + event.number.meaning)
    words.details = details(event)
    switch event.number {
    case .translation, .permission:
      (words.causes, words.lookAt) = (unmappedCauses, unmappedPlaces)
    case .addressSize:
      words.causes =
        "an address that was cut or extended by its sign, or a table with output beyond its width"
      words.lookAt = "the device's DMA mask, and what the driver wrote into the descriptor"
    case .badStreamID, .badStreamTableEntry, .streamTableEntryFetch, .streamDisabled:
      words.causes =
        "no driver has set the stream up, firmware's table (IORT) gives the device another number, "
        + "or after a crash the device goes on without a table"
      words.lookAt = "which device has this stream, and its group in /sys/kernel/iommu_groups"
    case .badContextDescriptor, .contextDescriptorFetch, .badSubstreamID, .walkAbort:
      words.causes = "a descriptor or a table that was overwritten, or was freed too early"
      words.lookAt = "the structures in a dump, and memory errors in the log"
    default: break
    }
    return words
  }

  private static func details(_ event: EventRecord) -> [String] {
    guard event.number.isOfTransaction else { return [] }
    let parts =
      [event.isPrivileged ? "privileged" : "unprivileged"]
      + [event.isInstruction ? "instruction" : "data"]
      + [event.isSecondStage ? "stopped by stage 2" : "stopped by stage 1"]
      + (event.isStalled ? ["stalled: it waits for software"] : [])
    var details = [parts.joined(separator: ", ")]
    if event.isSecondStage {
      details.append("stage 1 made \(hexadecimal(event.intermediateAddress)) of it")
    }
    if event.number == .walkAbort {
      details.append("the entry lies at \(hexadecimal(event.fetchAddress))")
    }
    return details
  }
}
