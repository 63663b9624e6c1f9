import IOMMUFormats

/// swiotlb: a pool of low memory that stands in for buffers a device does not reach.
///
/// The pool is cut into *slabs* of 2 KiB, and 128 slabs make a *segment*. A mapping takes a run of
/// free slabs inside one segment, so 256 KiB is the most that one mapping holds. Each slab has a
/// counter: how many slabs are free from it to the end of the segment, up to the first used one; 0
/// when it is itself used. A run is free when the counter of its first slab is large enough, so one
/// look decides.
///
/// There is no translation here: the device sees the pool's physical addresses, and the CPU copies
/// between the pool and the original buffer when a mapping is made, synchronised or ended. A DMA
/// into a pool whose kernel is gone changes the pool and nothing else.
///
/// The pool is modelled with one search hint and one set of counters, as 2.6.27 has it, and as 7.0
/// has it on one CPU, which is how capture kernels boot. Not shared between threads.
///
/// Source: Linux 2.6.27 `lib/swiotlb.c`; Linux 7.0 `kernel/dma/swiotlb.c`.
public final class BouncePool {
  /// Bytes of a slab.
  public static let slabByteCount: UInt64 = 2048
  /// Slabs of a segment; no mapping crosses from one segment to the next.
  public static let slabsPerSegment = 128
  /// Bytes of the pool unless told otherwise: 64 MiB, 256 segments.
  public static let defaultByteCount: UInt64 = 64 << 20
  /// Bytes of the smallest pool a kernel makes do with when memory is short: 1 MiB.
  public static let smallestByteCount: UInt64 = 1 << 20
  /// Bytes of the buffer that 2.6.27 hands out when the pool is full.
  public static let overflowByteCount: UInt64 = 32 << 10

  /// Whose kernel the pool belongs to.
  public enum Version: Sendable, Hashable, CaseIterable {
    case linux2_6_27
    /// Copies to the pool for every direction, so that a short write by the device leaves the
    /// original's own bytes behind it and not those of an earlier mapping. Preserves low bits of
    /// the original address for devices that ask.
    case linux7_0
  }

  /// What becomes of a mapping. A value, not an error: a full pool is modelled behaviour.
  public enum Outcome: Sendable, Hashable {
    /// The device uses this address, inside the pool.
    case mapped(PhysicalAddress)
    /// The search found no position with enough free slabs.
    case poolFull
    /// Not even the empty pool has a position: more than a segment, or than the device's boundary.
    case tooLarge

    /// The address inside the pool; `nil` when nothing was mapped.
    public var address: PhysicalAddress? {
      if case .mapped(let address) = self { address } else { nil }
    }
  }

  /// A mapping in force.
  public struct Mapping: Sendable, Hashable {
    /// The first byte for the device.
    public let address: PhysicalAddress
    /// The driver's buffer; `nil` for coherent memory taken from the pool, which has none.
    public let original: PhysicalAddress?
    public let byteCount: UInt64
    public let direction: DMADirection
    /// The slabs taken, half-open.
    public let slabs: Range<Int>

    /// The bytes for the device, half-open.
    public var range: Range<PhysicalAddress> {
      address..<PhysicalAddress(address.rawValue + byteCount)
    }
  }

  /// The memory that both the pool and the original buffers lie in.
  public let memory: FlatMemory
  /// The pool's bytes, half-open.
  public let range: Range<PhysicalAddress>
  /// Where 2.6.27 sends what finds no room, 32 KiB; 7.0 has none.
  public let overflowBuffer: PhysicalAddress?
  public let version: Version
  /// Decides which buffers are bounced; to begin with as the version does.
  public var rule: MappingRule
  /// `swiotlb=force`: buffers are bounced even when the device reaches them.
  public var isForced: Bool

  /// For each slab, free slabs from here to the end of its segment or the next used slab.
  public private(set) var freeCounts: [UInt8]
  /// The slab where the next search begins.
  public private(set) var hint = 0
  /// Slabs in use.
  public private(set) var usedSlabCount = 0
  /// The most slabs that were ever in use at once.
  public private(set) var usedSlabHighWater = 0
  /// For each slab, the first slab of the mapping that holds it; −1 when free.
  private var owners: [Int32]
  private var mappingsByFirstSlab: [Int: Mapping] = [:]

  /// An empty pool.
  ///
  /// - Parameters:
  ///   - memory: The machine's memory, where the pool and the buffers are.
  ///   - address: The pool's first byte, 4 KiB aligned. Its bytes stay as they are.
  ///   - byteCount: A multiple of 256 KiB.
  ///   - overflowBuffer: 32 KiB outside the pool; right behind the pool when not given (the kernel
  ///     puts it wherever low boot memory is free). Ignored by 7.0.
  ///   - version: Whose swiotlb it is.
  ///   - isForced: `swiotlb=force`: buffers are bounced even when the device reaches them.
  /// - Precondition: `memory` has RAM for all of it.
  public init(
    memory: FlatMemory, at address: PhysicalAddress, byteCount: UInt64 = defaultByteCount,
    overflowBuffer: PhysicalAddress? = nil, version: Version, isForced: Bool = false
  ) {
    let segment = Self.slabByteCount * UInt64(Self.slabsPerSegment)
    precondition(address.isAligned(to: 4096), "a bounce pool starts on a 4 KiB boundary")
    precondition(
      byteCount > 0 && byteCount % segment == 0, "a bounce pool is a multiple of 256 KiB")
    precondition(
      memory.isBacked(address, byteCount: byteCount), "no RAM where the bounce pool is to be")
    self.memory = memory
    range = address..<PhysicalAddress(address.rawValue + byteCount)
    self.version = version
    self.isForced = isForced
    switch version {
    case .linux2_6_27:
      let overflow = overflowBuffer ?? range.upperBound
      precondition(
        memory.isBacked(overflow, byteCount: Self.overflowByteCount),
        "no RAM where the overflow buffer is to be")
      precondition(
        overflow >= range.upperBound
          || overflow.rawValue + Self.overflowByteCount <= address.rawValue,
        "the overflow buffer lies outside the pool")
      self.overflowBuffer = overflow
      rule = .swiotlbLinux2_6_27
    case .linux7_0:
      self.overflowBuffer = nil
      rule = .linux7_0
    }
    let slabCount = Int(byteCount / Self.slabByteCount)
    freeCounts = (0..<slabCount).map { UInt8(Self.slabsPerSegment - $0 % Self.slabsPerSegment) }
    owners = Array(repeating: -1, count: slabCount)
  }

  /// Bytes of the pool that the boot parameter `swiotlb=slabs` asks for.
  ///
  /// Counted in slabs, whatever the boot-options text of the time says of pages. Rounded up to
  /// whole segments, and by 7.0 to a power of two. At most 2^40 slabs.
  public static func byteCount(forParameter slabs: UInt64, version: Version) -> UInt64 {
    precondition(1...(1 << 40) ~= slabs, "a bounce pool has between 1 and 2^40 slabs")
    let segment = UInt64(slabsPerSegment)
    var count = (slabs + segment - 1) / segment * segment
    if version == .linux7_0, count & (count - 1) != 0 {
      count = 1 << UInt64(64 - count.leadingZeroBitCount)
    }
    return count * slabByteCount
  }

  /// Slabs of the pool.
  public var slabCount: Int { freeCounts.count }

  /// The mappings in force, by address.
  public var mappings: [Mapping] {
    mappingsByFirstSlab.values.sorted { $0.slabs.lowerBound < $1.slabs.lowerBound }
  }

  /// The mapping whose bytes `address` is one of; `nil` in free and in padding bytes.
  public func mapping(containing address: PhysicalAddress) -> Mapping? {
    guard range.contains(address) else { return nil }
    let first = owners[slab(of: address)]
    guard first >= 0, let mapping = mappingsByFirstSlab[Int(first)] else { return nil }
    return mapping.range.contains(address) ? mapping : nil
  }

  /// The most bytes that a driver of this device is told to map at once.
  public func largestMapping(limits: DMALimits = DMALimits()) -> UInt64 {
    let segment = Self.slabByteCount * UInt64(Self.slabsPerSegment)
    guard version == .linux7_0, limits.minAlignMask > 0 else { return segment }
    let slab = Self.slabByteCount - 1
    guard limits.minAlignMask < segment else { return 0 }
    return segment - ((limits.minAlignMask + slab) & ~slab)
  }

  // MARK: Mapping

  /// Takes slabs for a buffer and copies as the version and the direction demand.
  ///
  /// Does not ask whether the device needs it; ``mapSingle(_:direction:limits:)`` does.
  ///
  /// - Parameters:
  ///   - original: The driver's buffer, anywhere in RAM, at any alignment.
  ///   - byteCount: At least 1.
  ///   - direction: Which way data moves.
  ///   - limits: What the device asks of the address.
  /// - Complexity: O(slabs of the pool) when it is nearly full.
  public func map(
    original: PhysicalAddress, byteCount: UInt64, direction: DMADirection,
    limits: DMALimits = DMALimits()
  ) -> Outcome {
    precondition(
      memory.isBacked(original, byteCount: byteCount), "no RAM where the buffer to bounce is")
    let outcome = claim(
      original: original, byteCount: byteCount, direction: direction, limits: limits)
    if case .mapped(let address) = outcome {
      switch (version, direction) {
      case (.linux2_6_27, .fromDevice): break
      case (_, .toDevice), (_, .bidirectional), (.linux7_0, .fromDevice):
        copy(from: original, to: address, byteCount: byteCount)
      }
    }
    return outcome
  }

  /// Ends a mapping: what the device may have written goes to the original, the slabs become free.
  ///
  /// - Parameters:
  ///   - address: The first byte of the mapping, in the pool.
  ///   - copiesBack: `false` leaves the original alone; the kernel undoes mappings so.
  /// - Precondition: `address` is what ``map(original:byteCount:direction:limits:)`` returned.
  public func unmap(_ address: PhysicalAddress, copiesBack: Bool = true) {
    guard let mapping = mapping(containing: address), mapping.address == address else {
      preconditionFailure("no bounce mapping starts at \(address)")
    }
    if copiesBack, mapping.direction != .toDevice, let original = mapping.original {
      copy(from: address, to: original, byteCount: mapping.byteCount)
    }
    mappingsByFirstSlab[mapping.slabs.lowerBound] = nil
    for slab in mapping.slabs { owners[slab] = -1 }
    usedSlabCount -= mapping.slabs.count
    // The run that follows counts on, if it lies in the same segment.
    let end = mapping.slabs.upperBound
    let following = end % Self.slabsPerSegment == 0 ? 0 : freeCounts[end]
    for (distance, slab) in mapping.slabs.reversed().enumerated() {
      freeCounts[slab] = following + UInt8(distance + 1)
    }
    renumberRun(before: mapping.slabs.lowerBound)
    assert(isSound(segment: mapping.slabs.lowerBound / Self.slabsPerSegment))
  }

  /// Takes slabs; copies nothing.
  func claim(
    original: PhysicalAddress?, byteCount: UInt64, direction: DMADirection, limits: DMALimits
  ) -> Outcome {
    precondition(byteCount > 0, "a mapping has at least one byte")
    let search = Search(
      pool: range.lowerBound, version: version, original: original, byteCount: byteCount,
      limits: limits)
    guard search.slabCount <= Self.slabsPerSegment,
      let first = search.firstMatch(
        from: hint, of: slabCount, where: { Int(freeCounts[$0]) >= search.slabCount })
    else {
      let fits = search.firstMatch(from: 0, of: slabCount) {
        Self.slabsPerSegment - $0 % Self.slabsPerSegment >= search.slabCount
      }
      return fits == nil ? .tooLarge : .poolFull
    }
    let slabs = first..<(first + search.slabCount)
    for slab in slabs {
      freeCounts[slab] = 0
      owners[slab] = Int32(first)
    }
    renumberRun(before: first)
    hint = slabs.upperBound < slabCount ? slabs.upperBound : 0
    usedSlabCount += slabs.count
    usedSlabHighWater = max(usedSlabHighWater, usedSlabCount)
    let address = PhysicalAddress(
      range.lowerBound.rawValue + UInt64(first) * Self.slabByteCount + search.offset)
    mappingsByFirstSlab[first] = Mapping(
      address: address, original: original, byteCount: byteCount, direction: direction,
      slabs: slabs)
    assert(isSound(segment: first / Self.slabsPerSegment))
    return .mapped(address)
  }

  /// Counts the free run that ends before `slab` anew, backwards to the segment's start.
  private func renumberRun(before slab: Int) {
    guard slab % Self.slabsPerSegment != 0 else { return }
    let segmentStart = slab / Self.slabsPerSegment * Self.slabsPerSegment
    var count = freeCounts[slab]
    for slab in (segmentStart..<slab).reversed() {
      guard freeCounts[slab] != 0 else { return }
      count += 1
      freeCounts[slab] = count
    }
  }

  private func slab(of address: PhysicalAddress) -> Int {
    Int((address.rawValue - range.lowerBound.rawValue) / Self.slabByteCount)
  }

  // MARK: Copies

  /// Lets the CPU see what the device wrote; the mapping stays. Nothing happens for `toDevice`.
  ///
  /// - Parameters:
  ///   - address: Any byte of a mapping.
  ///   - byteCount: Bytes from there; all of them of the same mapping.
  public func syncForCPU(_ address: PhysicalAddress, byteCount: UInt64) {
    let (mapping, original) = part(at: address, byteCount: byteCount)
    guard mapping.direction != .toDevice, let original else { return }
    copy(from: address, to: original, byteCount: byteCount)
  }

  /// Lets the device see what the CPU wrote; the mapping stays. Nothing happens for `fromDevice`.
  ///
  /// - Parameters:
  ///   - address: Any byte of a mapping.
  ///   - byteCount: Bytes from there; all of them of the same mapping.
  public func syncForDevice(_ address: PhysicalAddress, byteCount: UInt64) {
    let (mapping, original) = part(at: address, byteCount: byteCount)
    guard mapping.direction != .fromDevice, let original else { return }
    copy(from: original, to: address, byteCount: byteCount)
  }

  /// The mapping that holds these bytes, and where they are in its original.
  private func part(
    at address: PhysicalAddress, byteCount: UInt64
  ) -> (mapping: Mapping, original: PhysicalAddress?) {
    guard let mapping = mapping(containing: address) else {
      preconditionFailure("no bounce mapping holds \(address)")
    }
    precondition(
      byteCount <= mapping.range.upperBound.rawValue - address.rawValue,
      "the bytes to synchronise run past their mapping")
    let offset = address.rawValue - mapping.address.rawValue
    return (mapping, mapping.original.map { PhysicalAddress($0.rawValue + offset) })
  }

  private func copy(
    from source: PhysicalAddress, to destination: PhysicalAddress, byteCount: UInt64
  ) {
    precondition(memory.isBacked(source, byteCount: byteCount), "no RAM to copy from")
    precondition(memory.isBacked(destination, byteCount: byteCount), "no RAM to copy to")
    // Safe: both runs are RAM, and RAM is there as long as its memory.
    guard let bytes = unsafe memory.bytesInPlace(from: source) else { return }
    unsafe memory.write(
      UnsafeRawBufferPointer(rebasing: bytes[..<Int(byteCount)]), at: destination)
  }

  // MARK: Invariants

  /// Whether counters, owners and mappings agree in the whole pool.
  ///
  /// - Complexity: O(slabs).
  func checkInvariants() -> Bool {
    let segments = 0..<(slabCount / Self.slabsPerSegment)
    let used = mappingsByFirstSlab.values.reduce(0) { $0 + $1.slabs.count }
    return segments.allSatisfy(isSound(segment:))
      && used == usedSlabCount && usedSlabCount <= usedSlabHighWater
      && owners.count(where: { $0 >= 0 }) == usedSlabCount && 0..<slabCount ~= hint
  }

  /// Whether each counter of a segment is the free run from its slab on.
  private func isSound(segment: Int) -> Bool {
    var run: UInt8 = 0
    let first = segment * Self.slabsPerSegment
    for slab in (first..<(first + Self.slabsPerSegment)).reversed() {
      run = owners[slab] < 0 ? run + 1 : 0
      guard freeCounts[slab] == run else { return false }
      guard owners[slab] < 0 || mappingsByFirstSlab[Int(owners[slab])]?.slabs.contains(slab) == true
      else { return false }
    }
    return true
  }
}
