extension Calgary {
  /// The windows of a PHB's bus that its chip does not translate, out of their registers.
  public enum HostBridgeWindow {
    /// MEM_1: half-open; `nil` when it is empty.
    ///
    /// - Parameters:
    ///   - low: The lower half of the first address.
    ///   - high: Its upper half.
    ///   - last: MEM_1_SIZE, which holds the last address. Linux takes 0 for the end of the first
    ///     MiB.
    public static func memory1(low: UInt32, high: UInt32, last: UInt32) -> Range<IOVA>? {
      window(first: join(high, low), last: last == 0 ? 0xf_ffff : UInt64(last))
    }

    /// MEM_2: half-open; `nil` when it is empty. In force while CONFIG_RW says so.
    public static func memory2(
      low: UInt32, high: UInt32, lastLow: UInt32, lastHigh: UInt32
    ) -> Range<IOVA>? {
      window(first: join(high, low), last: join(lastHigh, lastLow))
    }

    private static func join(_ high: UInt32, _ low: UInt32) -> UInt64 {
      UInt64(high) << 32 | UInt64(low)
    }

    private static func window(first: UInt64, last: UInt64) -> Range<IOVA>? {
      // The last byte of all has no byte after it; a window up to there ends one short.
      let limit = last == .max ? last : last + 1
      return first < limit ? IOVA(first)..<IOVA(limit) : nil
    }
  }
}
