import IOMMUFormats
import IOMMUTranslation

/// What a logged fault means: by itself, and beside the tables of a dump.
///
/// The log says what the device tried; the dump, what the tables say since. Together they say which
/// entry stopped the device, what should have been there, and where its number does lead. Without a
/// dump there is what the unit says with the fault, and what such faults come from.
public struct FaultExplanation: Sendable {
  public let fault: LoggedFault
  /// The driver of the device, where the dump's kernel says it.
  public internal(set) var driver: String?
  /// What the device tried, in a line.
  public let attempt: String
  /// What the unit says to it, with its own number.
  public let meaning: String
  /// Flags one by one, and what else the log's numbers say.
  public let details: [String]
  /// What such faults come from mostly, and where to look; `nil` where a walk says more.
  public private(set) var causes: String?
  public private(set) var lookAt: String?
  /// The walk of the same request now; `nil` where there is no dump, or the log does not say enough
  /// for one.
  public private(set) var walk: ToldWalk?
  /// What the tables say now, against what the log says; `nil` without a dump.
  public private(set) var now: String?
  /// The entry that stops the request, when one does.
  public private(set) var stoppedBy: String?
  /// What the driver should have written.
  public private(set) var remedy: String?
  /// The walk through the entries that the kernel printed behind the fault.
  public let loggedWalk: LoggedWalk?
  /// What the printed entries are against the fault, and against a dump's.
  public private(set) var comparison: [String] = []
  /// What happened to the number before the fault, by a trace.
  public var history: [String] = []
  /// Whatever else is known of the number: where it is mapped, what it may be mistaken for.
  public var hints: [String] = []

  /// What the log says by itself.
  public init(_ fault: LoggedFault) {
    let words = fault.record.words
    self.fault = fault
    attempt = words.attempt
    meaning = words.meaning
    details = words.details + fault.words.map(\.text) + fault.tables.deviceDetails
    causes = words.causes
    lookAt = words.lookAt
    loggedWalk = fault.loggedWalk
    if let loggedWalk, let text = loggedWalk.comparison(with: fault.record) {
      comparison = [text]
    }
  }

  /// What the tables of a dump say to it.
  init(
    _ fault: LoggedFault, walk: ToldWalk?, now: String, stoppedBy: String? = nil,
    remedy: String? = nil, hints: [String] = []
  ) {
    self.init(fault)
    self.walk = walk
    self.now = now
    self.stoppedBy = stoppedBy
    self.remedy = remedy
    self.hints = hints
    if let walk {
      (causes, lookAt) = (nil, nil)
      comparison += loggedWalk?.differences(from: walk) ?? []
    }
  }

  /// How the hint begins that a number is one of memory.
  static let isRAM = "the number is RAM"

  /// The tables as they are refuse the request, and for the reason that was logged, if one was.
  public var isBorneOut: Bool {
    guard let walk, case .fault(let fault) = walk.end else { return false }
    return self.fault.record.isBorneOut(by: fault) ?? true
  }
}

extension FaultRecord {
  /// Whether a fault is the one that was logged; `nil` where the log does not say enough.
  func isBorneOut(by fault: Fault) -> Bool? {
    switch source {
    case .vtd(let reason?): fault.number.map { $0 == reason.rawValue }
    case .amdvi(let event, let hasFlags):
      fault.amdviReason?.explains(event, hasFlags: hasFlags) ?? nil
    default: nil
    }
  }

  /// What to walk as where the log does not say what the request wanted: a read, where flags are missing.
  var likelyAccess: Access? {
    if case .amdvi(_, hasFlags: false) = source { .read } else { nil }
  }
}

extension FaultExplanation: Encodable {
  enum CodingKeys: String, CodingKey {
    case line, count, unit, device, driver, pasid, address, access, reason, attempt, meaning,
      details,
      causes,
      now, remedy, comparison, history, hints, walk
    case addressKind = "address_kind"
    case stoppedBy = "stopped_by"
    case lookAt = "look_at"
    case loggedWalk = "logged_walk"
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    let record = fault.record
    try container.encode(fault.line, forKey: .line)
    try container.encode(fault.count, forKey: .count)
    try container.encode(record.unit, forKey: .unit)
    try container.encodeIfPresent(record.device.map { "\($0)" }, forKey: .device)
    try container.encodeIfPresent(driver, forKey: .driver)
    try container.encodeIfPresent(record.pasid.map { hexadecimal($0) }, forKey: .pasid)
    if let address = record.address {
      try container.encode(hexadecimal(address), forKey: .address)
      try container.encode(record.addressKind.rawValue, forKey: .addressKind)
    }
    try container.encodeIfPresent(record.access.map { "\($0)" }, forKey: .access)
    try container.encodeIfPresent(record.reasonText, forKey: .reason)
    try container.encode(attempt, forKey: .attempt)
    try container.encode(meaning, forKey: .meaning)
    try container.encode(details, forKey: .details)
    try container.encodeIfPresent(causes, forKey: .causes)
    try container.encodeIfPresent(lookAt, forKey: .lookAt)
    try container.encodeIfPresent(now, forKey: .now)
    try container.encodeIfPresent(stoppedBy, forKey: .stoppedBy)
    try container.encodeIfPresent(remedy, forKey: .remedy)
    try container.encodeIfPresent(loggedWalk, forKey: .loggedWalk)
    try container.encode(comparison, forKey: .comparison)
    try container.encode(history, forKey: .history)
    try container.encode(hints, forKey: .hints)
    try container.encodeIfPresent(walk, forKey: .walk)
  }
}

extension FaultExplanation {
  /// Writes the explanation alone.
  public func write(to out: inout some TextOutputStream, ink: Ink = .none) {
    var told: [String: Int] = [:]
    write(to: &out, ink: ink, told: &told)
  }

  /// Writes the explanation as a paragraph of lines, of 80 columns where words allow.
  ///
  /// - Parameters:
  ///   - out: Where the lines go, each with its newline.
  ///   - ink: Colours, or none.
  ///   - told: The line at which causes were told first: the same are not told again.
  public func write(
    to out: inout some TextOutputStream, ink: Ink = .none, told: inout [String: Int]
  ) {
    let times = fault.count == 1 ? "" : ", \(fault.count) times"
    let attempt = DeviceNames.naming(fault.record.device, driver, in: attempt)
    for (index, text) in "line \(fault.line)\(times): \(attempt)".lines(of: 80, later: 76)
      .enumerated()
    {
      guard index == 0, let colon = text.firstIndex(of: ":") else {
        out.write("    \(ink.strong(text))\n")
        continue
      }
      out.write("\(text[...colon]) \(ink.strong(String(text[colon...].dropFirst(2))))\n")
    }
    func row(_ label: String, _ text: String?, _ color: (String) -> String = { $0 }) {
      guard let text else { return }
      for (index, line) in text.lines(of: 66, later: 66).enumerated() {
        out.write("  \((index == 0 ? label : "").padded(to: 12))\(color(line))\n")
      }
    }
    row("means", meaning)
    for detail in details { row("detail", detail) }
    if let causes, let line = told[causes] {
      row("usually", "as at line \(line)")
    } else {
      row("usually", causes)
      row("look at", lookAt)
      if let causes { told[causes] = fault.line }
    }
    row("now", now)
    row("stopped by", stoppedBy, ink.bad)
    row("should be", remedy, ink.good)
    for step in loggedWalk?.steps ?? [] {
      row("in the log", "\(step.titleText), raw \(step.entry.rawText): \(step.entry.meaning)")
      for violation in step.entry.violations { row("", violation, ink.bad) }
    }
    row("by these", loggedWalk?.end)
    for text in comparison { row("", text) }
    for text in history { row("before", text) }
    for hint in hints { row("note", hint) }
  }
}

extension LoggedFault {
  /// The walk of the request through the entries that the kernel printed.
  var loggedWalk: LoggedWalk? {
    guard let device = record.device, !tables.isEmpty else { return nil }
    switch record.source {
    case .vtd:
      guard let iova = record.iova else { return nil }
      return tables.walk(
        device, pasid: record.pasid.map { PASID($0) }, iova, access: record.access ?? .read)
    case .amdvi(let event, _): return tables.deviceWalk(record, event, of: device)
    default: return nil
    }
  }
}

extension LoggedWalk {
  /// What the entries say to the fault before them.
  fileprivate func comparison(with record: FaultRecord) -> String? {
    if case .amdvi(let event, let hasFlags) = record.source {
      return comparison(with: event, hasFlags: hasFlags)
    }
    guard case .vtd(let reason?) = record.source else { return nil }
    if reachesMemory {
      return "these entries allow the request: they were written after the fault, or the unit "
        + "still saw older ones"
    }
    guard let number = fault?.number else { return nil }
    return number == reason.rawValue
      ? "the fault that was logged" : "not the fault that was logged: the entries have changed"
  }

  /// Where a dump has other entries.
  fileprivate func differences(from walk: ToldWalk) -> [String] {
    zip(steps, walk.steps).compactMap { logged, now in
      guard logged.place == now.place, logged.entry.words != now.entry.words else { return nil }
      return "\(logged.titleText) is another in the dump: \(now.entry.rawText)"
    }
  }
}

extension LoggedWords {
  /// What they are and say, in a line.
  fileprivate var text: String {
    let raw = words.map { "0x" + hexadecimal($0, digits: digits) }.joined(separator: " ")
    guard let described else { return "\(name) in the log: \(raw)" }
    let says = described.meaning.isEmpty ? described.fieldsText : described.meaning
    return "\(name) in the log: \(raw), \(described.name): "
      + ([says] + described.violations).joined(separator: "; ")
  }

  /// A quadword, or a doubleword of a command.
  private var digits: Int { name == "CMD" ? 8 : 16 }

  /// A descriptor of the invalidation queue, or a command, in words.
  private var described: EntryDescription? {
    if name == "CMD" { return AMDVi.described(command: words) }
    guard name.hasPrefix("QI "), let low = words.first,
      let type = VTd.DescriptorType(descriptor: low),
      let kind = EntryCatalog.all.first(where: { $0.type == type.format })
    else { return nil }
    return try? kind.describe(words)
  }
}

extension String {
  /// The text in lines of at most so many columns, broken at blanks; a longer word stays whole.
  package func lines(of width: Int, later: Int) -> [String] {
    var lines: [String] = []
    var line = ""
    for word in split(separator: " ", omittingEmptySubsequences: false) {
      let room = lines.isEmpty ? width : later
      if !line.isEmpty, line.count + 1 + word.count > room {
        lines.append(line)
        line = String(word)
      } else {
        line +=
          line.isEmpty && lines.isEmpty && word.isEmpty ? "" : (line.isEmpty ? "" : " ") + word
      }
    }
    return lines + [line]
  }
}
