import IOMMUFormats
import IOMMUTranslation

/// Reads SMMUv3 event records as Linux logs them: the number, the four words of the record, and in
/// newer kernels what they say.
///
/// Source: Linux `drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c`.
enum SMMUv3LogReader: LogReader {
  static var unit: String { "Arm SMMUv3" }

  static var examples: [LogExample] {
    [
      LogExample(
        "Linux",
        """
        arm-smmu-v3 arm-smmu-v3.0.auto: event 0x10 received:
        arm-smmu-v3 arm-smmu-v3.0.auto: 	0x0000018000000010
        arm-smmu-v3 arm-smmu-v3.0.auto: 	0x0000020100000000
        arm-smmu-v3 arm-smmu-v3.0.auto: 	0x00000000ffffe040
        arm-smmu-v3 arm-smmu-v3.0.auto: 	0x00000000ffffe000
        """),
      LogExample(
        "Linux 6.14 and later",
        """
        arm-smmu-v3 9050000.smmuv3: event: F_TRANSLATION client: 0000:00:08.0 sid: 0x40 \
        ssid: 0x0 iova: 0x66bb12345678 ipa: 0x0
        arm-smmu-v3 9050000.smmuv3: unpriv data write s1 "Input address caused fault" stag: 0x0
        """),
      LogExample(
        "Linux 6.14 and later",
        "arm-smmu-v3 9050000.smmuv3: event: C_BAD_STREAMID client: (unassigned sid) sid: 0x400 "
          + "ssid: 0x0"),
    ]
  }

  static var marks: [StaticString] {
    [
      "event 0x", "event: F_", "event: C_", "event: E_", "event: UNKNOWN client",
      "EVTQ overflow detected", "unexpected PRI request received",
    ]
  }

  static func read(_ message: LogMessage) -> LogReading {
    let text = message.text[...]
    if text.hasPrefix("EVTQ") {
      return .unread("the event queue was full, and events are lost")
    }
    if text.hasPrefix("unexpected PRI") { return .unread("a page request that nobody asked for") }
    return text.hasPrefix("event 0x") ? raw(text) : told(text)
  }

  /// The record's words.
  private static func raw(_ text: Substring) -> LogReading {
    var scanner = LogScanner(text)
    scanner.skip(past: "event ")
    guard let number = scanner.hexadecimal(), scanner.skip(past: "received:") else {
      return text.contains("received") || LogScanner(text).rest.count > 40
        ? .nothing : .begunTable
    }
    var words: [UInt64] = []
    while words.count < 4, scanner.skip(past: "0x") {
      let digits = scanner.rest.prefix { $0.isHexDigit }
      guard digits.count == 16, let word = Notation.hexadecimal(utf8: digits.utf8) else { continue }
      words.append(word)
    }
    let name = hexadecimal(number, digits: 2)
    guard words.count == 4 else {
      return .begun("event 0x\(name), of whose record only \(words.count) of 4 words follow")
    }
    let event = SMMUv3.EventRecord(words: (words[0], words[1], words[2], words[3]))
    guard UInt64(event.number.rawValue) == number else {
      return .unread("event 0x\(name), and words of another event below it")
    }
    return .fault(record(event, device: nil))
  }

  /// What newer kernels say of the record.
  private static func told(_ text: Substring) -> LogReading {
    var scanner = LogScanner(text)
    scanner.skip(past: "event: ")
    let name = scanner.word()
    guard let number = SMMUv3.EventNumber(named: name) else {
      return .unread("event \(name.prefix(40)), which is not known")
    }
    guard let sid = scanner.hexadecimal(after: " sid: ").flatMap({ UInt32(exactly: $0) }) else {
      return .begun("event \(name) that is cut before its stream")
    }
    let device = scanner.device(after: "client: ")
    let substream = scanner.hexadecimal(after: " ssid: ").flatMap { UInt32(exactly: $0) }
    let address = scanner.hexadecimal(after: "iova: ")
    let says = { (word: String) in text.contains(" \(word) ") }
    let event = SMMUv3.EventRecord(
      number, stream: sid, substream: substream == 0 ? nil : substream, address: address ?? 0,
      isRead: says("read"), isPrivileged: says("priv"), isInstruction: says("inst"),
      isSecondStage: says("s2"))
    var record = record(event, device: device)
    guard 0x10...0x13 ~= number.rawValue else { return .fault(record) }
    guard address != nil else { return .begun("event \(name) that is cut before its address") }
    guard says("read") || says("write") else {
      record.access = nil
      return .unfinished(record)
    }
    return text.contains("stag: 0x") ? .fault(record) : .unfinished(record)
  }

  private static func record(
    _ event: SMMUv3.EventRecord, device: PCI.Function?
  ) -> FaultRecord {
    var record = FaultRecord(source: .smmuv3(event), device: device, pasid: event.substream)
    if event.number.isOfTransaction {
      record.address = event.address
      record.access = event.isRead ? .read : .write
    }
    return record
  }

  /// What newer kernels say follows the words that it says.
  static func joined(_ first: FaultRecord, _ second: FaultRecord) -> FaultRecord? {
    guard case .smmuv3(let raw) = first.source, case .smmuv3(let told) = second.source,
      second.device != nil || told != raw, first.device == nil,
      raw.number == told.number, raw.stream == told.stream, first.address == second.address
    else { return nil }
    var joined = first
    joined.device = second.device
    return joined
  }
}
