import IOMMUFormats

/// What a kernel's DMA calls make of the pool: who is bounced, and what happens when it is full.
extension BouncePool {
  /// What becomes of one buffer that a driver maps.
  public enum Single: Sendable, Hashable {
    /// The device reaches the buffer itself.
    case direct(PhysicalAddress)
    /// The device uses this address, inside the pool.
    case bounced(PhysicalAddress)
    /// 2.6.27 found no room and hands out the overflow buffer. The address is also the error value:
    /// a driver that compares sees the failure, one that does not lets its device use 32 KiB that
    /// all failed mappings share, and nothing is copied to or from them.
    case overflow(PhysicalAddress)
    /// 7.0 found no room, or its pool is out of the device's reach. The driver gets all ones.
    case error
    /// The kernel stops.
    case panic(Panic)

    /// Whether the driver's check for a mapping error finds one.
    public var isError: Bool {
      switch self {
      case .overflow, .error: true
      case .direct, .bounced, .panic: false
      }
    }
  }

  /// Why 2.6.27 stops rather than go on with a full pool.
  public enum Panic: String, Sendable, Hashable, CaseIterable {
    /// The device would write where the overflow buffer has ended.
    case deviceWouldCorruptMemory =
      "more than the overflow buffer holds: the device would corrupt memory"
    /// The device would read what lies behind the overflow buffer.
    case deviceWouldReadRandomMemory =
      "more than the overflow buffer holds: the device would read memory at random"
    case poolOutOfReach = "the bounce buffer itself is out of the device's reach"
    case coherentOutOfReach = "coherent memory is out of the device's reach"
  }

  /// Maps one buffer as the kernel's streaming call does: direct, bounced, or neither.
  ///
  /// - Parameters:
  ///   - buffer: Bytes, half-open, not empty; all in RAM.
  ///   - direction: Which way data moves.
  ///   - limits: What the device asks of the address.
  public func mapSingle(
    _ buffer: Range<PhysicalAddress>, direction: DMADirection, limits: DMALimits = DMALimits()
  ) -> Single {
    precondition(!buffer.isEmpty, "a mapping has at least one byte")
    guard isForced || rule.needsHelp(buffer, mask: limits.mask) else {
      return .direct(buffer.lowerBound)
    }
    let outcome = map(
      original: buffer.lowerBound, byteCount: buffer.byteCount, direction: direction,
      limits: limits)
    return single(outcome, byteCount: buffer.byteCount, direction: direction, mask: limits.mask)
  }

  /// Ends what ``mapSingle(_:direction:limits:)`` returned. Addresses outside the pool (direct
  /// ones, and the overflow buffer) need nothing.
  public func unmapSingle(_ address: PhysicalAddress) {
    if range.contains(address) { unmap(address) }
  }

  /// Maps a scatter list, all of it or nothing.
  ///
  /// When the pool is full the elements mapped so far are undone; no overflow buffer, no panic. The
  /// undoing of 2.6.27 is an ordinary unmap and copies to the originals of `fromDevice` elements
  /// what the pool happened to hold; 7.0 copies nothing.
  ///
  /// - Parameters:
  ///   - buffers: Bytes, half-open, none empty; all in RAM.
  ///   - direction: Which way data moves, for all of them.
  ///   - limits: What the device asks of each address.
  /// - Returns: One address for each buffer; `nil` for the 0 elements of a failure.
  public func map(
    list buffers: [Range<PhysicalAddress>], direction: DMADirection,
    limits: DMALimits = DMALimits()
  ) -> [PhysicalAddress]? {
    var addresses: [PhysicalAddress] = []
    for buffer in buffers {
      guard isForced || rule.needsHelp(buffer, mask: limits.mask) else {
        addresses.append(buffer.lowerBound)
        continue
      }
      let outcome = map(
        original: buffer.lowerBound, byteCount: buffer.byteCount, direction: direction,
        limits: limits)
      guard case .mapped(let address) = outcome else {
        for address in addresses where range.contains(address) {
          unmap(address, copiesBack: version == .linux2_6_27)
        }
        return nil
      }
      addresses.append(address)
    }
    return addresses
  }

  /// Takes zeroed coherent memory from the pool, where 2.6.27 turns when its pages are out of
  /// reach.
  ///
  /// The kernel asks on behalf of no device: the defaults of ``DMALimits`` find the place, and only
  /// the result is held against `mask`. An overflow is given back as out of memory, an error. 7.0
  /// takes no coherent memory from this pool: always an error.
  ///
  /// - Parameters:
  ///   - byteCount: At least 1.
  ///   - mask: The highest address the device can put on the bus.
  public func allocateCoherent(byteCount: UInt64, mask: UInt64 = 0xffff_ffff) -> Single {
    guard version == .linux2_6_27 else { return .error }
    let outcome = claim(
      original: nil, byteCount: byteCount, direction: .fromDevice, limits: DMALimits())
    let single = single(
      outcome, byteCount: byteCount, direction: .fromDevice, mask: DMALimits().mask)
    guard case .bounced(let address) = single else { return single.isError ? .error : single }
    memory.zero(at: address, byteCount: byteCount)
    return isReached(address, byteCount, mask) ? single : .panic(.coherentOutOfReach)
  }

  private func single(
    _ outcome: Outcome, byteCount: UInt64, direction: DMADirection, mask: UInt64
  ) -> Single {
    switch (version, outcome) {
    case (.linux2_6_27, .mapped(let address)):
      return isReached(address, byteCount, mask) ? .bounced(address) : .panic(.poolOutOfReach)
    case (.linux7_0, .mapped(let address)):
      guard isReached(address, byteCount, mask) else {
        unmap(address, copiesBack: false)
        return .error
      }
      return .bounced(address)
    case (.linux2_6_27, .poolFull), (.linux2_6_27, .tooLarge):
      guard byteCount <= Self.overflowByteCount, let overflowBuffer else {
        return .panic(
          direction == .toDevice ? .deviceWouldReadRandomMemory : .deviceWouldCorruptMemory)
      }
      return isReached(overflowBuffer, byteCount, mask)
        ? .overflow(overflowBuffer) : .panic(.poolOutOfReach)
    case (.linux7_0, .poolFull), (.linux7_0, .tooLarge):
      return .error
    }
  }

  private func isReached(
    _ address: PhysicalAddress, _ byteCount: UInt64, _ mask: UInt64
  ) -> Bool {
    !rule.needsHelp(address..<PhysicalAddress(address.rawValue + byteCount), mask: mask)
  }
}
