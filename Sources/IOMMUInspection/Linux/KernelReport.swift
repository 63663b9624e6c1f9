import IOMMUFormats
import IOMMULinux
import IOMMUTranslation

/// What a dump's kernel says of itself and its devices: a screen, or JSON.
public struct KernelReport: Sendable {
  private let role: LinuxKernels.Role
  private let isOnlyKernel: Bool
  private let origin: LinuxKernel.Origin
  private let names: LinuxKernel.Names?
  private let release: String?
  private let processorCount: Int?
  private let commandLine: String?
  /// The line of the log that says why the kernel died.
  private let death: String?
  /// Seconds since 1970, as VMCOREINFO has them.
  private let crashTime: UInt64?
  private let memoryByteCount: UInt64?
  private let crashKernel: [Range<PhysicalAddress>]
  private let resources: [KernelResources.Line]
  private let modules: [KernelModule]
  private let pagesRead: Int
  public let survey: KernelSurvey?
  /// What could not be read or looked at, in words.
  public private(set) var unknown: [String] = []
  /// Lists of the numbers that allocators hold go along in JSON.
  private let listsNumbers: Bool

  /// Reads all that is told of a kernel.
  ///
  /// - Parameters:
  ///   - kernel: The kernel, whose structures are read now.
  ///   - role: What it is to the crash.
  ///   - old: The state of the kernel that was there before, for a capture kernel.
  ///   - isOnlyKernel: The dump has no other.
  ///   - listsNumbers: Every range of every allocator goes along in JSON.
  ///   - memory: The dump, whose tables are held against what the kernel says.
  public init(
    _ kernel: LinuxKernel, role: LinuxKernels.Role, after old: IOMMUState? = nil,
    isOnlyKernel: Bool = true,
    listsNumbers: Bool = false, in memory: some PhysicalMemory
  ) {
    self.role = role
    self.isOnlyKernel = isOnlyKernel
    self.listsNumbers = listsNumbers
    origin = kernel.origin
    names = kernel.names
    release = kernel.info.release
    var unknown: [String] = []
    func attempt<Value>(_ what: String, _ body: () throws(KernelReadError) -> Value) -> Value? {
      do throws(KernelReadError) {
        return try body()
      } catch {
        let text = "\(what): \(error)"
        // What all of them need is told once.
        if !unknown.contains(where: { $0.hasSuffix("\(error)") }) { unknown.append(text) }
        return nil
      }
    }
    // What nearly all of the rest needs comes first, and says why all of it is missing.
    _ = attempt("symbols") { () throws(KernelReadError) in
      if let problem = try kernel.symbols.problem { throw problem }
    }
    _ = attempt("types") { () throws(KernelReadError) in
      if let problem = try kernel.types.btf.problem { throw problem }
    }
    processorCount = attempt("processors") { () throws(KernelReadError) in
      try kernel.possibleProcessors().count
    }
    commandLine = attempt("command line") { () throws(KernelReadError) in try kernel.commandLine() }
    crashTime = kernel.info["CRASHTIME"].flatMap { Notation.decimal(utf8: $0.utf8) }
    let log = attempt("log") { () throws(KernelReadError) in try kernel.log() }
    death = log.flatMap(Self.death)
    unknown += log?.problems.map { "log: \($0)" } ?? []
    let map = attempt("map of resources") { () throws(KernelReadError) in
      try KernelResources(kernel)
    }
    unknown += map?.problems.map { "map of resources: \($0)" } ?? []
    resources = map?.lines ?? []
    crashKernel = map?.ranges(named: "Crash kernel") ?? []
    let ram = map?.ranges(named: "System RAM").map(\.byteCount)
    memoryByteCount = ram.map { $0.reduce(0, &+) }
    let loaded = attempt("modules") { () throws(KernelReadError) in try kernel.modules() }
    modules = loaded?.modules ?? []
    unknown += loaded?.problems.map { "modules: \($0)" } ?? []
    let state = attempt("IOMMUs") { () throws(KernelReadError) in try IOMMUState(kernel) }
    survey = state.map { KernelSurvey($0, role: role, resources: map, after: old, in: memory) }
    self.unknown = unknown + (survey?.unknown ?? [])
    pagesRead = kernel.memory.touchedPageCount
  }

  /// The findings of the survey.
  public var findings: [KernelSurvey.Finding] { survey?.findings ?? [] }

  /// What kernels print when they end, the most telling first.
  ///
  /// Source: Linux `kernel/panic.c` and the architectures' trap handlers.
  private static let lastWords = [
    "Kernel panic - not syncing", "sysrq: Trigger a crash", "BUG: ", "Oops: ", "kernel BUG at",
    "Unable to handle kernel", "general protection fault",
  ]

  private static func death(_ log: PrintkLog) -> String? {
    for words in lastWords {
      if let record = log.records.last(where: { $0.text.contains(words) }) {
        let line =
          record.text.split(separator: "\n").first { $0.contains(words) } ?? Substring(record.text)
        return (record.stamp.map { "[\($0)] " } ?? "") + line
      }
    }
    return nil
  }
}

// MARK: - Text

extension KernelReport {
  private static let columns = 80
  private static let labelWidth = 12
  /// Lines of what is not known, on a screen.
  private static let toldLimit = 20

  /// Writes a screen of 80 columns.
  public func write(to out: inout some TextOutputStream, ink: Ink = .none) {
    func line(_ label: String, _ text: String, first: Bool = true) {
      for (number, part) in Self.wrapped(text.visible, to: Self.columns - Self.labelWidth)
        .enumerated()
      {
        let shown = number == 0 && first ? label : ""
        let padding = "".padded(to: Self.labelWidth - shown.count)
        out.write(ink.strong(shown) + padding + part + "\n")
      }
    }
    let which = isOnlyKernel ? "kernel" : role == .old ? "old kernel" : "capturing"
    line(
      which,
      ([names?.release ?? release ?? "of unknown release", names?.machine].compactMap { $0 })
        .joined(separator: " ") + (names.map { ", \($0.version)" } ?? ""))
    if let node = names?.node, node != "(none)" { line("host", node) }
    if let death { line("died", death) }
    if let crashTime { line(death == nil ? "died" : "", Self.dateText(crashTime)) }
    if let commandLine { line("command", commandLine) }
    if let memoryByteCount {
      let processors = processorCount.map { ", " + countText($0, "processor") } ?? ""
      line("memory", "\(approximateByteCountText(memoryByteCount)) of RAM" + processors)
    }
    for range in crashKernel {
      line("", "crash kernel at \(range.text), \(byteCountText(range.byteCount))")
    }
    for unit in survey?.state.units ?? [] { line("unit", Self.text(of: unit)) }
    if let survey, !survey.devices.isEmpty {
      out.write("\n")
      writeDevices(survey, to: &out, ink: ink)
    }
    if !findings.isEmpty {
      out.write("\n")
      for (number, text) in findingTexts.enumerated() { line(number == 0 ? "findings" : "", text) }
    }
    if !unknown.isEmpty {
      out.write("\n")
      let told = unknown.prefix(Self.toldLimit)
      for (number, text) in told.enumerated() { line(number == 0 ? "unknown" : "", text) }
      let rest = unknown.count - told.count
      if rest > 0 { line("", "and \(rest) more (--format json has them)") }
    }
  }

  /// Findings one by one, but those that concern most devices of a capture kernel in one.
  private var findingTexts: [String] {
    let old = findings.filter { $0.kind == .oldTable }.map(\.device)
    let others = findings.filter { $0.kind != .oldTable }.map { "\($0.device): \($0.text)" }
    guard !old.isEmpty else { return others }
    return [
      "on the old kernel's tables, since no driver has attached them: "
        + old.joined(separator: ", ")
    ] + others
  }

  /// Seconds since 1970 as a date and a time.
  static func dateText(_ seconds: UInt64) -> String {
    guard seconds < 1 << 40 else { return "\(seconds) seconds after 1970" }
    func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
    // Days from the first of March of the year 0 on: leap days are the last of their years then.
    let days = Int(seconds / 86_400) + 719_468
    let era = days / 146_097
    let dayOfEra = days % 146_097
    let year = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * year + year / 4 - year / 100)
    let month = (5 * dayOfYear + 2) / 153
    let day = dayOfYear - (153 * month + 2) / 5 + 1
    let rest = Int(seconds % 86_400)
    return
      "\(era * 400 + year + (month < 10 ? 0 : 1))-\(two(month < 10 ? month + 3 : month - 9))-\(two(day)) "
      + "\(two(rest / 3600)):\(two(rest / 60 % 60)):\(two(rest % 60)) UTC"
  }

  private static func text(of unit: KernelUnit) -> String {
    var parts = [unit.title + ", \(unit.kind.rawValue)"]
    if let table = unit.table {
      // Those of VT-d have one length.
      let length = unit.kind == .amdvi ? unit.tableByteCount.map { ", \(byteCountText($0))" } : nil
      parts.append("\(unit.kind.tableName) at \(table)" + (length ?? ""))
    }
    if let queue = unit.queue { parts.append("queue at \(queue)") }
    if let table = unit.interruptTable { parts.append("interrupt table at \(table)") }
    if unit.hasCopiedTables == true { parts.append("has taken over an earlier kernel's tables") }
    return parts.joined(separator: ", ")
  }

  private func writeDevices(
    _ survey: KernelSurvey, to out: inout some TextOutputStream, ink: Ink
  ) {
    let nameWidth = survey.devices.reduce(8) { max($0, $1.device.shortName.visible.count) }
    // Names to the left, numbers to the right.
    let widths = [nameWidth, 11, 5, 9, -4, -11, -6, -5, -6, -5]
    func row(_ cells: [String]) -> String {
      let padded = zip(cells, widths).map { cell, width in
        width > 0 ? cell.padded(to: width) : cell.paddedLeft(to: -width)
      }
      return padded.joined(separator: " ").withoutTrailingSpaces
    }
    let heading = [
      "device", "driver", "group", "domain", "id", "table", "pages", "live", "cached", "wait",
    ]
    out.write(ink.strong(row(heading)) + "\n")
    for found in survey.devices {
      let device = found.device
      let group = survey.state.group(device.group)
      // Of a device that nothing is attached to the group's domain says what it would get.
      let domain = found.domain ?? survey.state.domain(at: group?.domain)
      let isAttached = found.domain != nil
      let id = found.domainID(in: domain)
      var table = domain?.root?.description ?? "-"
      var state = domain?.typeName ?? "-"
      if !isAttached, device.group != nil {
        state = "none"
        table = "-"
      }
      if case .table(let root, _) = found.seen { table = "\(root)" }
      if found.seen == .passes { table = "passes" }
      func text(_ value: (some CustomStringConvertible)?) -> String { value?.description ?? "-" }
      let counts = found.counts
      var cells = [device.shortName.visible, text(device.driver?.visible), text(device.group)]
      cells.append(found.handOver == .left ? "old" : state)
      cells.append(isAttached ? text(id) : "-")
      cells.append(table)
      cells += [
        text(found.pageCount), text(counts?.live), text(counts?.cached), text(counts?.waiting),
      ]
      out.write(row(cells) + "\n")
    }
  }

  /// Lines of at most so many columns, broken between words where there are any.
  static func wrapped(_ text: String, to width: Int) -> [String] {
    var lines: [String] = []
    var line = ""
    for word in text.split(separator: " ", omittingEmptySubsequences: false) {
      var word = Substring(word)
      if !line.isEmpty, line.count + 1 + word.count > width {
        lines.append(line)
        line = ""
      }
      while word.count > width {
        lines.append(String(word.prefix(width)))
        word = word.dropFirst(width)
      }
      line += line.isEmpty ? String(word) : " " + word
    }
    return lines + [line]
  }
}

// MARK: - JSON

extension KernelReport: Encodable {
  private struct AnyKey: CodingKey {
    var stringValue: String
    var intValue: Int? { nil }
    init(_ text: String) { stringValue = text }
    init?(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }

  private struct Crash: Encodable {
    var text: String?
    var time: UInt64?
  }

  private struct Resource: Encodable {
    var start: String
    var end: String
    var name: String
    var depth: Int
  }

  private struct Module: Encodable {
    var name: String
    var address: String?
    var bytes: String?
    var type_bytes: Int?
  }

  private struct Unit: Encodable {
    var kind: String
    var name: String?
    var base: String?
    var segment: UInt32?
    var table: String?
    var table_bytes: String?
    var capability: String?
    var extended_capability: String?
    var command: String?
    var queue: String?
    var interrupt_table: String?
    var requester: String?
    var copied_tables: Bool?
    var domain_ids: [UInt32]?
    var structure: String

    init(_ unit: KernelUnit) {
      kind = unit.kind.rawValue
      name = unit.name
      base = unit.registerBase.map { "\($0)" }
      segment = unit.segment
      table = unit.table.map { "\($0)" }
      table_bytes = unit.tableByteCount.map { hexadecimal($0) }
      capability = unit.capability.map { hexadecimal($0) }
      extended_capability = unit.extendedCapability.map { hexadecimal($0) }
      command = unit.command.map { hexadecimal($0) }
      queue = unit.queue.map { "\($0)" }
      interrupt_table = unit.interruptTable.map { "\($0)" }
      requester = unit.requester.map { "\($0)" }
      copied_tables = unit.hasCopiedTables
      domain_ids = unit.domainIDs
      structure = hexadecimal(unit.address)
    }
  }

  private struct SeenTable: Encodable {
    /// `table`, `passes`, `none`, `unknown`.
    var state: String
    var root: String?
    var levels: Int?
    var domain_id: UInt16?

    init(_ found: KernelSurvey.Device) {
      levels = found.levels
      switch found.seen {
      case .table(let root, let id):
        state = "table"
        self.root = "\(root)"
        domain_id = id
      case .passes: state = "passes"
      case .none: state = "none"
      case .unknown: state = "unknown"
      }
    }
  }

  private struct CountsJSON: Encodable {
    var live: Int
    var cached: Int
    var waiting: Int
    var reserved: Int
  }

  private struct DeviceJSON: Encodable {
    var device: String
    var name: String
    var vendor: String?
    var product: String?
    var `class`: String?
    var driver: String?
    var dma_mask: String?
    var coherent_dma_mask: String?
    var group: Int?
    var requester: String?
    var aliases: [String]?
    var streams: [UInt32]?
    var unit: String?
    /// Of the domain that is attached.
    var domain: String?
    var attached: Bool?
    var own_domain_id: UInt32?
    var tables: SeenTable
    var pages: UInt64?
    var iovas: CountsJSON?
    var hand_over: String?

    init(_ found: KernelSurvey.Device) {
      let own = found.device
      device = own.shortName
      name = own.name
      vendor = own.vendor.map { hexadecimal($0) }
      product = own.device.map { hexadecimal($0) }
      self.class = own.deviceClass.map { hexadecimal($0) }
      driver = own.driver
      dma_mask = own.dmaMask.map { hexadecimal($0) }
      coherent_dma_mask = own.coherentDMAMask.map { hexadecimal($0) }
      group = own.group
      requester = own.requester.map { "\($0)" }
      aliases = own.aliases.isEmpty ? nil : own.aliases.map { "\($0)" }
      streams = own.streams.isEmpty ? nil : own.streams
      unit = own.unit.map { hexadecimal($0) }
      switch own.attachment {
      case .domain(let address):
        domain = hexadecimal(address)
        attached = true
      case .none: attached = false
      case .unknown: break
      }
      own_domain_id = own.ownDomainID
      tables = SeenTable(found)
      pages = found.pageCount
      iovas = found.counts.map {
        CountsJSON(live: $0.live, cached: $0.cached, waiting: $0.waiting, reserved: $0.reserved)
      }
      hand_over = found.handOver?.rawValue
    }
  }

  private struct GroupJSON: Encodable {
    var group: Int
    var devices: [String]
    var default_domain: String?
    var domain: String?
  }

  private struct IDJSON: Encodable {
    var unit: String
    var id: UInt32
  }

  private struct CachedJSON: Encodable {
    var order: Int
    var processors: [[String]]
    var depot: [String]
  }

  private struct WaitingJSON: Encodable {
    var processor: Int?
    var page: String
    var pages: UInt64
    var counter: UInt64
  }

  private struct AllocatorJSON: Encodable {
    var granule: String
    var ranges: Int
    var cached: Int
    var waiting: Int
    var flush_start: UInt64?
    var flush_finish: UInt64?
    var range_list: [[String]]?
    var cached_list: [CachedJSON]?
    var waiting_list: [WaitingJSON]?

    init(_ iova: IOVAAllocator, listsNumbers: Bool) {
      granule = hexadecimal(iova.granule)
      ranges = iova.ranges.count
      cached = iova.cached.reduce(0) { $0 + $1.pages.count }
      waiting = iova.waiting.count
      flush_start = iova.flushStart
      flush_finish = iova.flushFinish
      guard listsNumbers else { return }
      range_list = iova.ranges.map { [hexadecimal($0.lowerBound), hexadecimal($0.upperBound)] }
      cached_list = iova.cached.map { cached in
        CachedJSON(
          order: cached.order, processors: cached.own.map { $0.pages.map { hexadecimal($0) } },
          depot: cached.depot.map { hexadecimal($0) })
      }
      waiting_list = iova.waiting.map {
        WaitingJSON(
          processor: $0.processor, page: hexadecimal($0.page), pages: $0.count, counter: $0.counter)
      }
    }
  }

  private struct DomainJSON: Encodable {
    var domain: String
    var type: String?
    var ids: [IDJSON]
    var root: String?
    var levels: Int?
    var first_stage: Bool?
    var iova: AllocatorJSON?
  }

  private struct FindingJSON: Encodable {
    var kind: String
    var device: String
    var text: String
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: AnyKey.self)
    func put(_ key: String, _ value: (some Encodable)?) throws {
      if let value { try container.encode(value, forKey: AnyKey(key)) }
    }
    try put("kernel", role.rawValue)
    switch origin {
    case .notes: try put("found", "notes")
    case .memory(let address): try put("found", "\(address)")
    }
    try put("release", names?.release ?? release)
    try put("version", names?.version)
    try put("machine", names?.machine)
    try put("host", names?.node)
    try put("processors", processorCount)
    try put("command_line", commandLine)
    if death != nil || crashTime != nil { try put("crash", Crash(text: death, time: crashTime)) }
    try put("ram_bytes", memoryByteCount.map { hexadecimal($0) })
    try put("crash_kernel", crashKernel.map { ["\($0.lowerBound)", "\($0.upperBound)"] })
    try put(
      "resources",
      resources.map {
        Resource(
          start: hexadecimal($0.addresses.lowerBound), end: hexadecimal($0.addresses.upperBound),
          name: $0.name, depth: $0.depth)
      })
    try put(
      "modules",
      modules.map {
        Module(
          name: $0.name, address: $0.address.map { hexadecimal($0) },
          bytes: $0.byteCount.map { hexadecimal($0) }, type_bytes: $0.types?.count)
      })
    try put("units", survey?.state.units.map { Unit($0) })
    try put("devices", survey?.devices.map { DeviceJSON($0) })
    try put(
      "groups",
      survey?.state.groups.map {
        GroupJSON(
          group: $0.number, devices: $0.devices,
          default_domain: $0.defaultDomain.map { hexadecimal($0) },
          domain: $0.domain.map { hexadecimal($0) })
      })
    try put(
      "domains",
      survey?.state.domains.map { domain in
        DomainJSON(
          domain: hexadecimal(domain.address), type: domain.typeName,
          ids: domain.ids.map { IDJSON(unit: hexadecimal($0.unit), id: $0.id) },
          root: domain.root.map { "\($0)" }, levels: domain.levels,
          first_stage: domain.isFirstStage,
          iova: domain.iova.map { AllocatorJSON($0, listsNumbers: listsNumbers) })
      })
    try put(
      "findings",
      findings.map { FindingJSON(kind: $0.kind.rawValue, device: $0.device, text: $0.text) })
    try put("unknown", unknown)
    try put("pages_read", pagesRead)
  }
}
