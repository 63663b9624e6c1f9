import IOMMUFormats

/// How one requester's DMA is translated: resolved once, used for millions of requests.
///
/// A value that holds what the registers and the requester's root and context entries say. It goes
/// stale when software changes those; page tables are read anew by every request.
@frozen
public struct DeviceHandle: Sendable {
  /// What stands between the device and memory.
  @frozen
  public enum Route: Hashable, Sendable {
    /// Nothing: the IOVA is the physical address.
    case untranslated
    /// VT-d pass-through: the same, up to the host address width.
    case passThrough(hostAddressWidth: Int, rules: VTd.Rules)
    /// Page tables.
    case table(Table)
    /// Every request faults.
    case blocked(Fault)
  }

  public let requester: Requester
  /// What the device's requests carry; `nil` for requests without PASID.
  public let pasid: PASID?
  /// The highest address the device can put on the bus.
  public let dmaMask: UInt64
  public let route: Route

  @inlinable
  public init(
    requester: Requester, pasid: PASID? = nil, dmaMask: UInt64 = .max, route: Route
  ) {
    self.requester = requester
    self.pasid = pasid
    self.dmaMask = dmaMask
    self.route = route
  }

  /// Translates the first page's worth of a request, and sets no accessed or dirty bit.
  ///
  /// - Parameters:
  ///   - iova: The first byte.
  ///   - byteCount: At least 1.
  ///   - access: Whether the device reads or writes.
  ///   - memory: Memory that holds the tables.
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
    translate(
      iova, byteCount: byteCount, access: access, in: memory, marker: NoMarks(),
      observer: &observer)
  }

  /// The same, with accessed and dirty bits set by `marker`: ``AtomicMarks`` for a live machine.
  @inlinable
  public func translate(
    _ iova: IOVA, byteCount: UInt64, access: Access, in memory: some PhysicalMemory,
    marker: some EntryMarker, observer: inout some WalkObserver
  ) -> Translation {
    precondition(byteCount > 0, "a DMA request has at least one byte")
    let address = iova.rawValue
    guard address <= dmaMask else { return .fault(.beyondDeviceMask) }
    let limit = dmaMask &- address
    let byteCount = byteCount &- 1 <= limit ? byteCount : limit &+ 1
    if case .blocked(let fault) = route, pasid == nil, VTd.isInterruptAddress(address),
      let answer = fault.interruptAnswer(VTd.Request.Operation(access), at: address)
    {
      return answer
    }
    return route.translate(
      address, byteCount: byteCount, for: VTd.Request.Operation(access), in: memory, marker: marker,
      observer: &observer)
  }

  /// Requests without PASID to the interrupt range bypass DMA remapping: writes are messages,
  /// zero-length reads succeed and move nothing, all else is malformed.
  ///
  /// A message is a doubleword; whoever knows the length refuses other writes with the same fault.
  @inlinable
  public static func interruptAnswer(
    _ operation: VTd.Request.Operation, at address: UInt64
  ) -> Translation {
    switch operation {
    case .write: .interruptMessage
    case .zeroLengthRead: .mapped(PhysicalAddress(address), byteCount: 1)
    case .read, .atomic: .fault(.vtd(.malformedInterruptRequest, isRecorded: true))
    }
  }
}

extension DeviceHandle.Route {
  /// Translates an untranslated request, up to the end of its page.
  ///
  /// - Parameters:
  ///   - address: The first byte, as the request names it.
  ///   - byteCount: At least 1.
  ///   - operation: What the request wants.
  ///   - memory: Memory that holds the tables.
  ///   - marker: Sets accessed and dirty bits: ``AtomicMarks`` for a live machine, ``NoMarks`` for
  ///     a dump.
  ///   - observer: Shown every entry read.
  @inlinable
  public func translate(
    _ address: UInt64, byteCount: UInt64, for operation: VTd.Request.Operation,
    in memory: some PhysicalMemory, marker: some EntryMarker, observer: inout some WalkObserver
  ) -> Translation {
    switch self {
    case .untranslated:
      return .mapped(PhysicalAddress(address), byteCount: byteCount)
    case .passThrough(let width, let rules):
      if VTd.isInterruptAddress(address), !rules.hasPASID {
        return DeviceHandle.interruptAnswer(operation, at: address)
      }
      return Self.pass(address, byteCount: byteCount, hostAddressWidth: width, under: rules)
    case .table(let table):
      return table.translate(
        address, byteCount: byteCount, for: operation, in: memory, marker: marker,
        observer: &observer)
    case .blocked(let fault):
      return .fault(fault)
    }
  }

  /// Addresses that requests reach untranslated, whatever tables say of others; half-open, ascending.
  public var passing: [Range<UInt64>] {
    switch self {
    case .untranslated: [0 ..< .max]
    case .passThrough(let width, _):
      [
        0..<VTd.interruptAddresses.lowerBound,
        VTd.interruptAddresses
          .upperBound..<max(
            VTd.interruptAddresses.upperBound, 1 &<< UInt64(width)),
      ]
    case .table(let table): table.space.passing
    case .blocked: []
    }
  }

  /// Passes an address that needs no tables, as far as the host has addresses.
  @inlinable
  static func pass(
    _ address: UInt64, byteCount: UInt64, hostAddressWidth: Int, under rules: VTd.Rules
  ) -> Translation {
    let limit: UInt64 = 1 &<< UInt64(hostAddressWidth)
    guard address < limit else {
      return rules.fault(rules.isScalable ? .hostAddressBeyondWidth : .addressBeyondWidth)
    }
    guard !VTd.isInterruptAddress(address) else {
      return rules.fault(
        rules.isScalable ? .scalableInterruptAddressReached : .interruptAddressReached)
    }
    return .mapped(
      PhysicalAddress(address),
      byteCount: bytesBeforeInterruptRange(address, atMost: min(byteCount, limit &- address)))
  }

  /// Passes a translated request: its tables were asked when the device asked for the translation.
  public func pass(_ address: UInt64, byteCount: UInt64, hostAddressWidth: Int) -> Translation {
    switch self {
    case .untranslated: .mapped(PhysicalAddress(address), byteCount: byteCount)
    case .blocked(let fault): .fault(fault)
    default:
      Self.pass(
        address, byteCount: byteCount, hostAddressWidth: hostAddressWidth,
        under: rules ?? VTd.Rules())
    }
  }
}

extension VTd.Request.Operation {
  /// The nearest that units know which tell reads and writes only.
  @inlinable var access: Access { needs.contains(.write) ? .write : .read }
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
  address < VTd.interruptAddresses.lowerBound
    ? min(byteCount, VTd.interruptAddresses.lowerBound &- address) : byteCount
}

/// The page's first byte and the offset of `address` in it.
@inlinable @inline(__always)
func place(_ address: UInt64, in page: PhysicalAddress, sizeLog2: Int) -> PhysicalAddress {
  let offset = address & (1 &<< UInt64(truncatingIfNeeded: sizeLog2) &- 1)
  return PhysicalAddress(page.rawValue | offset)
}
