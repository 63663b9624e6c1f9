import IOMMUFormats
import IOMMUTranslation

/// Reads AMD-Vi events as Linux and Xen log them.
///
/// Linux: `Event logged [NAME device=… domain=… address=… flags=…]`, up to 4.17 with the device always
/// inside the bracket, later before the words where it is known. Xen: `AMD-Vi: NAME: device dN addr …
/// flags …`, up to 4.12 `domain = …, device id = …, fault address = …`; other events as four words.
/// Source: Linux `drivers/iommu/amd_iommu.c`, later `amd/iommu.c`; Xen
/// `drivers/passthrough/amd/iommu_init.c`.
enum AMDViLogReader: LogReader {
  static var unit: String { "AMD-Vi" }

  static var examples: [LogExample] {
    [
      LogExample(
        "Linux 2.6.28 to 2.6.31",
        "AMD IOMMU: Event logged [IO_PAGE_FAULT device=01:00.0 domain=0x000d "
          + "address=0x00000000cff49550 flags=0x0070]"),
      LogExample(
        "Linux 2.6.32 to 4.17",
        "AMD-Vi: Event logged [IO_PAGE_FAULT device=02:00.0 domain=0x000d "
          + "address=0x00000000cff49550 flags=0x0020]"),
      LogExample(
        "Linux 4.18 and later",
        "ath10k_pci 0000:03:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000d "
          + "address=0xcff49550 flags=0x0020]"),
      LogExample(
        "Linux 4.18 and later",
        """
        iommu ivhd0: AMD-Vi: Event logged [ILLEGAL_DEV_TABLE_ENTRY device=0000:02:00.0 \
        pasid=0x00000 address=0x131400000 flags=0x0180]
        AMD-Vi: DTE[0]: 6190000000000003
        AMD-Vi: DTE[1]: 00001001049e000b
        AMD-Vi: DTE[2]: 200000013c610013
        AMD-Vi: DTE[3]: 0000000000000000
        """),
      LogExample(
        "Linux",
        "AMD-Vi: Event logged [DEV_TAB_HARDWARE_ERROR device=03:00.0 address=0x106000 flags=0x0400]"
      ),
      LogExample(
        "Linux",
        "AMD-Vi: Event logged [PAGE_TAB_HARDWARE_ERROR device=03:00.0 pasid=0x0005 "
          + "address=0xc0000488 flags=0x0420]"),
      LogExample("Linux", "AMD-Vi: Event logged [ILLEGAL_COMMAND_ERROR address=0x140060]"),
      LogExample(
        "Linux", "AMD-Vi: Event logged [COMMAND_HARDWARE_ERROR address=0x140070 flags=0x0600]"),
      LogExample(
        "Linux", "AMD-Vi: Event logged [IOTLB_INV_TIMEOUT device=2f:00.0 address=0x82a6d3f10]"),
      LogExample(
        "Linux",
        "AMD-Vi: Event logged [INVALID_DEVICE_REQUEST device=00:00.1 address=0x000000fdf8000020 "
          + "flags=0x0a00]"),
      LogExample(
        "Linux 4.18 and later",
        "AMD-Vi: Event logged [INVALID_PPR_REQUEST device=03:00.0 pasid=0x00005 "
          + "address=0x7f0000001000 flags=0x0025 tag=0x123]"),
      LogExample(
        "Linux 6.11 and later, debugging messages",
        "iommu ivhd0: AMD-Vi: PPR logged [Request ignored due to GN=0 (device=0000:03:00.0 "
          + "pasid=0x00005 address=0x7f0000001000 flags=0x0024 tag=0x323]"),
      LogExample(
        "Linux 5.19 and later",
        "AMD-Vi: Event logged [RMP_HW_ERROR device=0000:03:00.0, vmg_tag=0x0001, spa=0x1000, "
          + "flags=0x0020]"),
      LogExample(
        "Linux 5.19 and later",
        "AMD-Vi: Event logged [RMP_PAGE_FAULT device=0000:03:00.0, vmg_tag=0x0001, gpa=0x1000, "
          + "flags_rmp=0x0002, flags=0x0020]"),
      LogExample(
        "Xen", "(XEN) AMD-Vi: IO_PAGE_FAULT: 0000:02:00.0 d7 addr 00000000fea00000 flags 0x20 RW"),
      LogExample(
        "Xen to 4.12",
        "(XEN) AMD-Vi: IO_PAGE_FAULT: domain = 0, device id = 0x2600, "
          + "fault address = 0xfea00000, flags = 0x20"),
      LogExample(
        "Xen", "(XEN) AMD-Vi: ILLEGAL_COMMAND_ERROR: 00000000 50000000 00140060 00000000"),
    ]
  }

  static var marks: [StaticString] {
    [
      "AMD-Vi: Event", "AMD IOMMU: Event", "Event logged [", "IO_PAGE_FAULT",
      "ILLEGAL_DEV_TABLE_ENTRY", "DEV_TAB_HARDWARE_ERROR", "DEV_TABLE_HW_ERROR",
      "PAGE_TAB_HARDWARE_ERROR", "PAGE_TABLE_HW_ERROR", "ILLEGAL_COMMAND_ERROR",
      "COMMAND_HARDWARE_ERROR", "COMMAND_HW_ERROR", "IOTLB_INV_TIMEOUT", "INVALID_DEVICE_REQUEST",
      "INVALID_DEV_REQUEST", "INVALID_PPR_REQUEST", "RMP_PAGE_FAULT", "RMP_HW_ERROR",
      "AMD-Vi: DTE[", "AMD-Vi: CMD[", "AMD-Vi: Control Reg", "PPR logged [",
      "Completion-Wait loop timed out", "vent log restarting", "vent log overflow",
      "PPR log restarting", "PPR log overflow", "GA log restarting", "GA log overflow",
      "GA log notifier failed", "Unknown PPR request received",
    ]
  }

  /// What Linux and Xen call the events.
  private static let codes: [Substring: AMDVi.EventCode] = [
    "ILLEGAL_DEV_TABLE_ENTRY": .illegalDeviceTableEntry, "IO_PAGE_FAULT": .pageFault,
    "DEV_TAB_HARDWARE_ERROR": .deviceTableHardwareError,
    "DEV_TABLE_HW_ERROR": .deviceTableHardwareError,
    "PAGE_TAB_HARDWARE_ERROR": .pageTableHardwareError,
    "PAGE_TABLE_HW_ERROR": .pageTableHardwareError, "ILLEGAL_COMMAND_ERROR": .illegalCommand,
    "COMMAND_HARDWARE_ERROR": .commandHardwareError, "COMMAND_HW_ERROR": .commandHardwareError,
    "IOTLB_INV_TIMEOUT": .invalidationTimeout, "INVALID_DEVICE_REQUEST": .invalidDeviceRequest,
    "INVALID_DEV_REQUEST": .invalidDeviceRequest, "INVALID_PPR_REQUEST": .invalidPageRequest,
    "RMP_PAGE_FAULT": .reverseMapFault, "RMP_HW_ERROR": .reverseMapHardwareError,
  ]

  static func continues(_ message: Substring, at mark: Substring) -> Bool {
    if mark.hasPrefix("Event logged [") {
      return message.hasPrefix("AMD") && !message.contains("logged [")
    }
    guard !mark.hasPrefix("AMD"), message.hasPrefix("AMD") || message.hasPrefix("Event") else {
      return false
    }
    // The name of the event, when it is not there yet: in what follows the bracket.
    return name(message) == nil
  }

  /// The event's name, and what follows it.
  private static func name(_ text: Substring) -> (AMDVi.EventCode, Substring)? {
    var words = text
    if let bracket = words.firstRange(of: "[") { words = words[bracket.upperBound...] }
    while let start = words.firstIndex(where: { $0.isUppercase }) {
      words = words[start...]
      let word = words.prefix { $0.isUppercase || $0 == "_" }
      if let code = codes[word] { return (code, words[word.endIndex...]) }
      words = words[word.endIndex...]
    }
    return nil
  }

  static func read(_ message: LogMessage) -> LogReading {
    let text = message.text[...]
    if text.hasPrefix("AMD-Vi: DTE[") { return deviceEntry(text) }
    if text.hasPrefix("AMD-Vi: CMD[") { return words(text, "CMD") }
    if text.hasPrefix("AMD-Vi: Control Reg") {
      return LogScanner(text).hexadecimal(after: "Reg :").map { .table(.control($0)) }
        ?? .begunTable
    }
    if text.hasPrefix("PPR logged [") { return pageRequest(text) }
    if let reason = lossReason(text) { return .unread(reason) }
    if text.hasPrefix("Completion-Wait") {
      return .unread("the unit has not carried out a command within the time it is given")
    }
    guard let (code, rest) = name(text) else { return nameless(text, message.prefix) }
    let isLinux = text.contains("logged [") || rest.contains("=") && rest.contains("]")
    if !isLinux, !message.prefix.hasSuffix("AMD-Vi: "), !rest.hasPrefix(":") {
      // A name in some other sentence.
      return rest.contains("address=") ? linux(code, rest, message) : .nothing
    }
    return isLinux ? linux(code, rest, message) : xen(code, rest)
  }

  /// What is lost, of messages that say no more.
  private static func lossReason(_ text: Substring) -> String? {
    if text.hasPrefix("vent log") { return "the event log was full, and events are lost" }
    if text.hasPrefix("PPR log ") {
      return "the page request log was full, and page requests are lost"
    }
    if text.hasPrefix("GA log notifier") { return "nobody took an interrupt for a guest" }
    if text.hasPrefix("GA log") {
      return "the log of interrupts for guests was full, and interrupts are lost"
    }
    if text.hasPrefix("Unknown PPR") {
      return "the page request log had an entry that is no page request"
    }
    return nil
  }

  /// A page request that Linux refuses: `PPR logged [… (device=… pasid=… address=… flags=… tag=…]`.
  private static func pageRequest(_ text: Substring) -> LogReading {
    let end = text.firstIndex(of: "]")
    let scanner = LogScanner(text[..<(end ?? text.endIndex)])
    guard let device = scanner.device(after: "device="),
      let pasid = scanner.hexadecimal(after: "pasid="),
      let address = scanner.hexadecimal(after: "address="),
      let flags = scanner.hexadecimal(after: "flags="),
      let tag = scanner.hexadecimal(after: "tag=")
    else {
      return end == nil
        ? .begun("a page request that is cut") : .unread("a page request without all its fields")
    }
    let entry = AMDVi.PageRequestEntry(
      printed: device.requester, pasid: pasid, tag: tag, flags: flags, address: address)
    let record = FaultRecord(
      source: .amdviPageRequest(entry), device: device, pasid: entry.pasid?.rawValue,
      address: entry.address.rawValue, entry.pasid == nil ? .iova : .guestVirtual)
    return end == nil ? .unfinished(record) : .fault(record)
  }

  /// `AMD-Vi: DTE[0]: 6190000000000003`, or doublewords up to 2.6.39.
  private static func deviceEntry(_ text: Substring) -> LogReading {
    var scanner = LogScanner(text)
    guard let index = scanner.decimal(after: "DTE["), index < 8, scanner.skip(past: "]: "),
      let value = Notation.hexadecimal(utf8: scanner.rest.prefix { $0.isHexDigit }.utf8)
    else { return .begunTable }
    let digits = scanner.word()
    return .table(
      .deviceEntry(word: Int(index), value, isDoubleword: digits.utf8.count <= 8))
  }

  /// An event that Linux has other words for, or no words.
  private static func nameless(_ text: Substring, _ prefix: String) -> LogReading {
    guard text.contains("logged [") else {
      return text == "AMD-Vi: Event" || text == "AMD IOMMU: Event"
        ? .begun("an event that is cut before its name") : .nothing
    }
    var scanner = LogScanner(text)
    if scanner.skip(past: "event[0] = ") {
      var values: [UInt64] = []
      for index in 0..<4 {
        guard let value = LogScanner(text).hexadecimal(after: "event[\(index)] = ") else {
          return .begun("an event that is cut")
        }
        values.append(value)
      }
      return words(values)
    }
    if text.contains("not attached to domain") {
      guard let device = scanner.device(after: "device=") else {
        return .begun("a page fault of a device without a domain, which is not named")
      }
      return .fault(
        FaultRecord(
          source: .amdvi(AMDVi.Event(.pageFault, device: device.requester), hasFlags: false),
          device: device))
    }
    if text.contains("]") { return .unread("an event whose name is not known") }
    return .begun("an event that is cut before its name")
  }

  // MARK: Linux

  private static func linux(
    _ code: AMDVi.EventCode, _ rest: Substring, _ message: LogMessage
  ) -> LogReading {
    let end = rest.firstIndex(of: "]")
    let fields = rest[..<(end ?? rest.endIndex)]
    let scanner = LogScanner(fields)
    let isWhole = end != nil
    // A number at the very end of a line may go on in the next.
    func number(_ key: String) -> UInt64? { scanner.hexadecimal(after: key) }
    var device = scanner.device(after: "device=")
    if device == nil, let id = number("devid=").flatMap({ UInt16(exactly: $0) }) {
      device = PCI.Function(Requester(rawValue: id))
    }
    if device == nil {
      let before = message.prefix.suffix(512) + message.text.prefix { $0 != "[" }
      device = Self.device(before: "AMD-Vi:", in: before[...])
    }
    let flags = number(" flags=")
    let address = number("address=") ?? number("gpa=") ?? number("spa=")
    let requester = device?.requester ?? Requester(rawValue: 0)
    let event =
      switch code {
      case .invalidPageRequest:
        AMDVi.Event(
          pageRequestOf: requester, pasid: number("pasid=") ?? 0, tag: number("tag=") ?? 0,
          flags: flags ?? 0, address: address ?? 0)
      case .reverseMapFault, .reverseMapHardwareError:
        AMDVi.Event(
          reverseMap: code, device: requester, guestTag: number("vmg_tag=") ?? 0,
          reverseMapFlags: number("flags_rmp=") ?? 0, flags: flags ?? 0, address: address ?? 0)
      default:
        AMDVi.Event(
          code, device: requester, domain: number("domain=") ?? number("pasid=") ?? 0,
          flags: flags ?? 0, address: address ?? 0)
      }
    guard address != nil else { return .begun("an event that is cut before its address") }
    var record = Self.record(event, device: device, hasFlags: flags != nil)
    if [.invalidDeviceRequest, .pageTableHardwareError, .illegalDeviceTableEntry].contains(code) {
      record.pasid =
        event.isGuest ? number("pasid=").flatMap { UInt32(exactly: $0) } : nil
    }
    return isWhole ? .fault(record) : .unfinished(record)
  }

  /// Newer kernels name the device before their message: `nvme 0000:01:00.0: AMD-Vi: …`.
  private static func device(before mark: String, in text: Substring) -> PCI.Function? {
    var end = text.endIndex
    var rest = text
    while let range = rest.firstRange(of: mark) {
      end = range.lowerBound
      rest = rest[range.upperBound...]
    }
    let word = text[..<end].split(separator: " ").last
    return word.flatMap { word in
      try? Notation.device(word.hasSuffix(":") ? word.dropLast() : word)
    }
  }

  // MARK: Xen

  private static func xen(_ code: AMDVi.EventCode, _ rest: Substring) -> LogReading {
    var scanner = LogScanner(rest)
    scanner.skip(past: ":")
    if let address = scanner.hexadecimal(after: "fault address = ") {
      // Up to 4.12.
      guard let id = scanner.hexadecimal(after: "device id = ").flatMap({ UInt16(exactly: $0) })
      else { return .begun("an event that is cut before its device") }
      let flags = scanner.hexadecimal(after: "flags = ")
      let device = PCI.Function(Requester(rawValue: id))
      let event = AMDVi.Event(
        code, device: device.requester, domain: scanner.decimal(after: "domain = ") ?? 0,
        flags: flags ?? 0, address: address)
      let record = record(event, device: device, hasFlags: flags != nil)
      return flags == nil ? .unfinished(record) : .fault(record)
    }
    if rest.contains("device id =") || rest.contains("domain =") {
      return .begun("an event that is cut before its address")
    }
    var dwords = scanner
    let first = dwords.word()
    if first.utf8.count == 8, !first.contains(":") {
      var values: [UInt64] = []
      for _ in 0..<4 {
        guard let value = scanner.hexadecimal() else { return .begun("an event that is cut") }
        values.append(value)
      }
      return words(values)
    }
    guard let device = try? Notation.device(first) else {
      return .begun("an event that is cut before its device")
    }
    guard let address = scanner.hexadecimal(after: "addr ") else {
      return .begun("an event that is cut before its address")
    }
    let flags = scanner.printed(after: "flags ")
    let event = AMDVi.Event(
      code, device: device.requester, domain: scanner.decimal(after: " d") ?? 0,
      flags: flags ?? 0, address: address)
    let record = record(event, device: device, hasFlags: flags != nil)
    return flags == nil ? .unfinished(record) : .fault(record)
  }

  // MARK: Records

  /// An event of four doublewords.
  private static func words(_ values: [UInt64]) -> LogReading {
    guard values.allSatisfy({ $0 <= UInt64(UInt32.max) }) else {
      return .unread("its words have more than 32 bits")
    }
    let event = AMDVi.Event(
      low: values[0] | values[1] << 32, high: values[2] | values[3] << 32)
    return .fault(record(event, device: PCI.Function(event.device), hasFlags: true))
  }

  private static func record(
    _ event: AMDVi.Event, device: PCI.Function?, hasFlags: Bool
  ) -> FaultRecord {
    var record = FaultRecord(
      source: .amdvi(event, hasFlags: hasFlags), device: event.namesDevice ? device : nil)
    record.address = event.address
    let isInterrupt = event.isInterrupt
    switch event.code {
    case .pageFault:
      record.addressKind = isInterrupt ? .interrupt : event.isGuest ? .guestVirtual : .iova
      if hasFlags, !isInterrupt { record.access = event.isWrite ? .write : .read }
      if event.isGuest { record.pasid = event.pasid }
    case .illegalDeviceTableEntry:
      record.addressKind = isInterrupt ? .interrupt : .iova
      if hasFlags, !isInterrupt { record.access = event.isWrite ? .write : .read }
    case .invalidPageRequest:
      record.addressKind = event.isGuest ? .guestVirtual : .iova
      if event.isGuest { record.pasid = event.requestPASID }
    case .invalidDeviceRequest: record.addressKind = .iova
    case .reverseMapFault: record.addressKind = .guestPhysical
    case .illegalCommand, .commandHardwareError: record.addressKind = .physical
    // A counter has no address; of others without a device nothing but the code is known.
    case _ where !event.namesDevice: record.address = nil
    default: record.addressKind = .physical
    }
    return record
  }

  /// `AMD-Vi: CMD[0]: 00001000`.
  private static func words(_ text: Substring, _ name: String) -> LogReading {
    guard let value = LogScanner(text).hexadecimal(after: "]: ") else { return .begunTable }
    return .words(LoggedWords(name: name, words: [value]))
  }
}
