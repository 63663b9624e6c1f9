// Putting capability registers together, for machines that are built rather than read.

extension VTd.Capability {
  /// The same with what a unit has besides tables: fault records from 0x200 on, and invalidation
  /// of up to 2^`maximumAddressMask` pages at a time.
  ///
  /// - Precondition: `faultRecordCount` is 1 to 256 and `maximumAddressMask` below 64.
  public func withRegisters(faultRecordCount: Int, maximumAddressMask: Int) -> Self {
    var register = self
    register[Self.fro] = 0x20
    register[Self.nfr] = UInt64(faultRecordCount - 1)
    register[Self.psi] = 1
    register[Self.mamv] = UInt64(maximumAddressMask)
    return register
  }
}

extension VTd.ExtendedCapability {
  /// A unit with its invalidation registers at 0x100, and the parts that are asked for.
  ///
  /// Scalable mode comes with second-stage tables alone.
  public init(
    hasQueue: Bool, hasInterruptRemapping: Bool = false, hasPassThrough: Bool = false,
    hasDeviceTLBs: Bool = false, hasScalableMode: Bool = false
  ) {
    self.init(rawValue: 0)
    self[Self.iro] = 0x10
    self[Self.qi] = hasQueue || hasInterruptRemapping || hasDeviceTLBs || hasScalableMode ? 1 : 0
    self[Self.dt] = hasDeviceTLBs ? 1 : 0
    self[Self.smts] = hasScalableMode ? 1 : 0
    self[Self.ssts] = hasScalableMode ? 1 : 0
    self[Self.ir] = hasInterruptRemapping ? 1 : 0
    self[Self.pt] = hasPassThrough ? 1 : 0
  }
}
