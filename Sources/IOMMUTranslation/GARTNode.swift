import IOMMUFormats

/// A northbridge with a GART, as its registers stand.
public struct GARTNode: Sendable, Hashable {
  /// Function 3 of the northbridge, such as `00:18.3`.
  public var device: Requester
  public var control: GART.ApertureControl
  public var base: GART.ApertureBase
  public var tableBase: GART.TableBase
  /// Family 0Fh: a read through an invalid entry reads the page that the entry names.
  public var hasErratum156: Bool

  public init(
    device: Requester, control: GART.ApertureControl, base: GART.ApertureBase,
    tableBase: GART.TableBase, hasErratum156: Bool = false
  ) {
    self.device = device
    self.control = control
    self.base = base
    self.tableBase = tableBase
    self.hasErratum156 = hasErratum156
  }

  /// The addresses of the aperture, half-open; `nil` for an undefined size.
  public var aperture: Range<IOVA>? {
    control.apertureByteCount.map { IOVA(base.address)..<IOVA(base.address + $0) }
  }

  /// The window that devices see; `nil` when the GART does not translate for them.
  public var window: GARTWindow? { control.translatesIO ? programmedWindow : nil }

  /// The window that the CPU's own accesses see; `nil` when the GART does not translate for it.
  public var cpuWindow: GARTWindow? { control.translatesCPU ? programmedWindow : nil }

  private var programmedWindow: GARTWindow? {
    control.apertureByteCount.map {
      GARTWindow(
        base: base.address, byteCount: $0, table: tableBase.table, hasErratum156: hasErratum156)
    }
  }
}

/// A GART aperture in force: translated inside, passed unchanged outside.
@frozen
public struct GARTWindow: Sendable, Hashable {
  public let base: UInt64
  public let byteCount: UInt64
  public let table: PhysicalAddress
  public let hasErratum156: Bool

  @inlinable
  public init(base: UInt64, byteCount: UInt64, table: PhysicalAddress, hasErratum156: Bool = false)
  {
    self.base = base
    self.byteCount = byteCount
    self.table = table
    self.hasErratum156 = hasErratum156
  }

  @inlinable public var format: GATTFormat { GATTFormat(apertureByteCount: byteCount) }

  @inlinable
  func translate(
    _ address: UInt64, byteCount length: UInt64, access: Access, in memory: some PhysicalMemory,
    observer: inout some WalkObserver
  ) -> Translation {
    let offset = address &- base
    guard offset < byteCount else {
      // Passes unchanged, at most up to the aperture.
      let untilWindow = address < base ? base &- address : .max
      return .mapped(PhysicalAddress(address), byteCount: min(length, untilWindow))
    }
    let walk = format.walk(offset, from: table, in: memory, observer: &observer)
    let length = bytesInPage(offset, sizeLog2: 12, atMost: length)
    switch walk.end {
    case .page:
      return .mapped(place(offset, in: walk.page, sizeLog2: 12), byteCount: length)
    case .unreadable:
      return .fault(.gart(.tableUnreadable))
    case .empty, .malformed, .refused:
      // Erratum 156: the read goes to the page that the invalid entry names.
      if hasErratum156, access == .read {
        let named = GART.GATTEntry(low: walk.entry, high: 0).page
        return .mapped(place(offset, in: named, sizeLog2: 12), byteCount: length)
      }
      return .fault(.gart(.invalidEntry))
    }
  }
}
