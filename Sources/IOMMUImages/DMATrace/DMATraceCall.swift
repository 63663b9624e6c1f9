import IOMMUFormats

/// What a line of Linux's DMA API says that no cache of translations sees: what the device is called, and
/// the memory of a list that is mapped or taken back.
///
/// `dma_unmap_sg` names no IOVA. It takes back what `dma_map_sg` has mapped of the same list, which both
/// have as `phys_addrs={…}`.
package struct DMATraceCall: Sendable, Equatable {
  package enum Kind: Sendable {
    /// `dma_sync_…`: memory is made the same for both sides; nothing is mapped.
    case sync
    case mapList, unmapList
    /// A call that says all with its IOVA.
    case other
  }

  package var kind: Kind
  /// As Linux has it: `0000:00:1f.2`, `1e784000.usb`.
  package var deviceName: String
  /// Its place on PCI, if it has one.
  package var device: PCI.Function?
  /// Where the memory of a list lies, piece by piece; `nil` where that cannot be read, and where the call
  /// is about no list.
  package var physicalAddresses: [UInt64]?
  /// The kernel has cut its lists: more was mapped than the line says.
  package var isCut: Bool

  /// - Complexity: O(bytes).
  /// - Returns: `nil` for what is no call of the DMA API, or has no device.
  package init?(of line: ArraySlice<UInt8>, _ dialect: DMATraceDialect) {
    guard dialect == .ftrace, let event = DMATraceLine(ofLinux: line), event.begins(with: "dma_"),
      let name = event.deviceName
    else { return nil }
    deviceName = String(decoding: name, as: UTF8.self)
    var scanner = LineScanner(name)
    device = scanner.device()
    if !scanner.isAtEnd { device = nil }
    if event.begins(with: "dma_sync_") {
      kind = .sync
    } else if event.isNamed("dma_map_sg") {
      kind = .mapList
    } else if event.isNamed("dma_unmap_sg") {
      kind = .unmapList
    } else {
      kind = .other
    }
    let isList = kind == .mapList || kind == .unmapList
    physicalAddresses = isList ? event.arguments.list(after: "phys_addrs=") : nil
    isCut = isList && event.arguments.contains("[TRUNCATED]")
  }
}
