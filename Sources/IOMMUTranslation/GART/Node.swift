import IOMMUFormats

extension GART {
  /// A northbridge with a GART, as its registers stand.
  public struct Node: Sendable, Hashable {
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
    public var window: GART.Window? { control.translatesIO ? programmedWindow : nil }

    /// The window that the CPU's own accesses see; `nil` when the GART does not translate for it.
    public var cpuWindow: GART.Window? { control.translatesCPU ? programmedWindow : nil }

    private var programmedWindow: GART.Window? {
      control.apertureByteCount.map {
        GART.Window(
          base: base.address, byteCount: $0, table: tableBase.table, hasErratum156: hasErratum156)
      }
    }
  }
}
