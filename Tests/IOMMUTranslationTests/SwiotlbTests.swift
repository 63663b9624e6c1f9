import IOMMUFormats
import Testing

@testable import IOMMUTranslation

/// 8 GiB with a hole below 4 GiB; costs only what is touched.
private func machine() throws -> FlatMemory {
  try FlatMemory(ram: [
    PhysicalAddress(0)..<PhysicalAddress(0xc000_0000),
    PhysicalAddress(0x1_0000_0000)..<PhysicalAddress(0x2_4000_0000),
  ])
}

private func makePool(
  _ version: BouncePool.Version = .linux2_6_27, byteCount: UInt64 = 64 << 20
) throws -> BouncePool {
  BouncePool(
    memory: try machine(), at: PhysicalAddress(0x0400_0000), byteCount: byteCount,
    version: version)
}

extension FlatMemory {
  fileprivate func put(_ bytes: [UInt8], at address: UInt64) {
    let count = bytes.withUnsafeBytes { write($0, at: PhysicalAddress(address)) }
    precondition(count == bytes.count, "a test writes to RAM")
  }

  fileprivate func get(_ address: UInt64, _ count: Int) -> [UInt8] {
    bytes(at: PhysicalAddress(address), count: count) ?? []
  }
}

extension BouncePool {
  /// From a buffer above 4 GiB that does not matter.
  fileprivate func map(_ byteCount: UInt64, _ limits: DMALimits = DMALimits()) -> Outcome {
    map(
      original: PhysicalAddress(0x1_2000_0000), byteCount: byteCount, direction: .toDevice,
      limits: limits)
  }
}

private func mapped(_ address: UInt64) -> BouncePool.Outcome { .mapped(PhysicalAddress(address)) }

@Suite struct SwiotlbTests {
  // MARK: Slabs

  @Test func `counters of an empty pool count down to the segment's end`() throws {
    let pool = try makePool()
    #expect(pool.slabCount == 32_768)
    #expect([0, 1, 2, 126, 127, 128].map { pool.freeCounts[$0] } == [128, 127, 126, 2, 1, 128])
    #expect(pool.freeCounts[32_767] == 1)
    #expect(pool.checkInvariants())
  }

  @Test func `slots, addresses and counters are those of 2 6 27`() throws {
    let pool = try makePool()
    #expect(pool.map(1000) == mapped(0x0400_0000))
    #expect(pool.map(5000) == mapped(0x0400_1000))
    #expect(pool.map(2048) == mapped(0x0400_2800))
    #expect(pool.mappings.map(\.slabs) == [0..<1, 2..<5, 5..<6])
    #expect(pool.freeCounts[0...6] == [0, 1, 0, 0, 0, 0, 122])
    #expect(pool.hint == 6)
    #expect(pool.usedSlabCount == 5)
    pool.unmap(PhysicalAddress(0x0400_1000))
    #expect(pool.freeCounts[0...6] == [0, 4, 3, 2, 1, 0, 122])
    #expect(pool.usedSlabCount == 2)
    #expect(pool.usedSlabHighWater == 5)
    #expect(pool.map(300_000) == .tooLarge)
    #expect(pool.checkInvariants())
  }

  @Test func `two whole segments take slots 0 and 128`() throws {
    let pool = try makePool()
    #expect(pool.map(262_144) == mapped(0x0400_0000))
    #expect(pool.map(262_144) == mapped(0x0404_0000))
    #expect(pool.mappings.map(\.slabs) == [0..<128, 128..<256])
    #expect(pool.map(262_145) == .tooLarge)
  }

  @Test func `exactly a page is page aligned today but not in 2008`() throws {
    let old = try makePool(.linux2_6_27)
    #expect(old.map(1) == mapped(0x0400_0000))
    #expect(old.map(4096) == mapped(0x0400_0800))
    #expect(old.map(4097) == mapped(0x0400_2000))
    let new = try makePool(.linux7_0)
    #expect(new.map(1) == mapped(0x0400_0000))
    #expect(new.map(4095) == mapped(0x0400_0800))
    #expect(new.map(1) == mapped(0x0400_1800))
    #expect(new.map(1) == mapped(0x0400_2000))
    #expect(new.map(4096) == mapped(0x0400_3000))
  }

  @Test func `the search goes on where it ended and comes round`() throws {
    let pool = try makePool(byteCount: 512 << 10)
    for slab in 0..<256 {
      #expect(pool.map(2048) == mapped(0x0400_0000 + UInt64(slab) * 2048))
    }
    #expect(pool.hint == 0)
    pool.unmap(PhysicalAddress(0x0400_0000))
    pool.unmap(PhysicalAddress(0x0400_5000))
    #expect(pool.map(1) == mapped(0x0400_0000))
    #expect(pool.hint == 1)
    pool.unmap(PhysicalAddress(0x0400_0000))
    // Slot 0 is free again, but slot 10 lies ahead of the hint.
    #expect(pool.map(1) == mapped(0x0400_5000))
    #expect(pool.map(1) == mapped(0x0400_0000))
  }

  @Test func `no mapping crosses into the next segment`() throws {
    let pool = try makePool()
    #expect(pool.map(200_000) == mapped(0x0400_0000))
    // 98 slots are taken, 30 are left in the segment; 31 go to the next one.
    #expect(pool.map(31 * 2048) == mapped(0x0404_0000))
    #expect(pool.freeCounts[97...98] == [0, 30])
    #expect(pool.checkInvariants())
  }

  @Test func `a freed run never merges with the next segment`() throws {
    let pool = try makePool(byteCount: 512 << 10)
    #expect(pool.map(262_144) == mapped(0x0400_0000))
    pool.unmap(PhysicalAddress(0x0400_0000))
    #expect([0, 127, 128].map { pool.freeCounts[$0] } == [128, 1, 128])
    #expect(pool.map(262_144) == mapped(0x0404_0000))
    pool.unmap(PhysicalAddress(0x0404_0000))
    #expect([0, 127, 128, 255].map { pool.freeCounts[$0] } == [128, 1, 128, 1])
  }

  @Test(arguments: BouncePool.Version.allCases)
  func `a full pool fails until something is freed`(version: BouncePool.Version) throws {
    let pool = try makePool(version, byteCount: 1 << 20)
    for slab in 0..<512 { #expect(pool.map(1) == mapped(0x0400_0000 + UInt64(slab) * 2048)) }
    #expect(pool.freeCounts.allSatisfy { $0 == 0 })
    #expect(pool.map(1) == .poolFull)
    #expect(pool.map(262_144) == .poolFull)
    #expect(pool.map(262_145) == .tooLarge)
    pool.unmap(PhysicalAddress(0x0408_1800))
    #expect(pool.map(2049) == .poolFull)
    #expect(pool.map(2048) == mapped(0x0408_1800))
    #expect(pool.usedSlabCount == 512)
    #expect(pool.checkInvariants())
  }

  @Test(arguments: BouncePool.Version.allCases)
  func `positions across the device's boundary are skipped`(version: BouncePool.Version) throws {
    let pool = try makePool(version)
    let limits = DMALimits(segmentBoundaryMask: 0x3fff)
    #expect(pool.map(10_000, limits) == mapped(0x0400_0000))
    // Slots 5 to 7 are left before the boundary at 16 KiB: room for one mapping of two slots.
    #expect(pool.map(4000, limits) == mapped(0x0400_2800))
    #expect(pool.map(4000, limits) == mapped(0x0400_4000))
    #expect(pool.map(0x4000, limits) == mapped(0x0400_8000))
    #expect(pool.map(0x4001, limits) == .tooLarge)
    #expect(pool.checkInvariants())
  }

  @Test func `a boundary counts from address 0 and not from the pool`() throws {
    let pool = BouncePool(
      memory: try machine(), at: PhysicalAddress(0x0400_3000), byteCount: 256 << 10,
      version: .linux2_6_27)
    let limits = DMALimits(segmentBoundaryMask: 0x3fff)
    #expect(pool.map(6000, limits) == mapped(0x0400_4000))
  }

  // MARK: Alignment in Linux 7.0

  @Test func `low bits of the original survive for a device that asks`() throws {
    let pool = try makePool(.linux7_0)
    let limits = DMALimits(minAlignMask: 0xfff)
    let original = PhysicalAddress(0x1_2345_6abc)
    let outcome = pool.map(
      original: original, byteCount: 5000, direction: .toDevice, limits: limits)
    #expect(outcome == mapped(0x0400_0abc))
    #expect(pool.mappings.map(\.slabs) == [1..<4])
    #expect(pool.mapping(containing: PhysicalAddress(0x0400_0abb)) == nil)
    #expect(pool.mapping(containing: PhysicalAddress(0x0400_1e43))?.original == original)
    #expect(pool.mapping(containing: PhysicalAddress(0x0400_1e44)) == nil)
    pool.unmap(PhysicalAddress(0x0400_0abc))
    #expect(pool.freeCounts[0...4] == [128, 127, 126, 125, 124])
  }

  @Test func `the offset costs a slot when it pushes the end over`() throws {
    let pool = try makePool(.linux7_0)
    let limits = DMALimits(minAlignMask: 0xfff)
    let original = PhysicalAddress(0x1_2345_6001)
    #expect(
      pool.map(original: original, byteCount: 2048, direction: .toDevice, limits: limits)
        == mapped(0x0400_0001))
    #expect(pool.mappings[0].slabs == 0..<2)
    #expect(
      pool.map(original: original, byteCount: 262_144, direction: .toDevice, limits: limits)
        == .tooLarge)
    // An odd slot is asked for, and a segment has only 127 from its first one.
    let odd = PhysicalAddress(0x1_2345_6800)
    #expect(
      pool.map(original: odd, byteCount: 262_144, direction: .toDevice, limits: limits)
        == .tooLarge)
  }

  @Test func `a search for odd slots may miss the one before the hint`() throws {
    let pool = try makePool(.linux7_0, byteCount: 256 << 10)
    for _ in 0..<128 { #expect(pool.map(1).address != nil) }
    // Slot 3 is taken anew, so that the search begins at 4, and freed again.
    pool.unmap(PhysicalAddress(0x0400_1800))
    #expect(pool.map(1) == mapped(0x0400_1800))
    #expect(pool.hint == 4)
    pool.unmap(PhysicalAddress(0x0400_1800))
    let odd = PhysicalAddress(0x1_2345_6800)
    let limits = DMALimits(minAlignMask: 0xfff)
    #expect(
      pool.map(original: odd, byteCount: 1, direction: .toDevice, limits: limits) == .poolFull)
    #expect(pool.map(1) == mapped(0x0400_1800))
  }

  @Test func `2 6 27 does not look at the alignment mask`() throws {
    let pool = try makePool(.linux2_6_27)
    let outcome = pool.map(
      original: PhysicalAddress(0x1_2345_6abc), byteCount: 5000, direction: .toDevice,
      limits: DMALimits(minAlignMask: 0xfff))
    #expect(outcome == mapped(0x0400_0000))
  }

  @Test func `drivers are told how much they may map`() throws {
    let asking = DMALimits(minAlignMask: 0xfff)
    #expect(try makePool(.linux2_6_27).largestMapping(limits: asking) == 262_144)
    #expect(try makePool(.linux7_0).largestMapping() == 262_144)
    #expect(try makePool(.linux7_0).largestMapping(limits: asking) == 258_048)
  }

  @Test(
    arguments: [
      (1, 0x4_0000, 0x4_0000), (128, 0x4_0000, 0x4_0000), (129, 0x8_0000, 0x8_0000),
      (300, 0xc_0000, 0x10_0000), (32_768, 0x400_0000, 0x400_0000),
      (131_072, 0x1000_0000, 0x1000_0000),
    ] as [(UInt64, UInt64, UInt64)])
  func `the boot parameter counts slabs`(slabs: UInt64, old: UInt64, new: UInt64) {
    #expect(BouncePool.byteCount(forParameter: slabs, version: .linux2_6_27) == old)
    #expect(BouncePool.byteCount(forParameter: slabs, version: .linux7_0) == new)
  }

  // MARK: Copies

  static let old: [UInt8] = [0xee, 0xee, 0xee, 0xee]
  static let cpu: [UInt8] = [1, 2, 3, 4]
  static let device: [UInt8] = [5, 6, 7, 8]

  struct CopyRule: Sendable {
    let version: BouncePool.Version
    let direction: DMADirection
    /// What each step leaves: in the pool after map, in the original after unmap.
    let pool: [UInt8]
    let original: [UInt8]
  }

  @Test(arguments: [
    CopyRule(version: .linux2_6_27, direction: .toDevice, pool: cpu, original: cpu),
    CopyRule(version: .linux2_6_27, direction: .fromDevice, pool: old, original: device),
    CopyRule(version: .linux2_6_27, direction: .bidirectional, pool: cpu, original: device),
    CopyRule(version: .linux7_0, direction: .toDevice, pool: cpu, original: cpu),
    CopyRule(version: .linux7_0, direction: .fromDevice, pool: cpu, original: device),
    CopyRule(version: .linux7_0, direction: .bidirectional, pool: cpu, original: device),
  ])
  func `map and unmap copy as the direction says`(rule: CopyRule) throws {
    let pool = try makePool(rule.version)
    pool.memory.put(Self.old, at: 0x0400_0000)
    pool.memory.put(Self.cpu, at: 0x1_2345_6ffe)
    let outcome = pool.map(
      original: PhysicalAddress(0x1_2345_6ffe), byteCount: 4, direction: rule.direction)
    #expect(outcome == mapped(0x0400_0000))
    #expect(pool.memory.get(0x0400_0000, 4) == rule.pool)
    pool.memory.put(Self.device, at: 0x0400_0000)
    #expect(pool.memory.get(0x1_2345_6ffe, 4) == Self.cpu)
    pool.unmap(PhysicalAddress(0x0400_0000))
    #expect(pool.memory.get(0x1_2345_6ffd, 6) == [0] + rule.original + [0])
  }

  @Test(arguments: BouncePool.Version.allCases, DMADirection.allCases)
  func `synchronising copies for those who may look`(
    version: BouncePool.Version, direction: DMADirection
  ) throws {
    let pool = try makePool(version)
    _ = pool.map(
      original: PhysicalAddress(0x1_2345_6ffe), byteCount: 4, direction: direction)
    pool.memory.put(Self.device, at: 0x0400_0000)
    pool.syncForCPU(PhysicalAddress(0x0400_0000), byteCount: 4)
    #expect(
      pool.memory.get(0x1_2345_6ffe, 4) == (direction == .toDevice ? [0, 0, 0, 0] : Self.device))
    pool.memory.put(Self.cpu, at: 0x1_2345_6ffe)
    pool.syncForDevice(PhysicalAddress(0x0400_0000), byteCount: 4)
    #expect(
      pool.memory.get(0x0400_0000, 4) == (direction == .fromDevice ? Self.device : Self.cpu))
    #expect(pool.mappings.count == 1)
  }

  @Test func `part of a mapping is synchronised across slabs and with an offset`() throws {
    let pool = try makePool(.linux7_0)
    _ = pool.map(
      original: PhysicalAddress(0x1_2345_6abc), byteCount: 5000, direction: .bidirectional,
      limits: DMALimits(minAlignMask: 0xfff))
    // Bytes 1,346 to 1,349 of the mapping: two in its first slab, two in its second.
    pool.memory.put(Self.device, at: 0x0400_0ffe)
    pool.syncForCPU(PhysicalAddress(0x0400_0ffe), byteCount: 3)
    #expect(pool.memory.get(0x1_2345_6ffd, 6) == [0, 5, 6, 7, 0, 0])
    pool.memory.put(Self.cpu, at: 0x1_2345_6ffe)
    pool.syncForDevice(PhysicalAddress(0x0400_0fff), byteCount: 2)
    #expect(pool.memory.get(0x0400_0ffd, 6) == [0, 5, 2, 3, 8, 0])
  }

  @Test func `a short write shows old pool bytes in 2008 and the original's today`() throws {
    for (version, expected) in [
      (BouncePool.Version.linux2_6_27, [5, 6, 0xee, 0xee]), (.linux7_0, [5, 6, 3, 4]),
    ] as [(BouncePool.Version, [UInt8])] {
      let pool = try makePool(version)
      pool.memory.put(Self.old, at: 0x0400_0000)
      pool.memory.put(Self.cpu, at: 0x1_0000_0001)
      _ = pool.map(original: PhysicalAddress(0x1_0000_0001), byteCount: 4, direction: .fromDevice)
      pool.memory.put([5, 6], at: 0x0400_0000)
      pool.unmap(PhysicalAddress(0x0400_0000))
      #expect(pool.memory.get(0x1_0000_0001, 4) == expected)
    }
  }

  @Test func `DMA into a released slot changes the pool alone`() throws {
    let pool = try makePool()
    pool.memory.put(Self.cpu, at: 0x1_0000_0000)
    _ = pool.map(original: PhysicalAddress(0x1_0000_0000), byteCount: 4, direction: .bidirectional)
    pool.unmap(PhysicalAddress(0x0400_0000))
    pool.memory.put(Self.device, at: 0x0400_0000)
    #expect(pool.memory.get(0x1_0000_0000, 4) == Self.cpu)
  }

  // MARK: The kernel's calls

  private func fill(_ pool: BouncePool) {
    while pool.map(262_144).address != nil {}
  }

  private let high = PhysicalAddress(0x1_0000_0000)

  private func buffer(_ byteCount: UInt64) -> Range<PhysicalAddress> {
    high..<PhysicalAddress(high.rawValue + byteCount)
  }

  @Test func `a reached buffer is handed out as it is, unless bouncing is forced`() throws {
    let pool = try makePool()
    let low = PhysicalAddress(0x1000)..<PhysicalAddress(0x2000)
    #expect(pool.mapSingle(low, direction: .toDevice) == .direct(PhysicalAddress(0x1000)))
    pool.unmapSingle(PhysicalAddress(0x1000))
    pool.isForced = true
    #expect(pool.mapSingle(low, direction: .toDevice) == .bounced(PhysicalAddress(0x0400_0000)))
    pool.unmapSingle(PhysicalAddress(0x0400_0000))
    #expect(pool.usedSlabCount == 0)
  }

  @Test func `a buffer across the limit is missed until the rule of 2 6 28`() throws {
    let memory = try FlatMemory(byteCount: 1 << 33)
    let pool = BouncePool(
      memory: memory, at: PhysicalAddress(0x0400_0000), byteCount: 1 << 20, version: .linux2_6_27)
    let across = PhysicalAddress(0xffff_f000)..<PhysicalAddress(0x1_0000_1000)
    #expect(
      pool.mapSingle(across, direction: .fromDevice) == .direct(PhysicalAddress(0xffff_f000)))
    pool.rule = .swiotlbLinux2_6_28
    #expect(
      pool.mapSingle(across, direction: .fromDevice) == .bounced(PhysicalAddress(0x0400_0000)))
  }

  @Test func `a full pool hands out the overflow buffer up to 32 KiB`() throws {
    let pool = try makePool(byteCount: 1 << 20)
    fill(pool)
    for direction in DMADirection.allCases {
      let answer = pool.mapSingle(buffer(32_768), direction: direction)
      #expect(answer == .overflow(PhysicalAddress(0x0410_0000)))
      #expect(answer.isError)
    }
    // Nothing was copied there, and nothing is undone.
    #expect(pool.usedSlabCount == 512)
    pool.unmapSingle(PhysicalAddress(0x0410_0000))
    #expect(pool.usedSlabCount == 512)
  }

  @Test func `beyond 32 KiB the kernel stops and says what would have happened`() throws {
    let pool = try makePool(byteCount: 1 << 20)
    fill(pool)
    #expect(
      pool.mapSingle(buffer(32_769), direction: .toDevice) == .panic(.deviceWouldReadRandomMemory))
    #expect(
      pool.mapSingle(buffer(32_769), direction: .fromDevice) == .panic(.deviceWouldCorruptMemory))
    #expect(
      pool.mapSingle(buffer(32_769), direction: .bidirectional)
        == .panic(.deviceWouldCorruptMemory))
  }

  @Test func `more than a segment stops even an empty pool of 2008`() throws {
    let pool = try makePool()
    #expect(
      pool.mapSingle(buffer(262_145), direction: .toDevice) == .panic(.deviceWouldReadRandomMemory)
    )
    #expect(
      try makePool(.linux7_0).mapSingle(buffer(262_145), direction: .toDevice) == .error)
  }

  @Test func `a full pool of today is an error of any size`() throws {
    let pool = try makePool(.linux7_0, byteCount: 1 << 20)
    fill(pool)
    #expect(pool.overflowBuffer == nil)
    #expect(pool.mapSingle(buffer(1), direction: .fromDevice) == .error)
    #expect(pool.mapSingle(buffer(100_000), direction: .fromDevice) == .error)
  }

  @Test func `a pool beyond the device is a panic in 2008 and an error today`() throws {
    let narrow = DMALimits(mask: 0xff_ffff)
    let old = try makePool(.linux2_6_27)
    #expect(
      old.mapSingle(buffer(4), direction: .fromDevice, limits: narrow) == .panic(.poolOutOfReach))
    let new = try makePool(.linux7_0)
    new.memory.put(Self.cpu, at: high.rawValue)
    #expect(new.mapSingle(buffer(4), direction: .fromDevice, limits: narrow) == .error)
    #expect(new.usedSlabCount == 0)
    #expect(new.memory.get(high.rawValue, 4) == Self.cpu)
  }

  @Test(arguments: BouncePool.Version.allCases)
  func `a list that does not fit is undone`(version: BouncePool.Version) throws {
    let pool = try makePool(version, byteCount: 512 << 10)
    let low = PhysicalAddress(0x1000)..<PhysicalAddress(0x2000)
    let list = pool.map(list: [low, buffer(262_144)], direction: .fromDevice)
    #expect(list == [PhysicalAddress(0x1000), PhysicalAddress(0x0400_0000)])
    pool.memory.put(Self.cpu, at: 0x1_1000_0000)
    let other = PhysicalAddress(0x1_1000_0000)..<PhysicalAddress(0x1_1000_0004)
    pool.memory.put(Self.old, at: 0x0404_0000)
    #expect(pool.map(list: [other, low, buffer(262_144)], direction: .fromDevice) == nil)
    #expect(pool.usedSlabCount == 128)
    // The ordinary unmap of 2008 brings stale pool bytes to the original.
    #expect(
      pool.memory.get(0x1_1000_0000, 4) == (version == .linux2_6_27 ? Self.old : Self.cpu))
  }

  @Test func `coherent memory from the pool is zeroed and has no original`() throws {
    let pool = try makePool(byteCount: 1 << 20)
    pool.memory.put(Self.old, at: 0x0400_0000)
    let address = PhysicalAddress(0x0400_0000)
    #expect(pool.allocateCoherent(byteCount: 4096) == .bounced(address))
    #expect(pool.memory.get(0x0400_0000, 4) == [0, 0, 0, 0])
    pool.syncForCPU(address, byteCount: 4096)
    pool.unmap(address)
    #expect(pool.allocateCoherent(byteCount: 1, mask: 0xff_ffff) == .panic(.coherentOutOfReach))
    fill(pool)
    while pool.map(1).address != nil {}
    #expect(pool.allocateCoherent(byteCount: 4096) == .error)
    #expect(pool.allocateCoherent(byteCount: 32_769) == .panic(.deviceWouldCorruptMemory))
    #expect(try makePool(.linux7_0).allocateCoherent(byteCount: 4096) == .error)
  }

  // MARK: Misuse

  @Test func `unmapping what is not mapped stops the program`() async {
    await #expect(processExitsWith: .failure) {
      try makePool().unmap(PhysicalAddress(0x0400_0000))
    }
  }

  @Test func `unmapping the middle of a mapping stops the program`() async {
    await #expect(processExitsWith: .failure) {
      let pool = try makePool()
      _ = pool.map(5000)
      pool.unmap(PhysicalAddress(0x0400_0800))
    }
  }

  @Test func `synchronising past the end stops the program`() async {
    await #expect(processExitsWith: .failure) {
      let pool = try makePool()
      _ = pool.map(5000)
      pool.syncForDevice(PhysicalAddress(0x0400_0001), byteCount: 5000)
    }
  }

  @Test func `bouncing a buffer in the hole stops the program`() async {
    await #expect(processExitsWith: .failure) {
      _ = try makePool().map(
        original: PhysicalAddress(0xbfff_ffff), byteCount: 2, direction: .fromDevice)
    }
  }
}

/// The pool against an allocator that knows nothing but which slabs are taken.
@Suite struct SwiotlbReferenceTests {
  /// Slabs as a row of booleans, looked through one by one.
  private struct Reference {
    var isUsed: [Bool]
    var hint = 0

    /// Every position where a mapping fits, nearest to the hint first.
    func positions(slabCount: Int, isAligned: (Int) -> Bool) -> [Int] {
      (0..<isUsed.count).map { (hint + $0) % isUsed.count }.filter { first in
        first % 128 + slabCount <= 128 && isAligned(first)
          && !isUsed[first..<(first + slabCount)].contains(true)
      }
    }

    mutating func take(_ slabs: Range<Int>) {
      for slab in slabs { isUsed[slab] = true }
      hint = slabs.upperBound % isUsed.count
    }

    mutating func free(_ slabs: Range<Int>) { for slab in slabs { isUsed[slab] = false } }
  }

  private func slice(of noise: [UInt8], _ count: Int, _ random: inout SeededGenerator) -> [UInt8] {
    let start = Int.random(in: 0...(noise.count - count), using: &random)
    return Array(noise[start..<(start + count)])
  }

  private struct Live {
    let address: PhysicalAddress
    let original: PhysicalAddress
    let slabs: Range<Int>
    let direction: DMADirection
    let bytes: [UInt8]
    let lane: Int
  }

  @Test(
    arguments: [
      (.linux2_6_27, 0), (.linux2_6_27, 0xfff), (.linux7_0, 0), (.linux7_0, 0xfff),
    ] as [(BouncePool.Version, UInt64)], seeds)
  func `any sequence of maps and unmaps agrees with the slow allocator`(
    pool: (version: BouncePool.Version, minAlignMask: UInt64), seed: UInt64
  ) throws {
    let (version, minAlignMask) = pool
    var random = SeededGenerator(seed: seed)
    let memory = try FlatMemory(byteCount: 1 << 29)
    let pool = BouncePool(
      memory: memory, at: PhysicalAddress(0x3000), byteCount: 1 << 20, version: version)
    var reference = Reference(isUsed: Array(repeating: false, count: 512))
    var live: [Live] = []
    var lanes = Array(0..<512)
    var failureCount = 0
    let limits = DMALimits(minAlignMask: minAlignMask)
    let mask = version == .linux7_0 ? minAlignMask : 0

    let noise = (0..<(1 << 19)).map { _ in UInt8.random(in: 0 ... .max, using: &random) }

    for _ in 0..<2000 {
      if live.isEmpty || (!lanes.isEmpty && Int.random(in: 0..<100, using: &random) < 54) {
        let most = [100, 5000, 20_000, 262_144][Int.random(in: 0..<4, using: &random)]
        let byteCount = Int.random(in: 1...most, using: &random)
        // Half a MiB for each buffer, so that none touches another.
        let lane = lanes[Int.random(in: 0..<lanes.count, using: &random)]
        let original = PhysicalAddress(
          0x100_0000 + UInt64(lane) * 0x8_0000 + .random(in: 1..<0x2_0000, using: &random))
        let direction = DMADirection.allCases.randomElement(using: &random)!
        let bytes = slice(of: noise, byteCount, &random)
        memory.put(bytes, at: original.rawValue)

        let offset = Int(original.rawValue & mask & 2047)
        let slabCount = (byteCount + offset + 2047) / 2048
        let pageAligned = version == .linux7_0 ? byteCount >= 4096 : byteCount > 4096
        let fits = reference.positions(slabCount: slabCount) { first in
          mask != 0
            ? UInt64(first % 2) == original.rawValue >> 11 & 1
            : !pageAligned || first % 2 == 0
        }
        let outcome = pool.map(
          original: original, byteCount: UInt64(byteCount), direction: direction, limits: limits)
        guard let address = outcome.address else {
          failureCount += 1
          memory.zero(at: original, byteCount: UInt64(byteCount))
          // 7.0 may miss the position before the hint when a mask asks for odd slabs.
          #expect(fits.allSatisfy { mask != 0 && $0 == reference.hint - 1 })
          continue
        }
        let first = try #require(fits.first)
        let slabs = first..<(first + slabCount)
        #expect(address.rawValue == 0x3000 + UInt64(first * 2048 + offset))
        #expect(pool.mapping(containing: address)?.slabs == slabs)
        if version == .linux7_0 || direction != .fromDevice {
          #expect(memory.get(address.rawValue, byteCount) == bytes)
        }
        reference.take(slabs)
        lanes.removeAll { $0 == lane }
        live.append(
          Live(
            address: address, original: original, slabs: slabs, direction: direction,
            bytes: bytes, lane: lane))
      } else {
        let ended = live.remove(at: Int.random(in: 0..<live.count, using: &random))
        let count = ended.bytes.count
        let written = slice(of: noise, count, &random)
        memory.put(written, at: ended.address.rawValue)
        pool.unmap(ended.address)
        let expected = ended.direction == .toDevice ? ended.bytes : written
        #expect(memory.get(ended.original.rawValue, count) == expected)
        memory.zero(at: ended.original, byteCount: UInt64(count))
        // Neither neighbour of the original was touched.
        #expect(memory.get(ended.original.rawValue - 1, 1) == [0])
        #expect(memory.get(ended.original.rawValue + UInt64(count), 1) == [0])
        reference.free(ended.slabs)
        lanes.append(ended.lane)
      }
      #expect(pool.hint == reference.hint)
      #expect(pool.freeCounts.map { $0 == 0 } == reference.isUsed)
      #expect(pool.checkInvariants())
    }
    #expect(failureCount > 0)
    for mapping in live { pool.unmap(mapping.address) }
    #expect(pool.freeCounts == (0..<512).map { UInt8(128 - $0 % 128) })
    #expect(pool.usedSlabCount == 0)
  }
}
