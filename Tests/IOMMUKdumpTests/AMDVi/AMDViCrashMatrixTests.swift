import IOMMUFormats
import IOMMUHardware
import IOMMUKdump
import IOMMUTranslation
import Testing

/// What leftover DMA comes to under each way of going on after a crash, through an AMD-Vi unit with
/// registers, commands and caches.
@Suite struct AMDViCrashMatrixTests {
  /// A machine of 8 GiB with a 128 MiB crash kernel at 16 MiB, crashed, and its device going on.
  struct Lab {
    static let device = Device(
      name: "NIC", requester: Requester(bus: 1, device: 0, function: 0))
    static let crashKernel = PhysicalAddress(0x100_0000)..<PhysicalAddress(0x900_0000)
    static let noTarget = PhysicalAddress(0)..<PhysicalAddress(0)

    let map: MemoryMap
    let primary: PrimaryKernel
    var bus: DMABus
    /// Mapped numbers a and f, from the top of 4 GiB down; number c, in the crash kernel's range.
    let a, f: MappedBuffer
    let c: MappedBuffer?
    private var round = 0

    init(
      appliesRule: Bool = false, caches: AMDViCacheConfiguration = .everything,
      fDirection: DMADirection = .bidirectional
    ) throws {
      map = try MemoryMap(
        ram: MemoryMap.ram(byteCount: 8 << 30), crashKernel: [Self.crashKernel])
      primary = try PrimaryKernel(
        MachineConfiguration(
          mode: .amdvi, map: map, devices: [Self.device],
          amdvi: AMDViConfiguration(caches: caches)))
      if appliesRule { try primary.applyRule() }
      let kernel = primary
      func hand(_ page: UInt64, _ direction: DMADirection) throws -> MappedBuffer {
        try kernel.map(
          PhysicalAddress(page)..<PhysicalAddress(page + 4096), for: Self.device,
          direction: direction)
      }
      f = try hand(0x1_5000_1000, fDirection)
      _ = try hand(0x1_6000_0000, .bidirectional)
      a = try hand(0x1_4000_0000, .bidirectional)
      c =
        appliesRule
        ? nil
        : try kernel.map(
          page: PhysicalAddress(0x1_5000_0000), at: IOVA(0x200_0000), for: Self.device,
          direction: .bidirectional)
      bus = primary.makeBus()
    }

    var registers: AMDViUnit { primary.amdviPlatform!.registers(at: AMDViPlatform.base)! }

    func captureKernel(
      _ strategy: AMDViCaptureKernel.Strategy, flushes: Bool = true
    ) throws -> AMDViCaptureKernel {
      try AMDViCaptureKernel(
        strategy, of: Self.device, on: primary.amdviPlatform!, memory: primary.memory,
        crashKernel: [Self.crashKernel], flushes: flushes)
    }

    /// A write of the device, judged by the bytes.
    mutating func write(
      _ iova: IOVA, target: Range<PhysicalAddress>, isKdump: Bool = false
    ) -> (outcome: Outcome, fault: Fault?) {
      round += 1
      let bytes = (0..<64).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ round &* 31 &+ 1) }
      let record = bus.write(bytes, by: Self.device, at: iova)
      let isDelivered =
        target.isEmpty || primary.memory.bytes(at: target.lowerBound, count: 64) == bytes
      return (
        Outcome(
          of: record, target: target, isDelivered: isDelivered, map: map, isKdump: isKdump),
        record.fault
      )
    }

    /// Rows a, b, c and f of the matrix, as words.
    mutating func rows() -> [String] {
      [
        write(a.iova, target: a.target).outcome,
        write(IOVA(0x7000_0000), target: Self.noTarget).outcome,
        write(IOVA(0x200_0000), target: c?.target ?? Self.noTarget).outcome,
        write(f.iova, target: f.target).outcome,
      ].map(\.rawValue)
    }

    /// Where the device's entry lies, from the register that every kernel leaves.
    var entryPlace: PhysicalAddress {
      let register = registers.read(AMDVi.RegisterOffset.deviceTableBase, byteCount: 8)
      return PhysicalAddress(register & 0xf_ffff_ffff_f000 + 0x100 * 32)
    }
  }

  static let caches: [AMDViCacheConfiguration] = [.none, .hardware, .everything]

  @Test func `numbers are handed out from the top of 4 GiB down`() throws {
    let lab = try Lab()
    #expect(lab.f.iova == IOVA(0xffff_f000))
    #expect(lab.a.iova == IOVA(0xffff_d000))
    #expect(lab.c?.iova == IOVA(0x200_0000))
  }

  @Test(arguments: caches)
  func `S1: a blind kernel without the Rule cannot do its own DMA`(
    caches: AMDViCacheConfiguration
  ) throws {
    var lab = try Lab(caches: caches)
    for _ in 1...3 { #expect(lab.rows() == ["OWN", "BLK-F", "OWN", "OWN"]) }
    var kdump = KdumpKernel(crashKernel: [Lab.crashKernel])
    let d = try kdump.map(for: Lab.device, direction: .fromDevice)
    let answer = lab.write(d.iova, target: d.target, isKdump: true)
    #expect(answer.outcome == .blockedRecorded)
    #expect(answer.fault == .amdvi(.entryNotPresent, isRecorded: true))
  }

  @Test(arguments: caches)
  func `S2a: switched off in the crash path, leftover numbers are physical addresses`(
    caches: AMDViCacheConfiguration
  ) throws {
    var lab = try Lab(caches: caches)
    _ = lab.rows()
    let kernel = try lab.captureKernel(.switchOff)
    try kernel.takeOver()
    #expect(lab.rows() == ["MA", "SMEAR", "KILL", "MA"])
    let d = try kernel.map(for: Lab.device, direction: .fromDevice)
    #expect(lab.write(d.iova, target: d.target, isKdump: true).outcome == .own)
  }

  @Test(arguments: caches)
  func `S3: set up anew, the unit is off for a moment, and number f hits the new buffer`(
    caches: AMDViCacheConfiguration
  ) throws {
    var lab = try Lab(caches: caches)
    #expect(lab.rows() == ["OWN", "BLK-F", "OWN", "OWN"])
    let kernel = try lab.captureKernel(.reinitialise)
    var window: [String] = []
    try kernel.takeOver { if $0 == .translationOff { window = lab.rows() } }
    #expect(window == ["MA", "SMEAR", "KILL", "MA"])
    #expect(lab.rows() == ["BLK-F", "BLK-F", "BLK-F", "BLK-F"])
    let blocked = lab.write(lab.a.iova, target: lab.a.target)
    #expect(blocked.fault == .amdvi(.deviceNotPermitted, isRecorded: true))
    let d = try kernel.map(for: Lab.device, direction: .fromDevice)
    #expect(d.iova == lab.f.iova, "both kernels start at the top")
    #expect(lab.write(d.iova, target: d.target, isKdump: true).outcome == .own)
    #expect(lab.rows() == ["BLK-F", "BLK-F", "BLK-F", "KILL"])
  }

  @Test(arguments: caches)
  func `S7: with the Rule all goes on, and a wild access to the range is the price`(
    caches: AMDViCacheConfiguration
  ) throws {
    var lab = try Lab(appliesRule: true, caches: caches)
    #expect(throws: MappingFailure.full("IOVA 0x2000000 of 01:00.0")) {
      try lab.primary.map(
        page: PhysicalAddress(0x1_5000_0000), at: IOVA(0x200_0000), for: Lab.device,
        direction: .bidirectional)
    }
    var kdump = KdumpKernel(crashKernel: [Lab.crashKernel])
    for _ in 1...3 {
      let d = try kdump.map(for: Lab.device, direction: .fromDevice)
      #expect(lab.write(d.iova, target: d.target, isKdump: true).outcome == .own)
      #expect(lab.rows() == ["OWN", "BLK-F", "KILL", "OWN"])
    }
  }

  /// S11 copies, S12 goes on in place; both keep old page tables until a driver maps.
  @Test(arguments: [AMDViCaptureKernel.Strategy.copy, .reuse], caches)
  func `S11 and S12: the old mappings live until a driver maps`(
    strategy: AMDViCaptureKernel.Strategy, caches: AMDViCacheConfiguration
  ) throws {
    var lab = try Lab(caches: caches)
    #expect(lab.rows() == ["OWN", "BLK-F", "OWN", "OWN"])
    let table = lab.registers.read(AMDVi.RegisterOffset.deviceTableBase, byteCount: 8)
    let kernel = try lab.captureKernel(strategy)
    try kernel.takeOver { step in
      if step == .translationOff { Issue.record("translation goes on all the time") }
    }
    #expect(kernel.refusal == nil)
    let now = lab.registers.read(AMDVi.RegisterOffset.deviceTableBase, byteCount: 8)
    #expect((now == table) == (strategy == .reuse))
    #expect(Lab.crashKernel.contains(PhysicalAddress(now & ~0xfff)) == (strategy == .copy))
    #expect(lab.rows() == ["OWN", "BLK-F", "OWN", "OWN"])
    let d = try kernel.map(for: Lab.device, direction: .fromDevice)
    #expect(lab.write(d.iova, target: d.target, isKdump: true).outcome == .own)
    #expect(lab.rows() == ["BLK-F", "BLK-F", "BLK-F", "KILL"])
  }

  @Test func `in place means in the old kernel's memory`() throws {
    for (strategy, isInside) in [(AMDViCaptureKernel.Strategy.copy, true), (.reuse, false)] {
      let lab = try Lab()
      let old = lab.registers.read(AMDVi.RegisterOffset.commandBufferBase, byteCount: 8)
      let kernel = try lab.captureKernel(strategy)
      try kernel.takeOver()
      _ = try kernel.map(for: Lab.device, direction: .fromDevice)
      let new = lab.registers.read(AMDVi.RegisterOffset.commandBufferBase, byteCount: 8)
      #expect((new != old) == isInside)
      // The first command behind the crash: INVALIDATE_IOMMU_ALL.
      let first = PhysicalAddress(new & 0xf_ffff_ffff_f000)
      #expect(lab.primary.memory.quadword(at: first) == 0x8000_0000_0000_0000)
      #expect(Lab.crashKernel.contains(first) == isInside)
      #expect(Lab.crashKernel.contains(lab.entryPlace) == isInside)
    }
  }

  @Test func `S11f: a table of another size is not copied, and the unit is off for a moment`()
    throws
  {
    var lab = try Lab()
    #expect(lab.rows() == ["OWN", "BLK-F", "OWN", "OWN"])
    // As a kernel with fewer buses would have left it.
    let offset = AMDVi.RegisterOffset.deviceTableBase
    let register = lab.registers.read(offset, byteCount: 8)
    lab.registers.write(register & ~0x1ff | 0xff, at: offset, byteCount: 8)
    let kernel = try lab.captureKernel(.copy)
    var window: [String] = []
    try kernel.takeOver { if $0 == .translationOff { window = lab.rows() } }
    #expect(
      kernel.refusal == "the old device table has 1048576 bytes, and 2097152 are expected")
    #expect(window == ["MA", "SMEAR", "KILL", "MA"])
    #expect(lab.rows() == ["BLK-F", "BLK-F", "BLK-F", "BLK-F"])
  }

  @Test func `an interrupt table of another kind keeps all from being copied`() throws {
    let lab = try Lab()
    // IV, IntTabLen 11, IntCtl 10.
    lab.primary.memory.store(
      UInt64(0x2000_0000_0000_0017), at: PhysicalAddress(lab.entryPlace.rawValue + 16))
    let kernel = try lab.captureKernel(.copy)
    try kernel.takeOver()
    #expect(kernel.refusal == "01:00.0 has an interrupt table of another kind")
    // IntTabLen 9 is the one that is expected.
    let good = try Lab()
    good.primary.memory.store(
      UInt64(0x2000_0000_0000_0013), at: PhysicalAddress(good.entryPlace.rawValue + 16))
    let copying = try good.captureKernel(.copy)
    try copying.takeOver()
    #expect(copying.refusal == nil)
  }

  /// Of a device with guest tables the copy keeps V, TV, IR and IW: its numbers are physical addresses.
  @Test func `a copied entry of guest tables lets numbers through`() throws {
    var lab = try Lab(caches: .none)
    let old = lab.primary.memory.quadword(at: lab.entryPlace)!
    // V, TV, mode 0, GV, IR, IW.
    lab.primary.memory.store(UInt64(0x6080_0000_0000_0003), at: lab.entryPlace)
    try lab.captureKernel(.copy).takeOver()
    #expect(old != 0x6000_0000_0000_0003)
    #expect(lab.primary.memory.quadword(at: lab.entryPlace) == 0x6000_0000_0000_0003)
    #expect(lab.rows() == ["MA", "SMEAR", "KILL", "MA"])
  }

  // MARK: What goes wrong

  @Test func `an entry that is replaced without dropping the old domain's pages`() throws {
    // Number f was readable only; the device has read it, so the unit remembers, by the old domain:
    // the new one is another.
    for flushes in [false, true] {
      var lab = try Lab(fDirection: .toDevice)
      _ = lab.bus.read(64, by: Lab.device, at: lab.f.iova)
      let kernel = try lab.captureKernel(.copy, flushes: flushes)
      try kernel.takeOver()
      _ = lab.bus.read(64, by: Lab.device, at: lab.f.iova)
      let d = try kernel.map(for: Lab.device, direction: .fromDevice)
      #expect(d.iova == lab.f.iova)
      #expect(lab.write(d.iova, target: d.target, isKdump: true).outcome == .own)
    }
  }

  @Test func `a damaged leaf of the old kernel sends leftover DMA astray`() throws {
    for (value, outcome) in [
      (UInt64(0x6000_0000_7000_0001), Outcome.smear), (0x6000_0000_0300_0001, .kill),
    ] {
      var lab = try Lab(caches: .none)
      try lab.captureKernel(.copy).takeOver()
      let root = PhysicalAddress(
        lab.primary.memory.quadword(at: lab.entryPlace)! & 0xf_ffff_ffff_f000)
      var place = root
      var observer = Unobserved()
      let walk = AMDVi.HostFormat(levels: 3).walk(
        lab.a.iova.rawValue, from: root, in: lab.primary.memory, observer: &observer)
      place = walk.entryAddress
      lab.primary.memory.store(value, at: place)
      #expect(lab.write(lab.a.iova, target: lab.a.target).outcome == outcome)
    }
  }
}
