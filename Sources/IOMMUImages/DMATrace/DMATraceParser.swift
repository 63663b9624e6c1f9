import IOMMUFormats

/// Reads traces of DMA line by line.
///
/// Keeps what earlier lines said of later ones: the dialect, and in QEMU's logs the domain of each
/// requester.
package struct DMATraceParser: Sendable {
  /// How the trace is written; found in the first line that tells, unless it was given.
  package private(set) var dialect: DMATraceDialect?
  private var domains: [PCI.Function: UInt16] = [:]

  package init(dialect: DMATraceDialect? = nil) { self.dialect = dialect }

  /// What one line says; nothing for comments and for events that no cache sees.
  ///
  /// - Throws: ``DMATraceError`` for a line that is none of the dialect's.
  package mutating func events(
    in line: ArraySlice<UInt8>
  ) throws(DMATraceError) -> [DMATraceEvent] {
    var start = LineScanner(line)
    start.skipBlanks()
    guard let first = start.peek, first != UInt8(ascii: "#") else { return [] }
    if dialect == nil { dialect = DMATraceDialect(of: line) }
    let events =
      switch dialect {
      case .table: try tableEvents(line)
      case .qemu: try qemuEvents(line)
      case .ftrace: try ftraceEvents(line)
      case nil: [DMATraceEvent]()
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

  private mutating func qemuEvents(
    _ line: ArraySlice<UInt8>
  ) throws(DMATraceError) -> [DMATraceEvent] {
    var scanner = LineScanner(line)
    if !scanner.hasPrefix("vtd_") {
      // "PID@SECONDS:event arguments"; other units' events are not ours.
      guard scanner.decimal() != nil, scanner.peek == UInt8(ascii: "@"), scanner.skip(past: ":")
      else { throw DMATraceError("no trace event; expected 'PID@TIME:vtd_...'") }
    }
    let name = scanner.word(until: " ")
    func named(_ text: String) -> Bool { name.elementsEqual(text.utf8) }
    let bad = DMATraceError("\(String(decoding: name, as: UTF8.self)) with other arguments")
    if named("vtd_dmar_translate") {
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
    if named("vtd_iotlb_page_update") {
      guard let requester = scanner.hexadecimal(after: "sid "), requester < 1 << 16,
        let domain = scanner.hexadecimal(after: "domain "), domain < 1 << 16
      else { throw bad }
      domains[PCI.Function(Requester(rawValue: UInt16(requester)))] = UInt16(domain)
    } else if named("vtd_iotlb_cc_update") {
      guard let bus = scanner.hexadecimal(after: "bus "), bus < 256,
        let function = scanner.hexadecimal(after: "devfn "), function < 256,
        let high = scanner.hexadecimal(after: "high ")
      else { throw bad }
      let domain = VTd.ContextEntry(low: 0, high: high).domainID
      domains[PCI.Function(Requester(rawValue: UInt16(bus << 8 | function)))] = domain
    } else if named("vtd_inv_desc_iotlb_pages") || named("vtd_inv_iotlb_pages") {
      guard let domain = scanner.hexadecimal(after: "domain "), domain < 1 << 16,
        let iova = scanner.hexadecimal(after: "addr "),
        let order = scanner.hexadecimal(after: "mask "), order < 52
      else { throw bad }
      let byteCount = UInt64(4096) << order
      return [
        .invalidate(
          source: .domain(UInt16(domain)), iova: IOVA(iova).alignedDown(to: byteCount),
          byteCount: byteCount)
      ]
    } else if named("vtd_inv_desc_iotlb_domain") {
      guard let domain = scanner.hexadecimal(after: "domain "), domain < 1 << 16 else { throw bad }
      return [.invalidateSource(.domain(UInt16(domain)))]
    } else if named("vtd_inv_desc_iotlb_global") || named("vtd_iotlb_reset") {
      return [.invalidateAll]
    }
    return []
  }

  // MARK: Linux

  private func ftraceEvents(
    _ line: ArraySlice<UInt8>
  ) throws(DMATraceError) -> [DMATraceEvent] {
    var scanner = LineScanner(line)
    // "TASK-PID [CPU] FLAGS SECONDS: event: arguments"; the task's name may hold anything.
    var isAtFlags = false
    while !isAtFlags, scanner.skip(past: "[") {
      isAtFlags = scanner.decimal() != nil && scanner.hasPrefix("] ")
    }
    guard isAtFlags, scanner.skip(past: ": ") else {
      throw DMATraceError("no trace event; expected 'TASK-PID [CPU] FLAGS TIME: event: ...'")
    }
    let name = scanner.word(until: ":")
    guard scanner.skip(past: ": ") else { throw DMATraceError("an event without arguments") }
    let event = String(decoding: name, as: UTF8.self)
    let bad = DMATraceError("\(event) with other arguments")
    if event == "map" || event == "unmap" {
      guard scanner.hasPrefix("IOMMU:") else { return [] }
      guard let iova = scanner.hexadecimal(after: "iova="),
        let byteCount = scanner.decimal(after: " size=")
      else { throw bad }
      guard byteCount > 0 else { return [] }
      if event == "unmap" {
        return [.invalidate(source: .all, iova: IOVA(iova), byteCount: byteCount)]
      }
      return [
        .request(
          source: .all, iova: IOVA(iova), byteCount: byteCount, access: .write, pageSizeLog2: nil)
      ]
    }
    return try dmaEvents(event, scanner, bad)
  }

  /// The DMA API: what is mapped is taken to be used once, what is unmapped to be invalidated.
  private func dmaEvents(
    _ event: String, _ arguments: LineScanner, _ bad: DMATraceError
  ) throws(DMATraceError) -> [DMATraceEvent] {
    let isRequest = [
      "dma_map_page", "dma_map_phys", "dma_map_resource", "dma_map_sg",
      "dma_alloc", "dma_alloc_pages", "dma_alloc_sgt", "dma_sync_single_for_device",
      "dma_sync_sg_for_device",
    ].contains(event)
    let isUnmap = [
      "dma_unmap_page", "dma_unmap_phys", "dma_unmap_resource", "dma_free",
      "dma_free_pages", "dma_free_sgt",
    ].contains(event)
    guard isRequest || isUnmap else { return [] }
    var scanner = arguments
    // A device that is not on PCI has another name; all of those share one.
    let source = scanner.device().map { DMATraceEvent.Source.device($0) } ?? .all
    let access: DMATraceEvent.Access = arguments.contains("dir=TO_DEVICE") ? .read : .write
    var pieces: [(iova: UInt64, byteCount: UInt64)] = []
    if let addresses = arguments.list(after: "dma_addrs="),
      let sizes = arguments.list(after: "sizes=")
    {
      guard addresses.count == sizes.count else { throw bad }
      pieces = Array(zip(addresses, sizes)).map { (iova: $0.0, byteCount: $0.1) }
    } else {
      guard let iova = arguments.hexadecimal(after: "dma_addr="),
        let byteCount = arguments.decimal(after: " size=")
      else { throw bad }
      pieces = [(iova: iova, byteCount: byteCount)]
    }
    return pieces.filter { $0.byteCount > 0 }.map { piece in
      isUnmap
        ? .invalidate(source: source, iova: IOVA(piece.iova), byteCount: piece.byteCount)
        : .request(
          source: source, iova: IOVA(piece.iova), byteCount: piece.byteCount, access: access,
          pageSizeLog2: nil)
    }
  }
}
