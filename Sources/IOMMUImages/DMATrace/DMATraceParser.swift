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

  package init(dialect: DMATraceDialect? = nil) { self.dialect = dialect }

  /// What one line says; nothing for lines that are passed over, which the ``tally`` counts, for
  /// comments, and for events that later lines need.
  ///
  /// - Throws: ``DMATraceError`` for a line that looks like an event of the dialect and is not
  ///   understood.
  package mutating func events(
    in line: ArraySlice<UInt8>
  ) throws(DMATraceError) -> [DMATraceEvent] {
    var start = LineScanner(line)
    start.skipBlanks()
    guard let first = start.peek else { return [] }
    if first == UInt8(ascii: "#") {
      noteOverwritten(start)
      return []
    }
    if dialect == nil { dialect = DMATraceDialect(of: line) }
    let events: [DMATraceEvent]
    switch dialect {
    case .table: events = try tableEvents(line)
    case .qemu: events = try qemuEvents(line)
    case .ftrace, nil: events = try linuxEvents(line)
    }
    for case .request(_, _, let byteCount, _, _) in events where byteCount > Self.largestRequest {
      throw DMATraceError(
        "a request of \(byteCount) bytes; no device moves more than 64 GiB at once")
    }
    return events
  }

  /// Bytes of one request at most; each of its pages is looked up.
  static let largestRequest: UInt64 = 64 << 30

  // MARK: Our own

  private func tableEvents(
    _ line: ArraySlice<UInt8>
  ) throws(DMATraceError) -> [DMATraceEvent] {
    var scanner = LineScanner(line)
    // The line that names the columns.
    if scanner.hasPrefix("requester") { return [] }
    var columns: [ArraySlice<UInt8>] = []
    while columns.count < 6 {
      columns.append(scanner.word(until: ",\t\r"))
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

  // MARK: QEMU

  private func source(_ device: PCI.Function) -> DMATraceEvent.Source {
    domains[device].map { .domain($0) } ?? .device(device)
  }

  /// Events of QEMU's IOTLB that say of a page or a requester which domain it has.
  private static let placing: [StaticString] = ["vtd_iotlb_page_update", "vtd_iotlb_page_hit"]

  private mutating func qemuEvents(
    _ line: ArraySlice<UInt8>
  ) throws(DMATraceError) -> [DMATraceEvent] {
    guard let event = DMATraceLine(ofQEMU: line) else {
      tally.passedOver += 1
      return []
    }
    var scanner = event.arguments
    let bad = DMATraceError("\(event.nameText.visible) with other arguments")
    func domain() throws(DMATraceError) -> UInt16 {
      guard let number = event.arguments.hexadecimal(after: "domain "), number < 1 << 16 else {
        throw bad
      }
      return UInt16(number)
    }
    if event.isNamed("vtd_dmar_translate") {
      guard scanner.skip(past: "dev "), let device = scanner.device(),
        let iova = scanner.hexadecimal(after: "iova "),
        let mask = scanner.hexadecimal(after: "mask ")
      else { throw bad }
      // The mask is the page's size less one. QEMU logs the address cut to the page.
      let size = mask &+ 1
      guard size & mask == 0, 12...30 ~= size.trailingZeroBitCount else { throw bad }
      return [
        .request(
          source: source(device), iova: IOVA(iova), byteCount: 1, access: .read,
          pageSizeLog2: size.trailingZeroBitCount)
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
    loss.lostEvents = Int(clamping: count ?? 0)
    tally = tally + loss
  }

  /// Whether a line is one that the kernel or a tracer writes between events: of events that were lost,
  /// which are counted, or a heading.
  private mutating func isNotice(_ line: LineScanner) -> Bool {
    var scanner = line
    if line.hasPrefix("CPU:"), scanner.skip(past: "[") {
      // "CPU:1 [LOST 12 EVENTS]", "CPU:1 [LOST EVENTS]" of the kernel; of trace-cmd
      // "CPU:1 [12 EVENTS DROPPED]", "CPU:1 [EVENTS DROPPED]".
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
      return false
    }
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
    _ line: ArraySlice<UInt8>
  ) throws(DMATraceError) -> [DMATraceEvent] {
    guard let event = DMATraceLine(ofLinux: line) else {
      if !isNotice(LineScanner(line)) { tally.passedOver += 1 }
      return []
    }
    if event.arguments.contains("[FAILED TO PARSE]") {
      throw DMATraceError(
        "\(event.nameText.visible) whose arguments the tracer could not print; record on a newer one"
      )
    }
    return event.begins(with: "dma_") ? try dmaEvents(event) : try iommuEvents(event)
  }

  /// The IOMMU core's: mappings without the device that they are for.
  private static let iommuAsides: [StaticString] = [
    "io_page_fault", "add_device_to_group", "remove_device_from_group", "attach_device_to_domain",
    "detach_device_from_domain",
  ]

  private mutating func iommuEvents(
    _ event: DMATraceLine
  ) throws(DMATraceError) -> [DMATraceEvent] {
    let isMap = event.isNamed("map")
    guard isMap || event.isNamed("unmap") else {
      guard Self.iommuAsides.contains(where: event.isNamed) else { throw Self.unknown(event) }
      tally.passedOver += 1
      return []
    }
    guard let iova = event.arguments.hexadecimal(after: "iova="),
      let byteCount = event.arguments.number(after: " size=")
    else { throw Self.otherArguments(event) }
    if isMap {
      guard byteCount > 0 else { return [] }
      return [
        .request(
          source: .all, iova: IOVA(iova), byteCount: byteCount, access: .write, pageSizeLog2: nil)
      ]
    }
    // Where nothing was unmapped, nothing is flushed.
    guard byteCount > 0, event.arguments.number(after: " unmapped_size=") != 0 else { return [] }
    return [.invalidate(source: .all, iova: IOVA(iova), byteCount: byteCount)]
  }

  private static func unknown(_ event: DMATraceLine) -> DMATraceError {
    DMATraceError("\(event.nameText.visible), an event that is not known")
  }

  private static func otherArguments(_ event: DMATraceLine) -> DMATraceError {
    DMATraceError("\(event.nameText.visible) with other arguments")
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
    "dma_unmap_page", "dma_unmap_phys", "dma_unmap_resource", "dma_free", "dma_free_pages",
    "dma_free_sgt",
  ]
  private static let failures: [StaticString] = ["dma_map_sg_err", "dma_alloc_sgt_err"]
  /// Without an IOVA, or without DMA.
  private static let dmaAsides: [StaticString] = [
    "dma_unmap_sg", "dma_sync_single_for_cpu", "dma_sync_sg_for_cpu",
  ]
  /// What Linux calls an address that could not be mapped: DMA_MAPPING_ERROR.
  private static let mappingError = UInt64.max

  /// The DMA API: what is mapped is taken to be used once, what is unmapped to be invalidated.
  private mutating func dmaEvents(
    _ event: DMATraceLine
  ) throws(DMATraceError) -> [DMATraceEvent] {
    let isAllocation = Self.allocations.contains(where: event.isNamed)
    let isRequest = isAllocation || Self.mappings.contains(where: event.isNamed)
    guard isRequest || Self.unmappings.contains(where: event.isNamed) else {
      if Self.failures.contains(where: event.isNamed) {
        tally.failedMappings += 1
      } else if Self.dmaAsides.contains(where: event.isNamed) {
        tally.passedOver += 1
      } else {
        throw Self.unknown(event)
      }
      return []
    }
    let arguments = event.arguments
    guard let owner = arguments.textBeforeKeys() else { throw Self.otherArguments(event) }
    var pieces: [(iova: UInt64, byteCount: UInt64)] = []
    if let addresses = arguments.list(after: "dma_addrs="),
      let sizes = arguments.list(after: "sizes=")
    {
      guard addresses.count == sizes.count else { throw Self.otherArguments(event) }
      pieces = Array(zip(addresses, sizes)).map { (iova: $0.0, byteCount: $0.1) }
      if arguments.contains("[TRUNCATED]") { tally.cutLists += 1 }
    } else {
      guard let iova = arguments.hexadecimal(after: "dma_addr="),
        let byteCount = arguments.number(after: " size=")
      else { throw Self.otherArguments(event) }
      pieces = [(iova: iova, byteCount: byteCount)]
    }
    if pieces.contains(where: { $0.iova == Self.mappingError })
      || isAllocation && arguments.hasNullPointer(after: "virt_addr=")
    {
      tally.failedMappings += isRequest ? 1 : 0
      return []
    }
    let access: DMATraceEvent.Access = arguments.contains("dir=TO_DEVICE") ? .read : .write
    let source = source(named: owner)
    return pieces.filter { $0.byteCount > 0 }.map { piece in
      isRequest
        ? .request(
          source: source, iova: IOVA(piece.iova), byteCount: piece.byteCount, access: access,
          pageSizeLog2: nil)
        : .invalidate(source: source, iova: IOVA(piece.iova), byteCount: piece.byteCount)
    }
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
