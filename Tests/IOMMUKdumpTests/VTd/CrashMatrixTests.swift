import IOMMUFormats
import IOMMUHardware
import IOMMUKdump
import IOMMUTranslation
import Testing

/// What leftover DMA comes to under each way of going on after a crash, through a unit with
/// registers, queue and caches.
@Suite struct CrashMatrixTests {
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
      appliesRule: Bool = false, hasQueue: Bool = false, caches: CacheConfiguration = .everything,
      fDirection: DMADirection = .bidirectional
    ) throws {
      map = try MemoryMap(
        ram: MemoryMap.ram(byteCount: 8 << 30), crashKernel: [Self.crashKernel])
      primary = try PrimaryKernel(
        MachineConfiguration(
          mode: .vtd, map: map, devices: [Self.device],
          vtd: VTdConfiguration(hasInvalidationQueue: hasQueue, caches: caches)))
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

    var registers: RemappingUnit { primary.platform!.registers(at: RemappingPlatform.base)! }

    func captureKernel(
      _ strategy: VTdCaptureKernel.Strategy, flushes: Bool = true
    ) throws -> VTdCaptureKernel {
      try VTdCaptureKernel(
        strategy, of: Self.device, on: primary.platform!, memory: primary.memory,
        crashKernel: [Self.crashKernel], flaws: flushes ? [] : .omitsFlushes)
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
  }

  /// Register interface and queue; no caches, some, and all that the manual allows.
  static let units: [(hasQueue: Bool, caches: CacheConfiguration)] = [
    (false, .none), (false, .hardware), (false, .everything), (true, .none), (true, .hardware),
    (true, .everything),
  ]

  @Test func `numbers are handed out from the top of 4 GiB down`() throws {
    let lab = try Lab()
    #expect(lab.f.iova == IOVA(0xffff_f000))
    #expect(lab.a.iova == IOVA(0xffff_d000))
    #expect(lab.c?.iova == IOVA(0x200_0000))
  }

  @Test(arguments: units)
  func `S1: a blind kernel without the Rule cannot do its own DMA`(
    hasQueue: Bool, caches: CacheConfiguration
  ) throws {
    var lab = try Lab(hasQueue: hasQueue, caches: caches)
    for _ in 1...3 { #expect(lab.rows() == ["OWN", "BLK-F", "OWN", "OWN"]) }
    var kdump = KdumpKernel(crashKernel: [Lab.crashKernel])
    let d = try kdump.map(for: Lab.device, direction: .fromDevice)
    let answer = lab.write(d.iova, target: d.target, isKdump: true)
    #expect(answer.outcome == .blockedRecorded)
    #expect(answer.fault == .vtd(.writeNotPermitted, isRecorded: true))
  }

  @Test func `S1: a number of its own that the old kernel has mapped is an alias`() throws {
    var lab = try Lab()
    var kdump = KdumpKernel(crashKernel: [Lab.crashKernel])
    let d = try kdump.map(for: Lab.device, direction: .fromDevice)
    _ = try lab.primary.map(
      page: PhysicalAddress(0x1_7000_0000), at: d.iova, for: Lab.device,
      direction: .bidirectional)
    #expect(lab.write(d.iova, target: d.target, isKdump: true).outcome == .alias)
  }

  @Test(arguments: units)
  func `S2a: switched off in the crash path, leftover numbers are physical addresses`(
    hasQueue: Bool, caches: CacheConfiguration
  ) throws {
    var lab = try Lab(hasQueue: hasQueue, caches: caches)
    _ = lab.rows()
    try lab.captureKernel(.switchOff).takeOver()
    #expect(lab.rows() == ["MA", "SMEAR", "KILL", "MA"])
    var kdump = KdumpKernel(crashKernel: [Lab.crashKernel])
    let d = try kdump.map(for: Lab.device, direction: .fromDevice)
    #expect(lab.write(d.iova, target: d.target, isKdump: true).outcome == .own)
  }

  @Test(arguments: units)
  func `S2b: switched off, then initialised anew`(
    hasQueue: Bool, caches: CacheConfiguration
  ) throws {
    var lab = try Lab(hasQueue: hasQueue, caches: caches)
    _ = lab.rows()
    try lab.captureKernel(.switchOff).takeOver()
    #expect(lab.rows() == ["MA", "SMEAR", "KILL", "MA"])
    let kernel = try lab.captureKernel(.reinitialise)
    try kernel.takeOver()
    #expect(lab.rows() == ["BLK-F", "BLK-F", "BLK-F", "BLK-F"])
    let d = try kernel.map(for: Lab.device, direction: .fromDevice)
    #expect(lab.write(d.iova, target: d.target, isKdump: true).outcome == .own)
    #expect(lab.rows() == ["BLK-F", "BLK-F", "BLK-F", "KILL"])
  }

  @Test(arguments: units)
  func `S3: new empty tables block until a driver maps, and then number f hits its buffer`(
    hasQueue: Bool, caches: CacheConfiguration
  ) throws {
    var lab = try Lab(hasQueue: hasQueue, caches: caches)
    #expect(lab.rows() == ["OWN", "BLK-F", "OWN", "OWN"])
    let kernel = try lab.captureKernel(.reinitialise)
    try kernel.takeOver()
    #expect(lab.rows() == ["BLK-F", "BLK-F", "BLK-F", "BLK-F"])
    let silent = lab.write(lab.a.iova, target: lab.a.target)
    #expect(silent.fault == .vtd(.rootEntryNotPresent, isRecorded: true))
    let d = try kernel.map(for: Lab.device, direction: .fromDevice)
    #expect(d.iova == lab.f.iova, "both kernels start at the top")
    #expect(lab.write(d.iova, target: d.target, isKdump: true).outcome == .own)
    #expect(lab.rows() == ["BLK-F", "BLK-F", "BLK-F", "KILL"])
  }

  @Test(arguments: units)
  func `S3x: switched off by the kdump kernel, leftover DMA kills it`(
    hasQueue: Bool, caches: CacheConfiguration
  ) throws {
    var lab = try Lab(hasQueue: hasQueue, caches: caches)
    #expect(lab.rows() == ["OWN", "BLK-F", "OWN", "OWN"])
    let kernel = try lab.captureKernel(.switchOff)
    try kernel.takeOver()
    #expect(lab.rows() == ["MA", "SMEAR", "KILL", "MA"])
    let d = try kernel.map(for: Lab.device, direction: .fromDevice)
    #expect(lab.write(d.iova, target: d.target, isKdump: true).outcome == .own)
    #expect(lab.rows() == ["MA", "SMEAR", "KILL", "MA"])
  }

  @Test(arguments: units)
  func `S7: with the Rule all goes on, and a wild access to the range is the price`(
    hasQueue: Bool, caches: CacheConfiguration
  ) throws {
    var lab = try Lab(appliesRule: true, hasQueue: hasQueue, caches: caches)
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

  @Test(arguments: units)
  func `S11: copied contexts keep old mappings alive until a driver maps`(
    hasQueue: Bool, caches: CacheConfiguration
  ) throws {
    var lab = try Lab(hasQueue: hasQueue, caches: caches)
    #expect(lab.rows() == ["OWN", "BLK-F", "OWN", "OWN"])
    let kernel = try lab.captureKernel(.copy)
    try kernel.takeOver()
    #expect(lab.rows() == ["OWN", "BLK-F", "OWN", "OWN"])
    let d = try kernel.map(for: Lab.device, direction: .fromDevice)
    #expect(lab.write(d.iova, target: d.target, isKdump: true).outcome == .own)
    #expect(lab.rows() == ["BLK-F", "BLK-F", "BLK-F", "KILL"])
  }

  @Test(arguments: units)
  func `S11f: tables of another kind are not copied, and the unit is off for a moment`(
    hasQueue: Bool, caches: CacheConfiguration
  ) throws {
    var lab = try Lab(hasQueue: hasQueue, caches: caches)
    #expect(lab.rows() == ["OWN", "BLK-F", "OWN", "OWN"])
    // RTADDR_REG reads as it was written last, not as it was taken over: the kernel takes the
    // tables for ones of scalable mode.
    let offset = VTd.RegisterOffset.rootTableAddress
    let root = lab.registers.read(offset, byteCount: 8)
    lab.registers.write(root | 0x400, at: offset, byteCount: 8)
    let kernel = try lab.captureKernel(.copy)
    var window: [String] = []
    try kernel.takeOver { if $0 == .translationOff { window = lab.rows() } }
    #expect(window == ["MA", "SMEAR", "KILL", "MA"])
    #expect(lab.rows() == ["BLK-F", "BLK-F", "BLK-F", "BLK-F"])
    let d = try kernel.map(for: Lab.device, direction: .fromDevice)
    #expect(lab.write(d.iova, target: d.target, isKdump: true).outcome == .own)
    #expect(lab.rows() == ["BLK-F", "BLK-F", "BLK-F", "KILL"])
  }

  // MARK: What goes wrong

  @Test func `a copied entry that is replaced without a flush leaves the old translation`() throws {
    // Number f was readable only; the device has read it, so the unit remembers.
    for (flushes, caches) in [
      (false, CacheConfiguration.everything), (true, .everything), (false, .none),
    ] {
      var lab = try Lab(caches: caches, fDirection: .toDevice)
      _ = lab.bus.read(64, by: Lab.device, at: lab.f.iova)
      let kernel = try lab.captureKernel(.copy, flushes: flushes)
      try kernel.takeOver()
      _ = lab.bus.read(64, by: Lab.device, at: lab.f.iova)
      let d = try kernel.map(for: Lab.device, direction: .fromDevice)
      #expect(d.iova == lab.f.iova)
      let answer = lab.write(d.iova, target: d.target, isKdump: true)
      if !flushes, caches != .none {
        #expect(answer.fault == .vtd(.writeNotPermitted, isRecorded: true))
      } else {
        #expect(answer.outcome == .own)
      }
    }
  }

  @Test func `new tables without a flush are not seen by a unit that remembers`() throws {
    var lab = try Lab()
    #expect(lab.rows() == ["OWN", "BLK-F", "OWN", "OWN"])
    try lab.captureKernel(.reinitialise, flushes: false).takeOver()
    #expect(lab.rows() == ["OWN", "BLK-F", "OWN", "OWN"], "from the old kernel's tables")
    var forgetful = try Lab(caches: .none)
    try forgetful.captureKernel(.reinitialise, flushes: false).takeOver()
    #expect(forgetful.rows() == ["BLK-F", "BLK-F", "BLK-F", "BLK-F"])
  }

  @Test func `a bus that cannot be copied stays empty`() throws {
    var lab = try Lab()
    // Something has written over the root entry of bus 1.
    guard let unit = lab.primary.machine.units[0].as(VTd.Unit.self) else { return }
    lab.primary.memory.store(UInt64(0x70_0000_0001), at: unit.rootEntryAddress(bus: 1))
    try lab.captureKernel(.copy).takeOver()
    let answer = lab.write(lab.a.iova, target: lab.a.target)
    #expect(answer.fault == .vtd(.rootEntryNotPresent, isRecorded: true))
  }

  @Test func `a damaged leaf of the old kernel sends leftover DMA astray`() throws {
    for (value, outcome) in [(UInt64(0x7000_0003), Outcome.smear), (0x300_0003, .kill)] {
      var lab = try Lab(caches: .none)
      try lab.captureKernel(.copy).takeOver()
      let handle = lab.primary.machine.resolve(Lab.device.requester, in: lab.primary.memory)
      guard case .table(.secondStage(let table)) = handle.route else { return }
      var observer = Unobserved()
      let walk = table.format.walk(
        lab.a.iova.rawValue, from: table.root, in: lab.primary.memory, observer: &observer)
      lab.primary.memory.store(value, at: walk.entryAddress)
      #expect(lab.write(lab.a.iova, target: lab.a.target).outcome == outcome)
    }
  }

  @Test func `the old kernel's faults are gone when the new one has taken over`() throws {
    var lab = try Lab()
    _ = lab.rows()
    let offset = VTd.RegisterOffset.faultStatus
    #expect(lab.registers.read(offset, byteCount: 4) & 2 == 2)
    try lab.captureKernel(.copy).takeOver()
    #expect(lab.registers.read(offset, byteCount: 4) & 3 == 0)
    #expect(lab.write(IOVA(0x7000_0000), target: Lab.noTarget).outcome == .blockedRecorded)
    #expect(lab.registers.read(offset, byteCount: 4) & 2 == 2)
  }
}
