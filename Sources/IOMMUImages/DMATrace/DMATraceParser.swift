import IOMMUFormats

/// Reads traces of DMA line by line.
///
/// Keeps what earlier lines said of later ones: the dialect, in QEMU's logs the domain of each
/// requester, and the names of devices that are not on PCI.
package struct DMATraceParser: Sendable {
  /// How the trace is written; found in the first line that tells, unless it was given.
  package private(set) var dialect: DMATraceDialect?
  /// What the lines had beside events.
  package var tally = DMATraceTally()
  private var domains: [PCI.Function: UInt16] = [:]
  /// Context entries of scalable mode hold no domain.
  private var usesScalableMode = false
  private var names: [ArraySlice<UInt8>: Int] = [:]
  private var lists = MappedLists()

  package init(dialect: DMATraceDialect? = nil) { self.dialect = dialect }

  /// Finds the dialect that most of the first lines are of, unless it was given: a log may have a line of
  /// another one before its own.
  ///
  /// - Parameter head: The trace's first bytes; a line that they cut is of no account.
  package mutating func findDialect(in head: ArraySlice<UInt8>) {
    guard dialect == nil else { return }
    var counts: [(dialect: DMATraceDialect, count: Int)] = []
    for line in head.split(separator: UInt8(ascii: "\n")) {
      var start = LineScanner(line)
      start.skipBlanks()
      guard start.peek != UInt8(ascii: "#"), let found = DMATraceDialect(of: line) else { continue }
      if let place = counts.firstIndex(where: { $0.dialect == found }) {
        counts[place].count += 1
      } else {
        counts.append((found, 1))
      }
    }
    // The first of those that are as many.
    let most = counts.map(\.count).max()
    dialect = counts.first { $0.count == most }?.dialect
  }

  /// What one line says; nothing for lines that are passed over, which the ``tally`` counts, for
  /// comments, and for events that later lines need.
  ///
  /// - Parameter isUnterminated: No newline stands behind the line: it may be cut.
  /// - Throws: ``DMATraceError`` for a line that looks like an event of the dialect and is not
  ///   understood.
  package mutating func events(
    in line: ArraySlice<UInt8>, isUnterminated: Bool = false
  ) throws(DMATraceError) -> [DMATraceEvent] {
    var start = LineScanner(line)
    start.skipBlanks()
    guard let first = start.peek else { return [] }
    if first == UInt8(ascii: "#") {
      noteOverwritten(start)
      return []
    }
    // What stands before a hole and behind it may be of two lines.
    guard line.span.firstIndex(of: 0, from: 0) == nil else {
      tally.holes += 1
      return []
    }
    if dialect == nil { dialect = DMATraceDialect(of: line) }
    switch dialect {
    case .table: return try tableEvents(line)
    case .qemu: return try qemuEvents(line, isOpen: isUnterminated)
    case .ftrace, nil: return try linuxEvents(line, isOpen: isUnterminated)
    }
  }

  /// Bytes of one request at most; each of its pages is looked up.
  static let largestRequest: UInt64 = 64 << 30

  /// Counts a line that is no event of the dialect.
  private mutating func passOver(_ line: ArraySlice<UInt8>, isOpen: Bool) {
    let isOther =
      switch dialect {
      case .qemu: DMATraceLine(ofLinux: line) != nil
      case .ftrace: LineScanner(line).contains("vtd_") && DMATraceLine(ofQEMU: line) != nil
      case .table, nil: false
      }
    if isOther {
      tally.otherEvents += 1
    } else if isOpen, dialect == .qemu || dialect == .ftrace, !DMATraceLine.isOtherEvent(line) {
      tally.cutLines += 1
    } else {
      tally.passedOver += 1
    }
  }

  private static func misread(_ event: DMATraceLine, isOpen: Bool) -> DMATraceError {
    DMATraceError(
      "\(event.nameText.visible) "
        + (isOpen ? "in a last line that is cut off" : "with other arguments"))
  }

  // MARK: Our own

  private func tableEvents(
    _ line: ArraySlice<UInt8>
  ) throws(DMATraceError) -> [DMATraceEvent] {
    var scanner = LineScanner(line)
    // The line that names the columns.
    if scanner.hasPrefix("requester") || scanner.hasPrefix("\"requester") { return [] }
    var columns: [ArraySlice<UInt8>] = []
    while columns.count < 6 {
      columns.append(Self.unquoted(scanner.word(until: ",\t\r")))
      guard let byte = scanner.peek, byte != 13 else { break }
      _ = scanner.skip(past: byte == 9 ? "\t" : ",")
    }
    guard 4...5 ~= columns.count else {
      throw DMATraceError(
        "\(columns.count) columns; expected 'requester,iova,bytes,r|w|u' and perhaps a page size")
    }
    let device: PCI.Function
    let iova: UInt64
    let byteCount: UInt64
    do {
      device = try Notation.device(utf8: columns[0])
      iova = try Notation.address(utf8: columns[1])
      byteCount = try Notation.size(utf8: columns[2])
    } catch {
      throw DMATraceError(error.description)
    }
    guard byteCount > 0 else { throw DMATraceError("a request has at least one byte") }
    guard byteCount <= Self.largestRequest || columns[3].elementsEqual("u".utf8) else {
      throw DMATraceError(
        "a request of \(byteCount) bytes; no device moves more than 64 GiB at once")
    }
    let source = DMATraceEvent.Source.device(device)
    if columns[3].elementsEqual("u".utf8) {
      return [.invalidate(source: source, iova: IOVA(iova), byteCount: byteCount)]
    }
    guard columns[3].elementsEqual("r".utf8) || columns[3].elementsEqual("w".utf8) else {
      throw DMATraceError("the access is r, w, or u for an unmap")
    }
    let sizes = ["4k": 12, "2m": 21, "1g": 30]
    var size: Int?
    if columns.count == 5 {
      size = sizes[String(decoding: columns[4], as: UTF8.self).lowercased()]
      guard size != nil else { throw DMATraceError("a page size is 4k, 2m or 1g") }
    }
    return [
      .request(
        source: source, iova: IOVA(iova), byteCount: byteCount,
        access: columns[3].elementsEqual("r".utf8) ? .read : .write, pageSizeLog2: size)
    ]
  }

  /// A column without the marks that spreadsheets put around text.
  private static func unquoted(_ column: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    let mark = UInt8(ascii: "\"")
    guard column.count > 1, column.first == mark, column.last == mark else { return column }
    return column.dropFirst().dropLast()
  }

  // MARK: QEMU

  private func source(_ device: PCI.Function) -> DMATraceEvent.Source {
    domains[device].map { .domain($0) } ?? .device(device)
  }

  /// By QEMU's masks, the page's size less one.
  private static let pageSizes: [UInt64: Int] = [0xfff: 12, 0x1f_ffff: 21, 0x3fff_ffff: 30]

  /// Events of QEMU's IOTLB that say of a page or a requester which domain it has.
  private static let placing: [StaticString] = ["vtd_iotlb_page_update", "vtd_iotlb_page_hit"]

  private mutating func qemuEvents(
    _ line: ArraySlice<UInt8>, isOpen: Bool
  ) throws(DMATraceError) -> [DMATraceEvent] {
    guard let event = DMATraceLine(ofQEMU: line, isOpen: isOpen) else {
      passOver(line, isOpen: isOpen)
      return []
    }
    var scanner = event.arguments
    if isOpen, scanner.isAtEnd, line.last.map(DMATraceLine.isInName) == true {
      tally.cutLines += 1
      return []
    }
    let bad = Self.misread(event, isOpen: isOpen)
    func domain() throws(DMATraceError) -> UInt16 {
      guard let number = event.arguments.hexadecimal(after: "domain "), number < 1 << 16 else {
        throw bad
      }
      return UInt16(number)
    }
    if event.isNamed("vtd_dmar_translate") {
      guard scanner.skip(past: "dev "), let device = scanner.device(),
        let iova = scanner.hexadecimal(after: "iova "),
        // No mask is the beginning of another, so it may be a line's last word.
        let mask = LineScanner(scanner.rest).hexadecimal(after: "mask "),
        let pageSizeLog2 = Self.pageSizes[mask]
      else { throw bad }
      // QEMU logs the address cut to the page.
      return [
        .request(
          source: source(device), iova: IOVA(iova), byteCount: 1, access: .read,
          pageSizeLog2: pageSizeLog2)
      ]
    }
    if Self.placing.contains(where: event.isNamed) {
      guard let requester = scanner.hexadecimal(after: "sid "), requester < 1 << 16 else {
        throw bad
      }
      domains[PCI.Function(Requester(rawValue: UInt16(requester)))] = try domain()
    } else if event.isNamed("vtd_iotlb_cc_update") {
      guard let bus = scanner.hexadecimal(after: "bus "), bus < 256,
        let function = scanner.hexadecimal(after: "devfn "), function < 256,
        let high = scanner.hexadecimal(after: "high ")
      else { throw bad }
      guard !usesScalableMode else { return [] }
      let domain = VTd.ContextEntry(low: 0, high: high).domainID
      domains[PCI.Function(Requester(rawValue: UInt16(bus << 8 | function)))] = domain
    } else if event.isNamed("vtd_reg_dmar_root") {
      usesScalableMode = scanner.decimal(after: "scalable ") == 1
    } else if event.isNamed("vtd_inv_desc_iotlb_pages") || event.isNamed("vtd_inv_iotlb_pages")
      || event.isNamed("vtd_inv_desc_iotlb_pasid_pages")
    {
      // No request says its PASID: what goes for one goes for the whole domain.
      guard let iova = scanner.hexadecimal(after: "addr "),
        let order = scanner.hexadecimal(after: "mask "), order < 52
      else { throw bad }
      let byteCount = UInt64(4096) << order
      return [
        .invalidate(
          source: .domain(try domain()), iova: IOVA(iova).alignedDown(to: byteCount),
          byteCount: byteCount)
      ]
    } else if event.isNamed("vtd_inv_desc_iotlb_domain")
      || event.isNamed("vtd_inv_desc_iotlb_pasid")
    {
      return [.invalidateSource(.domain(try domain()))]
    } else if event.isNamed("vtd_inv_desc_iotlb_global") || event.isNamed("vtd_iotlb_reset") {
      return [.invalidateAll]
    } else if event.begins(with: "vtd_inv_desc_iotlb") || event.begins(with: "vtd_inv_iotlb") {
      throw DMATraceError("\(event.nameText.visible), an invalidation of a kind that is not known")
    } else {
      tally.passedOver += 1
    }
    return []
  }

  // MARK: Linux

  /// `# entries-in-buffer/entries-written: 205/1000`: what is not in the buffer was overwritten.
  private mutating func noteOverwritten(_ comment: LineScanner) {
    var scanner = comment
    guard scanner.skip(past: "entries-in-buffer/entries-written: "), let kept = scanner.decimal(),
      scanner.peek == UInt8(ascii: "/"), scanner.skip(past: "/"), let written = scanner.decimal(),
      written > kept
    else { return }
    noteLoss(written - kept)
  }

  private mutating func noteLoss(_ count: UInt64?) {
    var loss = DMATraceTally()
    loss.lossNotices = 1
    loss.uncountedLosses = count == nil ? 1 : 0
    loss.lostEvents = Int(clamping: count ?? 0)
    tally = tally + loss
  }

  /// Whether a line is one that the kernel or a tracer writes between events: of events that were lost,
  /// which are counted, or a heading.
  private mutating func isNotice(_ line: LineScanner) -> Bool {
    var scanner = line
    if scanner.skip(past: "CPU:"), scanner.decimal() != nil, scanner.hasPrefix(" [") {
      // "CPU:1 [LOST 12 EVENTS]", "CPU:1 [LOST EVENTS]" of the kernel, in its log too; of trace-cmd
      // "CPU:1 [12 EVENTS DROPPED]", "CPU:1 [EVENTS DROPPED]".
      _ = scanner.skip(past: "[")
      if scanner.hasPrefix("LOST ") {
        noteLoss(scanner.decimal(after: "LOST "))
        return true
      }
      let count = scanner.decimal()
      scanner.skipBlanks()
      if scanner.hasPrefix("EVENTS DROPPED]") {
        noteLoss(count)
        return true
      }
    }
    // An event that is longer than the kernel's page.
    if line.hasPrefix("[LINE TOO BIG]") {
      noteLoss(1)
      return true
    }
    scanner = line
    // perf's, behind its columns.
    if scanner.skip(past: "PERF_RECORD_LOST") {
      let count = scanner.decimal(after: " lost ")
      noteLoss(count ?? scanner.decimal(after: " lost="))
      return true
    }
    return line.hasPrefix("version = ") || line.hasPrefix("cpus=")
      || line.hasPrefix("CPU ") && line.contains(" is empty")
  }

  private mutating func linuxEvents(
    _ line: ArraySlice<UInt8>, isOpen: Bool
  ) throws(DMATraceError) -> [DMATraceEvent] {
    guard let event = DMATraceLine(ofLinux: line, isOpen: isOpen) else {
      if isNotice(LineScanner(line)) { return [] }
      if let error = DMATraceLine.unreadForm(line) { throw error }
      passOver(line, isOpen: isOpen)
      return []
    }
    if event.arguments.contains("[FAILED TO PARSE]") {
      throw DMATraceError(
        "\(event.nameText.visible) whose arguments the tracer could not print; record on a newer one"
      )
    }
    do throws(Refusal) {
      return event.begins(with: "dma_") ? try dmaEvents(event) : try iommuEvents(event)
    } catch {
      switch error {
      case .otherArguments: throw Self.misread(event, isOpen: isOpen)
      case .unknownEvent:
        throw DMATraceError("\(event.nameText.visible), an event that is not known")
      case .listOfFields:
        throw DMATraceError(
          "\(event.nameText.visible) with its lists as fields; print it without raw fields")
      }
    }
  }

  private enum Refusal: Error { case otherArguments, unknownEvent, listOfFields }

  /// The IOMMU core's: mappings without the device that they are for.
  private static let iommuAsides: [StaticString] = [
    "io_page_fault", "add_device_to_group", "remove_device_from_group", "attach_device_to_domain",
    "detach_device_from_domain",
  ]

  private mutating func iommuEvents(
    _ event: DMATraceLine
  ) throws(Refusal) -> [DMATraceEvent] {
    let isMap = event.isNamed("map")
    guard isMap || event.isNamed("unmap") else {
      guard Self.iommuAsides.contains(where: event.isNamed) else { throw .unknownEvent }
      tally.passedOver += 1
      return []
    }
    let arguments = event.arguments
    guard let iova = arguments.number(after: "iova=") else { throw .otherArguments }
    // The end says the size as well: a size that the line's end has shortened is another.
    let end = arguments.hexadecimal(after: " - ")
    let byteCount: UInt64
    if let whole = arguments.number(after: " size=") {
      guard end == nil || end == iova &+ whole else { throw .otherArguments }
      byteCount = whole
    } else {
      // Without a newline behind it.
      guard let end, let last = LineScanner(arguments.rest).number(after: " size="),
        end == iova &+ last
      else { throw .otherArguments }
      byteCount = last
    }
    if isMap {
      guard byteCount > 0 else { return [] }
      return [
        .request(
          source: .all, iova: IOVA(iova), byteCount: byteCount, access: .write, pageSizeLog2: nil)
      ]
    }
    // Kernels before 4.0 print an address there.
    let unmapped = LineScanner(arguments.rest).number(after: " unmapped_size=")
    guard unmapped != nil || arguments.contains(" paddr=") else { throw .otherArguments }
    // Where nothing was unmapped, nothing is flushed.
    guard byteCount > 0, unmapped != 0 else { return [] }
    return [.invalidate(source: .all, iova: IOVA(iova), byteCount: byteCount)]
  }

  // Names until Linux 6.17, and those that 6.18 has instead of "page" and "resource".
  private static let allocations: [StaticString] = [
    "dma_alloc", "dma_alloc_pages", "dma_alloc_sgt",
  ]
  private static let mappings: [StaticString] = [
    "dma_map_page", "dma_map_phys", "dma_map_resource", "dma_map_sg",
    "dma_sync_single_for_device", "dma_sync_sg_for_device",
  ]
  private static let unmappings: [StaticString] = [
    "dma_unmap_page", "dma_unmap_phys", "dma_unmap_resource", "dma_unmap_sg", "dma_free",
    "dma_free_pages", "dma_free_sgt",
  ]
  private static let failures: [StaticString] = ["dma_map_sg_err", "dma_alloc_sgt_err"]
  /// Without DMA.
  private static let dmaAsides: [StaticString] = ["dma_sync_single_for_cpu", "dma_sync_sg_for_cpu"]
  /// What Linux calls an address that could not be mapped: DMA_MAPPING_ERROR.
  private static let mappingError = UInt64.max

  /// The DMA API: what is mapped is taken to be used once, what is unmapped to be invalidated.
  private mutating func dmaEvents(
    _ event: DMATraceLine
  ) throws(Refusal) -> [DMATraceEvent] {
    let isAllocation = Self.allocations.contains(where: event.isNamed)
    let isRequest = isAllocation || Self.mappings.contains(where: event.isNamed)
    guard isRequest || Self.unmappings.contains(where: event.isNamed) else {
      if Self.failures.contains(where: event.isNamed) {
        tally.failedMappings += 1
      } else if Self.dmaAsides.contains(where: event.isNamed) {
        tally.passedOver += 1
      } else {
        throw .unknownEvent
      }
      return []
    }
    let arguments = event.arguments
    guard let owner = event.deviceName else { throw .otherArguments }
    if event.hasFields {
      return try dmaEvents(event, of: owner, isRequest: isRequest, isAllocation: isAllocation)
    }
    let source = source(named: owner)
    if event.isNamed("dma_unmap_sg") {
      guard let memory = arguments.list(after: " phys_addrs=") else { throw .otherArguments }
      return unmapped(memory, of: source)
    }
    var pieces: [DMATracePiece] = []
    if event.isNamed("dma_map_sg") || event.isNamed("dma_sync_sg_for_device") {
      guard let addresses = arguments.list(after: " dma_addrs="),
        let sizes = arguments.list(after: " sizes="), addresses.count == sizes.count
      else { throw .otherArguments }
      pieces = zip(addresses, sizes).map { DMATracePiece(iova: $0, byteCount: $1) }
      if event.isNamed("dma_map_sg") {
        guard let memory = arguments.list(after: " phys_addrs=") else { throw .otherArguments }
        lists.map(memory, of: source, to: pieces)
      }
      if arguments.contains("[TRUNCATED]") { tally.cutLists += 1 }
    } else {
      // Behind the size follow what memory it is and with which attributes, but in the last two.
      let byteCount =
        event.begins(with: "dma_sync_")
        ? arguments.number(after: " size=") : arguments.number(after: " size=", before: "=")
      guard let iova = arguments.hexadecimal(after: " dma_addr="), let byteCount else {
        throw .otherArguments
      }
      pieces = [DMATracePiece(iova: iova, byteCount: byteCount)]
    }
    let hasNoMemory = isAllocation && arguments.hasNullPointer(after: "virt_addr=")
    let access: DMATraceEvent.Access = arguments.contains("dir=TO_DEVICE") ? .read : .write
    return events(
      of: pieces, source, isRequest ? access : nil, hasNoMemory: hasNoMemory)
  }

  /// The same with its fields printed one by one, by the kernel's option `fields` or `trace-cmd report -R`:
  /// numbers are decimal but behind 0x.
  private mutating func dmaEvents(
    _ event: DMATraceLine, of owner: ArraySlice<UInt8>, isRequest: Bool, isAllocation: Bool
  ) throws(Refusal) -> [DMATraceEvent] {
    let arguments = event.arguments
    guard !event.begins(with: "dma_map_sg"), !event.begins(with: "dma_unmap_sg"),
      !event.begins(with: "dma_sync_sg")
    else { throw .listOfFields }
    // An unmapping calls it "addr".
    guard let iova = arguments.number(after: " dma_addr=") ?? arguments.number(after: " addr="),
      let byteCount = arguments.number(after: " size=", before: "="),
      let direction = LineScanner(arguments.rest).number(after: " dir=")
    else { throw .otherArguments }
    return events(
      of: [DMATracePiece(iova: iova, byteCount: byteCount)], source(named: owner),
      isRequest ? direction == 1 ? .read : .write : nil,
      hasNoMemory: isAllocation && arguments.hasNullPointer(after: "virt_addr="))
  }

  /// - Parameter access: What is taken to be done once; `nil` for what is unmapped.
  private mutating func events(
    of pieces: [DMATracePiece], _ source: DMATraceEvent.Source, _ access: DMATraceEvent.Access?,
    hasNoMemory: Bool
  ) -> [DMATraceEvent] {
    if hasNoMemory || pieces.contains(where: { $0.iova == Self.mappingError }) {
      tally.failedMappings += access == nil ? 0 : 1
      return []
    }
    return pieces.filter { $0.byteCount > 0 }.map { piece in
      access.map {
        .request(
          source: source, iova: IOVA(piece.iova), byteCount: piece.byteCount, access: $0,
          pageSizeLog2: nil)
      } ?? .invalidate(source: source, iova: IOVA(piece.iova), byteCount: piece.byteCount)
    }
  }

  /// A list is unmapped by its memory: the addresses are those of the mapping before.
  private mutating func unmapped(
    _ memory: [UInt64], of source: DMATraceEvent.Source
  ) -> [DMATraceEvent] {
    guard let pieces = lists.unmap(memory, of: source) else {
      tally.unmatchedUnmaps += 1
      return [.invalidateUnknown(source: source, physicalAddresses: memory)]
    }
    return events(of: pieces, source, nil, hasNoMemory: false)
  }

  /// A device by its name in Linux: its place on PCI, or whatever its bus calls it.
  private mutating func source(named name: ArraySlice<UInt8>) -> DMATraceEvent.Source {
    var scanner = LineScanner(name)
    if let function = scanner.device(), scanner.isAtEnd { return .device(function) }
    if let index = names[name] { return .other(index) }
    // A copy of the name alone: the slice would keep what it was cut from.
    names[Array(name)[...]] = names.count
    return .other(names.count - 1)
  }
}

extension LineScanner {
  /// Whether `key` is followed by a pointer to nothing, as the kernel, trace-cmd or perf prints one.
  fileprivate func hasNullPointer(after key: StaticString) -> Bool {
    var copy = self
    guard copy.skip(past: key) else { return false }
    return copy.hasPrefix("(null)") || copy.hasPrefix("(nil)") || copy.hexadecimal() == 0
  }
}
