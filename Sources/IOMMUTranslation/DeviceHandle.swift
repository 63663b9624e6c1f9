import IOMMUFormats

/// How one requester's DMA is translated: resolved once, used for millions of requests.
///
/// A value that holds what the registers and the requester's root and context entries say. It goes
/// stale when software changes those; page tables are read anew by every request.
@frozen
public struct DeviceHandle: Sendable {
  /// What stands between the device and memory.
  @frozen
  public enum Route: Sendable {
    /// Nothing: the IOVA is the physical address.
    case untranslated
    /// VT-d pass-through: the same, up to the host address width.
    case passThrough(hostAddressWidth: Int, isReported: Bool)
    case gart(GARTWindow)
    case calgary(TCETable)
    case secondStage(SecondStageTable)
    /// Every request faults.
    case blocked(Fault)
  }

  public let requester: Requester
  /// The highest address the device can put on the bus.
  public let dmaMask: UInt64
  public let route: Route

  @inlinable
  public init(requester: Requester, dmaMask: UInt64 = .max, route: Route) {
    self.requester = requester
    self.dmaMask = dmaMask
    self.route = route
  }

  /// Translates the first page's worth of a request.
  ///
  /// - Parameters:
  ///   - byteCount: At least 1.
  /// - Returns: Where the first bytes go, or why they go nowhere.
  /// - Complexity: At most one entry read per table level.
  @inlinable
  public func translate(
    _ iova: IOVA, byteCount: UInt64, access: Access, in memory: some PhysicalMemory
  ) -> Translation {
    var observer = Unobserved()
    return translate(iova, byteCount: byteCount, access: access, in: memory, observer: &observer)
  }

  /// The same, with every entry read shown to `observer`.
  @inlinable
  public func translate(
    _ iova: IOVA, byteCount: UInt64, access: Access, in memory: some PhysicalMemory,
    observer: inout some WalkObserver
  ) -> Translation {
    precondition(byteCount > 0, "a DMA request has at least one byte")
    let address = iova.rawValue
    guard address <= dmaMask else { return .fault(.beyondDeviceMask) }
    let limit = dmaMask &- address
    let byteCount = byteCount &- 1 <= limit ? byteCount : limit &+ 1
    switch route {
    case .untranslated:
      return .mapped(PhysicalAddress(address), byteCount: byteCount)
    case .passThrough(let width, let isReported):
      if VTd.isInterruptAddress(address) { return Self.interruptAnswer(access) }
      guard address &>> UInt64(width) == 0 else {
        return .fault(.vtd(.addressBeyondWidth, isRecorded: isReported))
      }
      let reachable = min(byteCount, 1 &<< UInt64(width) &- address)
      return .mapped(
        PhysicalAddress(address),
        byteCount: bytesBeforeInterruptRange(address, atMost: reachable))
    case .gart(let window):
      return window.translate(
        address, byteCount: byteCount, access: access, in: memory, observer: &observer)
    case .calgary(let table):
      return table.translate(
        address, byteCount: byteCount, access: access, in: memory, observer: &observer)
    case .secondStage(let table):
      return table.translate(
        address, byteCount: byteCount, access: access, in: memory, observer: &observer)
    case .blocked(let fault):
      if case .vtd = fault, VTd.isInterruptAddress(address) { return Self.interruptAnswer(access) }
      return .fault(fault)
    }
  }

  /// Requests to the interrupt range bypass DMA remapping: writes are messages, reads are
  /// malformed.
  @inlinable
  static func interruptAnswer(_ access: Access) -> Translation {
    access == .write
      ? .interruptMessage : .fault(.vtd(.malformedInterruptRequest, isRecorded: true))
  }
}

/// Bytes from `address` to the end of its page of 2^`sizeLog2` bytes, at most `byteCount`.
@inlinable @inline(__always)
func bytesInPage(_ address: UInt64, sizeLog2: Int, atMost byteCount: UInt64) -> UInt64 {
  let size = 1 &<< UInt64(truncatingIfNeeded: sizeLog2)
  return min(byteCount, size &- (address & (size &- 1)))
}

/// Bytes from `address` to the interrupt address range, at most `byteCount`: what lies in the range
/// is a request of another kind.
@inlinable @inline(__always)
func bytesBeforeInterruptRange(_ address: UInt64, atMost byteCount: UInt64) -> UInt64 {
  address < 0xfee0_0000 ? min(byteCount, 0xfee0_0000 &- address) : byteCount
}

/// The page's first byte and the offset of `address` in it.
@inlinable @inline(__always)
func place(_ address: UInt64, in page: PhysicalAddress, sizeLog2: Int) -> PhysicalAddress {
  let offset = address & (1 &<< UInt64(truncatingIfNeeded: sizeLog2) &- 1)
  return PhysicalAddress(page.rawValue | offset)
}
