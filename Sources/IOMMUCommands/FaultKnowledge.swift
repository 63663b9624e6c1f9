import ArgumentParser
import IOMMUFormats
import IOMMUImages
import IOMMUInspection

/// What is known of a machine beside its log and its dump.
package struct FaultKnowledge: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The DMAR table, or a directory with it, such as /sys/firmware/acpi/tables: says what firmware "
        + "calls a device.",
      valueName: "file"), completion: .file())
  package var dmar: String?

  @Option(
    help: ArgumentHelp(
      "The IVRS table, likewise: that of AMD-Vi.", valueName: "file"), completion: .file())
  package var ivrs: String?

  @Option(
    help: ArgumentHelp(
      "/proc/iomem of the machine, or a copy: says what is at a number, taken as a physical address.",
      valueName: "file"), completion: .file())
  package var iomem: String?

  @Option(
    help: ArgumentHelp(
      "A trace of mappings, as 'iommu replay' reads it: says who mapped and unmapped a number before "
        + "the fault.",
      valueName: "file"), completion: .file())
  package var trace: String?

  package init() {}

  /// Which of the options read standard input, as they were given.
  package var ofStandardInput: [String] {
    [("--dmar", dmar), ("--ivrs", ivrs), ("--iomem", iomem), ("--trace", trace)]
      .filter { $0.1 == ByteStream.standardInputPath }.map { "\($0.0) -" }
  }

  package func validate() throws {
    guard ofStandardInput.count > 1 else { return }
    throw ValidationError(
      "\(ofStandardInput.joined(separator: " and ")): standard input is read once; name files for all "
        + "but one of them")
  }

  /// What these files say, and nothing else.
  package static func inFiles(iomem: String?, trace: String?) throws -> FaultKnowledge {
    try parse(
      (iomem.map { ["--iomem", $0] } ?? []) + (trace.map { ["--trace", $0] } ?? []))
  }

  /// Reads all of it.
  ///
  /// - Parameter warn: Is told what was passed over.
  package func context(
    for faults: [LoggedFault], warn: (String) -> Void = { IOMMUCommands.warn($0) }
  ) throws -> FaultContext {
    var context = FaultContext()
    if let dmar {
      let reading = try FirmwareFile(path: dmar).dmar(warn)
      context.firmware = reading.table
      context.firmwareIsWhole = reading.damage == nil
    }
    context.ivrs = try ivrs.map { try FirmwareFile(path: $0).ivrs(warn) }
    context.resources = try iomem.map { try ResourceMapFile.read($0) }
    context.history = try trace.map { try history(of: faults, path: $0, warn) }
    return context
  }

  private func history(
    of faults: [LoggedFault], path: String, _ warn: (String) -> Void
  ) throws -> MappingHistory {
    let name = ByteStream.name(of: path)
    var history = MappingHistory(faults)
    var parser = DMATraceParser()
    var line = 0
    var eventCount = 0
    var lossCount = 0
    var bad: (count: Int, line: Int, reason: DMATraceError)?
    try DMATraceFile(path: path).forEachLine(head: { parser.findDialect(in: $0) }) { text in
      line += 1
      var events: [DMATraceEvent]?
      do throws(DMATraceError) {
        events = try parser.events(in: text.bytes, isUnterminated: text.isUnterminated)
      } catch {
        bad = bad.map { ($0.count + 1, $0.line, $0.reason) } ?? (1, line, error)
      }
      let dialect = parser.dialect ?? .table
      let call = DMATraceCall(of: text.bytes, dialect)
      guard events != nil || call?.kind == .unmapList else {
        // It may have taken anything back.
        return history.noteLoss(line: line)
      }
      // Which of several mappings a list's unmapping takes back is weighed by the history.
      for event in events ?? [] where call?.kind != .unmapList {
        guard
          let noted = MappingHistory.Event(
            event, call, of: text.bytes, line: line, dialect: dialect)
        else { continue }
        eventCount += 1
        history.note(noted)
      }
      if let call, call.kind == .unmapList {
        eventCount += 1
        history.note(MappingHistory.Event(unmapping: call, of: text.bytes, line: line))
      }
      if parser.tally.gapCount > lossCount {
        lossCount = parser.tally.gapCount
        // What was lost before the first event takes nothing back.
        if eventCount > 0 { history.noteLoss(line: line) }
      }
    }
    if let bad {
      warn(
        "\(name): line \(bad.line): \(bad.reason)"
          + (bad.count == 1 ? "; it is left out" : "; it and \(bad.count - 1) more are left out"))
    }
    let gaps = parser.tally.gaps
    if !gaps.isEmpty {
      warn(
        "\(name): \(gaps.joined(separator: "; ")); there may have been more about a number than these"
      )
    }
    if parser.tally.cutLists > 0 {
      warn(
        "\(name): \(groupedCount(parser.tally.cutLists, "list")) of pages cut short by the kernel: "
          + "what lies behind is not in the trace")
    }
    guard eventCount > 0 else {
      throw InputError("\(name): no mapping in it; give it the trace events iommu and dma")
    }
    return history
  }
}

extension MappingHistory.Event {
  /// An event of a trace, where it is about numbers; a flush of all tells of none.
  ///
  /// - Parameter call: What the line says besides, if it is one of the DMA API.
  init?(
    _ event: DMATraceEvent, _ call: DMATraceCall?, of line: ArraySlice<UInt8>, line number: Int,
    dialect: DMATraceDialect
  ) {
    let kind: Kind
    var (source, iova, byteCount): (DMATraceEvent.Source, IOVA, UInt64)
    switch event {
    case .request(let owner, let start, let count, let access, let pageSizeLog2):
      (source, iova, byteCount) = (owner, start, count)
      switch dialect {
      case .ftrace: kind = call?.kind == .sync ? .synced : .mapped
      case .qemu:
        kind = .translated
        // QEMU translates pages.
        if let pageSizeLog2 {
          byteCount = 1 << UInt64(pageSizeLog2)
          iova = iova.alignedDown(to: byteCount)
        }
      case .table: kind = access == .read ? .read : .wrote
      }
    case .invalidate(let owner, let start, let count):
      (source, iova, byteCount) = (owner, start, count)
      kind = dialect == .qemu ? .invalidated : .unmapped
    case .invalidateUnknown, .invalidateSource, .invalidateAll: return nil
    }
    guard byteCount > 0 else { return nil }
    let (last, overflow) = iova.rawValue.addingReportingOverflow(byteCount - 1)
    let owner: Owner
    if let call {
      owner = call.owner
    } else if case .device(let function) = source {
      owner = .device(function)
    } else {
      owner = .unknown
    }
    let stamp = DMATraceStamp(of: line, dialect)
    self.init(
      kind, iova.rawValue...(overflow ? .max : last), of: owner,
      list: call?.kind == .mapList ? call?.list : nil, task: stamp?.task,
      time: stamp.flatMap { Self.time(of: $0, dialect) }, line: number)
  }

  /// `nil` where the time is of no clock that a log has.
  private static func time(of stamp: DMATraceStamp, _ dialect: DMATraceDialect) -> LogTime? {
    guard !stamp.isSinceTraceBegan, let microseconds = stamp.microseconds else { return nil }
    return LogTime(dialect == .qemu ? .epoch : .kernel, microseconds: microseconds)
  }

  /// The end of a list's mappings, which names no numbers.
  fileprivate init(unmapping call: DMATraceCall, of line: ArraySlice<UInt8>, line number: Int) {
    let stamp = DMATraceStamp(of: line, .ftrace)
    self.init(
      .unmapped, nil, of: call.owner, list: call.list, task: stamp?.task,
      time: stamp.flatMap { Self.time(of: $0, .ftrace) }, line: number)
  }
}

extension DMATraceCall {
  fileprivate var owner: MappingHistory.Event.Owner {
    device.map { .device($0) } ?? .other(deviceName)
  }

  fileprivate var list: MappingHistory.List {
    MappingHistory.List(physicalAddresses, isCut: isCut)
  }
}

/// A table of firmware in a file, or in a directory of ACPI tables.
struct FirmwareFile {
  let path: String

  /// The table as far as its bytes make sense.
  ///
  /// - Parameter warn: Is told what is missing.
  /// - Throws: ``InputError`` when there is none, or nothing of it can be read.
  func dmar(_ warn: (String) -> Void) throws -> VTd.DMAR.Reading {
    do {
      let reading = try VTd.DMAR.Reading(bytes(of: .dmar))
      if let damage = reading.damage { self.warn(damage, reading.unread, warn) }
      return reading
    } catch let error as VTd.DMAR.ParsingError {
      throw InputError("\(ByteStream.name(of: path)): \(error)")
    }
  }

  private func warn(
    _ damage: some CustomStringConvertible, _ unread: Range<Int>?, _ warn: (String) -> Void
  ) {
    let missing = unread.map { "bytes \($0.lowerBound) to \($0.upperBound - 1)" } ?? "the rest"
    warn(
      "\(ByteStream.name(of: path)): \(damage); \(missing) of the table could not be read, and what "
        + "firmware says there is not known")
  }

  /// The table as far as its bytes make sense.
  ///
  /// - Parameter warn: Is told what is missing.
  /// - Throws: ``InputError`` when there is none, or nothing of it can be read.
  func ivrs(_ warn: (String) -> Void) throws -> AMDVi.IVRS {
    do {
      let table = try AMDVi.IVRS(parsing: bytes(of: .ivrs))
      if let damage = table.damage.first { self.warn(damage, table.unread, warn) }
      return table
    } catch let error as ACPI.TableError {
      throw InputError("\(ByteStream.name(of: path)): \(error)")
    }
  }

  private func bytes(of kind: FirmwareTableKind) throws -> [UInt8] {
    try FirmwareTableFile.read(
      path, signature: kind.signature, atMost: FirmwareTableKind.byteCountLimit)
  }
}
