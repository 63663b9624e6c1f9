import IOMMUFormats

/// One thing that happened in a trace of DMA, as far as a cache of translations sees it.
package enum DMATraceEvent: Sendable, Hashable {
  /// A device reaches memory.
  ///
  /// - Parameters:
  ///   - source: Whose mappings these are: a domain where the trace tells it, else a device.
  ///   - pageSizeLog2: Of the page behind it, where the trace tells it: 12, 21 or 30.
  case request(source: Source, iova: IOVA, byteCount: UInt64, access: Access, pageSizeLog2: Int?)
  /// Software takes mappings back: cached translations of the range go.
  case invalidate(source: Source, iova: IOVA, byteCount: UInt64)
  /// All of a domain goes.
  case invalidateSource(Source)
  /// Everything goes.
  case invalidateAll

  /// What a device does.
  package enum Access: UInt8, Sendable { case read, write }

  /// Whose translations are told apart.
  package enum Source: Sendable, Hashable {
    case device(PCI.Function)
    case domain(UInt16)
    /// The trace does not tell.
    case all

    /// A number that no other source has.
    package var number: UInt64 {
      switch self {
      case .device(let device): UInt64(device.segment) << 16 | UInt64(device.requester.rawValue)
      case .domain(let domain): 1 << 48 | UInt64(domain)
      case .all: 2 << 48
      }
    }
  }
}

/// How a trace is written.
package enum DMATraceDialect: String, Sendable, CaseIterable {
  /// `requester,iova,bytes,r|w|u[,page size]`, with commas or tabs.
  case table
  /// QEMU's `vtd_*` trace events, as its log or `trace-events` writes them.
  case qemu
  /// Linux's `iommu:map`, `iommu:unmap` and `dma:*`, as `trace` and `trace_pipe` write them.
  case ftrace

  /// The dialect of a trace that has this line; `nil` for one that any may have.
  package init?(of line: ArraySlice<UInt8>) {
    var scanner = LineScanner(line)
    guard let first = scanner.peek, first != UInt8(ascii: "#") else { return nil }
    if scanner.skip(past: ":vtd_") || LineScanner(line).hasPrefix("vtd_") {
      self = .qemu
    } else if LineScanner(line).contains(": IOMMU: iova=") || LineScanner(line).contains(": dma_") {
      self = .ftrace
    } else {
      self = .table
    }
  }
}

/// Why a line of a trace means nothing: what was found and what was expected.
package struct DMATraceError: Error, Equatable, CustomStringConvertible {
  package var description: String
  package init(_ description: String) { self.description = description }
}
