import IOMMUFormats

/// One line of a trace: what a kernel's IOMMU driver did, in the order it did it.
///
/// A trace is JSON lines, an object per line with a running number `seq` and a kind `ev`.
public struct TraceEvent: Sendable, Equatable {
  /// `seq`: one more than that of the event before.
  public var sequence: UInt64
  /// The event's line in its file, from 1.
  public var line: Int
  public var action: Action

  public enum Action: Sendable, Equatable {
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
public struct RegisterAccess: Sendable, Equatable {
  public var isWrite: Bool
  /// Bytes: 1, 2, 4 or 8.
  public var byteCount: Int
  /// The number of the chip in the trace, from 0.
  public var chip: Int
  /// The physical base of the chip's registers.
  public var base: PhysicalAddress
  public var offset: UInt64
  /// The register's name in the trace, for messages.
  public var name: String
  /// What the processor's load returned or its store got.
  public var processorValue: UInt64
  /// `bus_bytes`: the bytes in increasing address order, the first one most significant here.
  public var busValue: UInt64
  /// `be_value`: the bytes as a big-endian number, as the bits are documented.
  public var value: UInt64

  /// Whether the three notations say the same.
  public var isConsistent: Bool {
    let swapped = value.byteSwapped >> UInt64(64 - 8 * byteCount)
    return busValue == value && processorValue == swapped
  }
}

/// A read or write of a register in PCI configuration space.
public struct ConfigurationAccess: Sendable, Equatable {
  public var isWrite: Bool
  public var function: Requester
  public var offset: UInt64
  /// Bytes: 1, 2 or 4.
  public var byteCount: Int
  /// The value as the processor sees it; configuration space is little-endian.
  public var value: UInt64
  /// `bus_bytes` of a write: the same, read from its bytes; `nil` where the trace has none.
  public var busValue: UInt64?

  /// Whether both notations say the same.
  public var isConsistent: Bool { busValue == nil || busValue == value }
}

/// Consecutive words of memory that the driver stored.
public struct MemoryStore: Sendable, Equatable {
  public enum Content: Sendable, Equatable {
    case zeros
    /// All words, in address order.
    case bytes([UInt8])
    /// One word, stored again and again.
    case fill([UInt8])
  }

  public var address: PhysicalAddress
  /// Bytes of one word: 4 or 8.
  public var wordByteCount: Int
  public var wordCount: Int
  public var content: Content

  /// Bytes stored.
  public var byteCount: Int { wordByteCount * wordCount }

  /// The bytes, in address order.
  public var bytes: [UInt8] {
    switch content {
    case .zeros: [UInt8](repeating: 0, count: byteCount)
    case .bytes(let bytes): bytes
    case .fill(let word): (0..<wordCount).flatMap { _ in word }
    }
  }
}

/// Which way data moves, as traces name it. `none` is a direction of the DMA API too.
public enum TraceDirection: String, Sendable, Equatable {
  case toDevice = "to_device"
  case fromDevice = "from_device"
  case bidirectional
  case none
}

/// The start of a call of the DMA API, or of the AGP code that shares a GART.
public struct TraceCall: Sendable, Equatable {
  public enum Function: String, Sendable, CaseIterable {
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

  public var function: Function
  /// The device mapped for; the AGP functions have none.
  public var device: Requester?
  /// `pa` of `map_page`.
  public var physical: PhysicalAddress?
  /// `iova` or `bus` of the functions that unmap.
  public var iova: IOVA?
  /// `len`, or `pages` in the AGP functions.
  public var count: UInt64?
  /// `nents` of `map_sg`, `pg_start` of the AGP functions.
  public var number: UInt64?
  public var direction: TraceDirection?
}

/// The end of a call.
public struct TraceReturn: Sendable, Equatable {
  public var function: TraceCall.Function
  /// What the device was given; 0 where the driver of the time says "failed" so.
  public var iova: IOVA?
  /// `pa` of `alloc_coherent`.
  public var physical: PhysicalAddress?
  /// `mapped` of `map_sg`, `ret` of the AGP functions.
  public var result: Int64?
}
