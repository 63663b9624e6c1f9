import IOMMUFormats
import IOMMUImages

/// One line of a trace: what a kernel's IOMMU driver did, in the order it did it.
///
/// A trace is JSON lines, an object per line with a running number `seq` and a kind `ev`.
struct TraceEvent: Sendable, Equatable {
  /// `seq`: one more than that of the event before.
  var sequence: UInt64
  /// The event's line in its file, from 1.
  var line: Int
  var action: Action

  enum Action: Sendable, Equatable {
    /// A mark between parts of the trace.
    case phase(String)
    /// `mmio`: a memory-mapped register was read or written.
    case register(RegisterAccess)
    /// `pci`: a register in configuration space was read or written.
    case configuration(ConfigurationAccess)
    /// `mem`: the driver stored table entries.
    case memory(MemoryStore)
    /// A call of the DMA API begins.
    case call(TraceCall)
    /// The call that was open ends.
    case ret(TraceReturn)
    /// `wbinvd`: the processor wrote all its caches back.
    case cacheFlush
    /// `bootmem_low`: the kernel took memory for a table, of that many bytes.
    case tableAllocation(PhysicalAddress, byteCount: UInt64)
    /// Housekeeping of the kernel that no IOMMU sees; the text is its kind, such as `ioremap`.
    case housekeeping(String)
  }
}

/// A read or write of a memory-mapped register, with its value in three notations.
struct RegisterAccess: Sendable, Equatable {
  var isWrite: Bool
  /// Bytes: 1, 2, 4 or 8.
  var byteCount: Int
  /// The number of the chip in the trace, from 0.
  var chip: Int
  /// The physical base of the chip's registers.
  var base: PhysicalAddress
  var offset: UInt64
  /// The register's name in the trace, for messages.
  var name: String
  /// What the processor's load returned or its store got.
  var processorValue: UInt64
  /// `bus_bytes`: the bytes in increasing address order, the first one most significant here.
  var busValue: UInt64
  /// `be_value`: the bytes as a big-endian number, as the bits are documented.
  var value: UInt64

  /// Whether the three notations say the same.
  var isConsistent: Bool {
    let swapped = value.byteSwapped >> UInt64(64 - 8 * byteCount)
    return busValue == value && processorValue == swapped
  }
}

/// A read or write of a register in PCI configuration space.
struct ConfigurationAccess: Sendable, Equatable {
  var isWrite: Bool
  var function: Requester
  var offset: UInt64
  /// Bytes: 1, 2 or 4.
  var byteCount: Int
  /// The value as the processor sees it; configuration space is little-endian.
  var value: UInt64
  /// `bus_bytes` of a write: the same, read from its bytes; `nil` where the trace has none.
  var busValue: UInt64?

  /// Whether both notations say the same.
  var isConsistent: Bool { busValue == nil || busValue == value }
}

/// Consecutive words of memory that the driver stored.
struct MemoryStore: Sendable, Equatable {
  enum Content: Sendable, Equatable {
    case zeros
    /// All words, in address order.
    case bytes([UInt8])
    /// One word, stored again and again.
    case fill([UInt8])
  }

  var address: PhysicalAddress
  /// Bytes of one word: 4 or 8.
  var wordByteCount: Int
  var wordCount: Int
  var content: Content

  /// Bytes stored.
  var byteCount: Int { wordByteCount * wordCount }

  /// The bytes, in address order.
  var bytes: [UInt8] {
    switch content {
    case .zeros: [UInt8](repeating: 0, count: byteCount)
    case .bytes(let bytes): bytes
    case .fill(let word): (0..<wordCount).flatMap { _ in word }
    }
  }
}

/// Which way data moves, as traces name it. `none` is a direction of the DMA API too.
enum TraceDirection: String, Sendable, Equatable {
  case toDevice = "to_device"
  case fromDevice = "from_device"
  case bidirectional
  case none
}

/// The start of a call of the DMA API, or of the AGP code that shares a GART.
struct TraceCall: Sendable, Equatable {
  enum Function: String, Sendable, CaseIterable {
    case mapPage = "map_page"
    case unmapPage = "unmap_page"
    case mapSegments = "map_sg"
    case unmapSegments = "unmap_sg"
    case allocateCoherent = "alloc_coherent"
    case freeCoherent = "free_coherent"
    case bindAGP = "agp_bind_memory"
    case unbindAGP = "agp_unbind_memory"

    /// What the end of the call is named: all three ways to unmap end with `unmap`.
    var returnName: String {
      switch self {
      case .unmapPage, .unmapSegments, .freeCoherent: "unmap"
      default: rawValue
      }
    }
  }

  var function: Function
  /// The device mapped for; the AGP functions have none.
  var device: Requester?
  /// `pa` of `map_page`.
  var physical: PhysicalAddress?
  /// `iova` or `bus` of the functions that unmap.
  var iova: IOVA?
  /// `len`, or `pages` in the AGP functions.
  var count: UInt64?
  /// `nents` of `map_sg`, `pg_start` of the AGP functions.
  var number: UInt64?
  var direction: TraceDirection?
}

/// The end of a call.
struct TraceReturn: Sendable, Equatable {
  var function: TraceCall.Function
  /// What the device was given; 0 where the driver of the time says "failed" so.
  var iova: IOVA?
  /// `pa` of `alloc_coherent`.
  var physical: PhysicalAddress?
  /// `mapped` of `map_sg`, `ret` of the AGP functions.
  var result: Int64?
}
