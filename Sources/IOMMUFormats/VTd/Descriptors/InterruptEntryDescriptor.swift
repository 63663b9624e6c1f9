extension VTd {
  /// Drops interrupt remapping entries: all, or a run of indices.
  ///
  /// Specification: Intel VT-d 6.5.2.8.
  @frozen
  public struct InterruptEntryDescriptor: InvalidationDescriptor {
    public var low: UInt64
    public var high: UInt64
    @inlinable
    public init(low: UInt64, high: UInt64) {
      self.low = low
      self.high = high
    }
  }
}

extension VTd.InterruptEntryDescriptor {
  public static var name: StaticString { "interrupt entry cache invalidate descriptor" }
  public static var specification: StaticString { "Intel VT-d 6.5.2.8" }
  public static var type: VTd.DescriptorType { .interruptEntry }

  static var g: BitField { BitField(4...4, "G") }
  static var im: BitField { BitField(27...31, "IM") }
  static var iidx: BitField { BitField(32...47, "IIDX") }

  public static func fields(_: VTd.DescriptorRules) -> [BitField] {
    [
      typeLow, g, .reserved(5...8), typeHigh, .reserved(12...26), im, iidx, .reserved(48...63),
      .reserved(64...127),
    ]
  }

  /// All entries.
  public static var global: Self { .empty }

  /// 2^`indexMask` entries, `index` with its low bits cleared the first.
  public init(index: Int, indexMask: Int) {
    self = .empty
    self[Self.g] = 1
    self[Self.im] = UInt64(indexMask)
    self[Self.iidx] = UInt64(index)
  }

  /// G clear: all entries.
  public var isGlobal: Bool { self[Self.g] == 0 }
  /// IM: the run has 2^IM entries.
  public var indexMask: Int { Int(self[Self.im]) }
  /// The indices that are meant.
  public var indices: Range<Int> {
    guard !isGlobal else { return 0..<65_536 }
    let count = 1 << min(16, indexMask)
    let first = Int(self[Self.iidx]) & ~(count - 1)
    return first..<(first + count)
  }
}
