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
  /// Software takes mappings back, and the trace says only what memory is behind them: a list that it does
  /// not have the mapping of.
  case invalidateUnknown(source: Source, physicalAddresses: [UInt64])
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
    /// A device that is not on PCI; they are counted from 0 as they come.
    case other(Int)
    /// The trace does not tell.
    case all

    /// A number that no other source has.
    package var number: UInt64 {
      switch self {
      case .device(let device): UInt64(device.segment) << 16 | UInt64(device.requester.rawValue)
      case .domain(let domain): 1 << 48 | UInt64(domain)
      case .all: 2 << 48
      case .other(let index): 3 << 48 | UInt64(index)
      }
    }
  }
}

/// How a trace is written.
package enum DMATraceDialect: String, Sendable, CaseIterable {
  /// `requester,iova,bytes,r|w|u[,page size]`, with commas or tabs.
  case table
  /// QEMU's `vtd_*` trace events, in its log or in the output of a tracer.
  case qemu
  /// Linux's `iommu:*` and `dma:*`, as the files `trace` and `trace_pipe`, `trace-cmd report` and
  /// `perf script` write them.
  case ftrace

  /// The dialect of a trace that has this line; `nil` for one that any may have.
  package init?(of line: ArraySlice<UInt8>) {
    if DMATraceLine(ofQEMU: line) != nil {
      self = .qemu
    } else if DMATraceLine(ofLinux: line) != nil {
      self = .ftrace
    } else if Self.isRow(line) {
      self = .table
    } else {
      return nil
    }
  }

  /// Three columns or more, without blanks inside of them, of which the first may name a device.
  private static func isRow(_ line: ArraySlice<UInt8>) -> Bool {
    var separators = 0
    var hasText = false
    var isBehindText = false
    for byte in line {
      switch byte {
      case UInt8(ascii: ","), 9:
        separators += 1
        (hasText, isBehindText) = (false, false)
      case UInt8(ascii: " "), 13: isBehindText = hasText
      // Spreadsheets put marks around text.
      case UInt8(ascii: "\""): break
      default:
        let mayBeDevice = "-.:_".utf8.contains(byte) || isLetterOrDigit(byte)
        guard !isBehindText, separators > 0 || mayBeDevice else { return false }
        hasText = true
      }
    }
    return separators >= 2
  }
}

private func isLetterOrDigit(_ byte: UInt8) -> Bool {
  switch byte {
  case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
    UInt8(ascii: "A")...UInt8(ascii: "Z"):
    true
  default: false
  }
}

/// What a trace has beside its events, by lines.
package struct DMATraceTally: Sendable, Hashable, Codable {
  /// Lines that are no events, and events that no cache sees.
  package var passedOver = 0
  /// Mappings that the kernel could not make; nothing was mapped.
  package var failedMappings = 0
  /// Events that the kernel or the tracer says were lost, where it says how many.
  package var lostEvents = 0
  /// Notices that events were lost, with their number or without.
  package var lossNotices = 0
  /// Those of them that do not say how many.
  package var uncountedLosses = 0
  /// Lists of pages that the kernel cut: what lies behind the cut is not in the trace.
  package var cutLists = 0
  /// Lists of pages that were unmapped, and of which the trace does not have the mapping.
  package var unmatchedUnmaps = 0
  /// Last lines that end before it is clear what they are.
  package var cutLines = 0
  /// Lines with zeros in them: a file has zeros where nobody wrote.
  package var holes = 0
  /// Events of another dialect than the one that is read.
  package var otherEvents = 0

  package init() {}

  package static func + (left: Self, right: Self) -> Self {
    var sum = left
    sum.passedOver += right.passedOver
    sum.failedMappings += right.failedMappings
    // A trace may claim that any number was lost.
    sum.lostEvents =
      right.lostEvents.addingReportingOverflow(left.lostEvents).overflow
      ? .max : left.lostEvents + right.lostEvents
    sum.lossNotices += right.lossNotices
    sum.uncountedLosses += right.uncountedLosses
    sum.cutLists += right.cutLists
    sum.unmatchedUnmaps += right.unmatchedUnmaps
    sum.cutLines += right.cutLines
    sum.holes += right.holes
    sum.otherEvents += right.otherEvents
    return sum
  }
}

/// Why a line of a trace means nothing: what was found and what was expected.
package struct DMATraceError: Error, Equatable, CustomStringConvertible {
  package var description: String
  package init(_ description: String) { self.description = description }
}
