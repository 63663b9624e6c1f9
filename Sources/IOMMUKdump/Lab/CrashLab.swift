import IOMMUFormats
import IOMMURule
import IOMMUTranslation

/// A machine of the crash lab: its primary kernel at work, then its crash, then the kernel after it.
///
/// What devices do goes on through all of it. Each access carries a pattern of its own, and what it came to
/// is decided by where these bytes are afterwards, and by what the hardware has recorded.
public final class CrashLab {
  public let setup: CrashSetup
  public let primary: PrimaryKernel
  private let hardware: any CrashHardware
  /// Streams that go on after the crash, in the order in which they began.
  public private(set) var streams: [LeftoverStream] = []
  /// What the Rule took; `nil` where it was not applied.
  public private(set) var setUp: SetUpReport?
  public private(set) var bus: DMABus
  private var owners: MemoryOwners
  private var steps: [LabStep] = []
  /// Milliseconds after the crash.
  private var time: Double = 0
  /// The primary kernel does nothing any more.
  private var hasCrashed = false
  /// Devices that are at rest.
  private var silent: Set<Requester> = []
  /// Whether R1 to R13 are looked at in the end, where the Rule was applied.
  var checksRule = true
  /// The most bytes of one access.
  var accessLimit: UInt64 = .max
  /// The page of the capture kernel's first buffer; `nil` for any.
  var firstPage: PhysicalAddress?
  /// Run just before the capture kernel's IOMMU code, and just after it.
  var beforeTakeOver: () -> Void = {}
  var afterTakeOver: () -> Void = {}
  private var failure: String?
  /// The capture kernel has handed out a number that leftover DMA of the same device, or of one with the
  /// same table, still used.
  private(set) var hasCollision = false
  private var patterns = PatternSource()

  /// Milliseconds of a moment between two stores of a kernel. *Assumed*.
  public static let momentDuration = 0.01

  /// Boots the primary kernel of a machine, and does what the strategy wants done in advance.
  ///
  /// - Precondition: the unit has the strategy.
  /// - Throws: where the machine cannot be, or the Rule cannot be kept on it.
  public convenience init(_ setup: CrashSetup) throws(SetUpError) {
    try self.init(setup, hardware: setup.unit.hardware)
  }

  /// The same on hardware that is a little other than the unit's usual.
  init(_ setup: CrashSetup, hardware: any CrashHardware) throws(SetUpError) {
    precondition(
      setup.unit.strategies.contains(setup.strategy), "a strategy is played where it belongs")
    self.setup = setup
    self.hardware = hardware
    primary = try hardware.boot(setup)
    owners = MemoryOwners(map: setup.machine.map)
    bus = primary.makeBus()
    switch setup.strategy {
    case .rule, .ruleForDevices: setUp = try primary.applyRule()
    case .ruleForPages: setUp = try primary.applyRule(to: setup.pagesForIO)
    case .reservation: try primary.reserveCrashKernelNumbers()
    default: break
    }
  }

  // MARK: The primary kernel

  /// Adds a stream, and says whose memory it is meant for.
  public func add(_ stream: LeftoverStream) {
    if let target = stream.target {
      owners.add(target, "\(stream.device.name)'s \(stream.source.rawValue)")
    }
    streams.append(stream)
  }

  /// Maps a buffer for a device of the primary kernel and adds what the device does there.
  ///
  /// - Returns: The buffer; `nil` where the kernel could not map one.
  @discardableResult
  public func start(_ source: TrafficSource, of device: Device) -> MappedBuffer? {
    guard
      let buffer = try? primary.mapNewBuffer(
        byteCount: source.byteCount, for: device, direction: source.direction)
    else { return nil }
    add(stream(source, of: device, in: buffer))
    return buffer
  }

  /// What a device does in a buffer, as far as ``accessLimit`` lets it.
  func stream(
    _ source: TrafficSource, of device: Device, in buffer: MappedBuffer,
    direction: DMADirection? = nil
  ) -> LeftoverStream {
    let count = min(buffer.byteCount, accessLimit)
    return LeftoverStream(
      device: device, source: source, iova: buffer.iova..<IOVA(buffer.iova.rawValue + count),
      direction: direction,
      target: buffer.target.lowerBound..<PhysicalAddress(buffer.target.lowerBound.rawValue + count))
  }

  /// The drivers of the primary kernel start: every device does what it has sources for.
  public func startDevices() {
    for device in setup.machine.devices {
      for source in device.sources where source != .wild {
        if let memory = device.firmwareMemory, source == .mailbox || source == .statusPage {
          startInFirmwareMemory(source, of: device.device, memory)
          continue
        }
        let buffer = start(source, of: device.device)
        // A unit that lets everything of a device pass takes no translated requests from it.
        if source == .translatedRequests, setup.strategy != .passThrough, let buffer {
          streams[streams.count - 1].translated = buffer.target.lowerBound
        }
      }
    }
  }

  /// What firmware has a device do goes to firmware's memory, under its own number.
  private func startInFirmwareMemory(
    _ source: TrafficSource, of device: Device, _ memory: Range<PhysicalAddress>
  ) {
    for page in stride(from: memory.lowerBound.rawValue, to: memory.upperBound.rawValue, by: 4096) {
      // Without tables, the number is the address; a table that has the number for something else keeps it.
      _ = try? primary.map(
        page: PhysicalAddress(page), at: IOVA(page), for: device, direction: .bidirectional)
    }
    let target =
      memory.lowerBound..<PhysicalAddress(memory.lowerBound.rawValue + source.byteCount)
    add(
      LeftoverStream(
        device: device, source: source, iova: target.mapBounds(to: IOVA.self), target: target))
  }

  // MARK: The crash

  /// Plays the crash, from the primary kernel's last second to the dump.
  public func play() -> LabRun { play(atCrash: {}) }

  /// Plays the crash, and lets somebody look at the machine in the middle.
  ///
  /// - Parameter look: Called at the moment of the crash, when memory is as the primary kernel leaves it.
  /// - Throws: What `look` does.
  public func play<Failure: Error>(
    atCrash look: () throws(Failure) -> Void
  ) throws(Failure) -> LabRun {
    step(.normal, "the primary kernel runs", lasts: 1000)
    time = 0
    hasCrashed = true
    try look()
    do {
      try crash()
    } catch {
      failure = "\(error)"
      step(.driverless, "the capture kernel has given up", lasts: 1000)
    }
    return LabRun(
      strategy: setup.strategy, unit: setup.unit, steps: steps, failure: failure,
      verdicts: verdicts(), strayByteCount: steps.strayByteCount)
  }

  private func crash() throws(SetUpError) {
    transition {
      primary.kexec()
      switch setup.strategy {
      case .offAndBlind, .offAndAnew: primary.switchOff()
      case .busMasterOff: silent = Set(setup.machine.devices.map(\.device.requester))
      default: break
      }
    }
    step(.panicked, "the crash, the other kernel boots", lasts: setup.machine.panicDuration)
    let capture = try hardware.captureKernel(setup, after: primary)
    beforeTakeOver()
    let flights = launch()
    try capture.takeOver { moment in
      step(.panicked, moment.rawValue, lasts: Self.momentDuration, momentary: moment)
    }
    land(flights, phase: .waiting)
    afterTakeOver()
    if setup.strategy == .resetLinks {
      for device in setup.machine.devices where !device.isIntegrated {
        silent.insert(device.device.requester)
      }
    }
    step(.waiting, "no driver yet", lasts: setup.machine.bootDuration)
    drive(capture)
    if setup.machine.devices.contains(where: { !$0.hasDriver }) {
      step(.driverless, "devices that get no driver", lasts: setup.machine.dumpDuration) { device in
        !device.hasDriver
      }
    }
  }

  /// Drivers start, one device after the other, and do the kernel's I/O.
  private func drive(_ capture: any CaptureKernel) {
    for device in setup.machine.devices where device.hasDriver {
      let requester = device.device.requester
      // What shares the device's domain is looked at with it.
      let domain = device.device.domainKey
      if device.reset == .byDriver { silent.insert(requester) }
      let flights = launch { $0.domainKey == domain }
      let first = buffer(for: device.device, .fromDevice, page: firstPage, from: capture) {
        moment in
        self.step(.driven, moment.rawValue, lasts: Self.momentDuration, momentary: moment) {
          $0.device.domainKey == domain
        }
      }
      land(flights, phase: .driven)
      if let first {
        hasCollision =
          hasCollision
          || streams.contains {
            $0.target != nil && primary.shareNumbers($0.device, device.device) && goesOn($0)
              && $0.iova.overlaps(first.iovas)
          }
      }
      if let first { exercise(first, capture) }
      let title = device.reset == .byDriver ? "mapped" : "mapped, not reset"
      step(.driven, "\(device.device.name): \(title)", lasts: 1) {
        primary.shareNumbers($0.device, device.device)
      }
      // Of others that draw from the same numbers, what goes wrong.
      steps[steps.count - 1].accesses.removeAll {
        $0.device.domainKey != domain && $0.outcome == .own
      }
      if device.reset == .afterMapping { silent.insert(requester) }
      doIO(device.device, first, capture)
    }
  }

  /// A driver maps and frees buffers until a number comes up that leftover DMA still uses, where the
  /// strategy hands freed numbers out again.
  private func exercise(_ first: MappedBuffer, _ capture: any CaptureKernel) {
    guard setup.strategy == .reuseTablesFreeing || setup.strategy == .reuseWithFloorFreeing else {
      return
    }
    // Others are in use in the old table, and never come up.
    let wanted = streams.filter {
      $0.target == nil && $0.device.domainKey == first.device.domainKey
    }.map(\.iova)
    guard !wanted.isEmpty, !wanted.contains(where: { $0.overlaps(first.iovas) }) else { return }
    // Twice round the largest table there is, at most.
    for _ in 0..<(2 << 20) {
      guard
        let buffer = try? capture.map(
          for: first.device, direction: .fromDevice, page: first.buffer.lowerBound,
          observing: { _ in })
      else { return }
      guard !wanted.contains(where: { $0.overlaps(buffer.iovas) }) else {
        owners.add(buffer.target, "the capture kernel's \(first.device.name) buffer")
        return
      }
      capture.unmap(buffer)
    }
  }

  private func buffer(
    for device: Device, _ direction: DMADirection, page: PhysicalAddress? = nil,
    from capture: any CaptureKernel, observing observe: (CaptureStep) -> Void = { _ in }
  ) -> MappedBuffer? {
    guard
      let buffer = try? capture.map(
        for: device, direction: direction, page: page, observing: observe)
    else { return nil }
    owners.add(buffer.target, "the capture kernel's \(device.name) buffer")
    return buffer
  }

  /// The capture kernel's own I/O with a device: a write and a read of it.
  private func doIO(
    _ device: Device, _ first: MappedBuffer?, _ capture: any CaptureKernel
  ) {
    let second = buffer(for: device, .toDevice, from: capture)
    var accesses: [LabAccess] = []
    for (buffer, direction) in [(first, DMADirection.fromDevice), (second, .toDevice)] {
      guard let buffer else {
        accesses.append(
          LabAccess(
            owner: .kdump, device: device, source: nil, row: nil, direction: direction,
            iova: IOVA(0)..<IOVA(0), outcome: .notMapped, fault: nil, reached: [],
            changedByteCount: 0, victim: nil, expectedCount: 1))
        continue
      }
      let stream = LeftoverStream(
        device: device, source: .storageCommand, iova: buffer.iovas, direction: direction,
        target: buffer.target)
      accesses.append(access(stream, count: 1, isKdump: true))
    }
    steps.append(
      LabStep(
        phase: .driven, title: "\(device.name): the capture kernel's own I/O", start: time,
        duration: 1, momentary: nil, accesses: accesses))
    time += 1
  }

  // MARK: Steps

  /// The device is not at rest, and what it does is not over by itself.
  private func goesOn(_ stream: LeftoverStream) -> Bool {
    !silent.contains(stream.device.requester) && (stream.lasts.map { time <= $0 } ?? true)
  }

  /// The machine stays as it is for a while, and devices go on.
  private func step(
    _ phase: CrashPhase, _ title: String, lasts duration: Double, momentary: CaptureStep? = nil,
    of isMeant: (CrashDevice) -> Bool = { _ in true }
  ) {
    var step = LabStep(
      phase: phase, title: title, start: time, duration: duration, momentary: momentary)
    let devices = setup.machine.devices.filter(isMeant)
    for stream in streams {
      guard devices.contains(where: { $0.device == stream.device }),
        phase == .normal || goesOn(stream)
      else { continue }
      let end = stream.lasts.map { min(duration, max(0, $0 - time)) } ?? duration
      let isBefore = phase == .normal
      step.accesses.append(
        access(stream, count: (isBefore ? duration : end) / stream.period, isKdump: false))
    }
    steps.append(step)
    time += duration
  }

  /// Something happens to the hardware while writes are on their way.
  private func transition(_ change: () -> Void) {
    let flights = launch()
    change()
    land(flights, phase: .panicked)
  }

  private typealias Flight = (stream: LeftoverStream, flight: DMAInFlight)

  /// Every stream that writes sends one more request.
  private func launch(of isMeant: (Device) -> Bool = { _ in true }) -> [Flight] {
    streams.compactMap { stream in
      guard stream.direction != .toDevice, stream.translated == nil, isMeant(stream.device),
        goesOn(stream)
      else { return nil }
      return (
        stream,
        bus.start(
          patterns.next(count: stream.iova.byteCount), by: stream.device,
          at: stream.iova.lowerBound)
      )
    }
  }

  /// Their data arrives.
  private func land(_ flights: [Flight], phase: CrashPhase) {
    guard !flights.isEmpty else { return }
    var step = LabStep(
      phase: phase, title: "begun before, done after", start: time, duration: 0, momentary: nil)
    for (stream, flight) in flights {
      var access = judge(
        bus.finish(flight), stream, sent: flight.bytes, count: 0, isKdump: false)
      access.isStraddling = true
      step.accesses.append(access)
    }
    steps.append(step)
  }

  /// One access, as the device does it now.
  private func access(_ stream: LeftoverStream, count: Double, isKdump: Bool) -> LabAccess {
    var bytes = patterns.next(count: stream.iova.byteCount)
    if let physical = stream.translated {
      return judge(
        bus.write(bytes, by: stream.device, translated: physical), stream, sent: bytes,
        count: count, isKdump: isKdump)
    }
    guard stream.direction != .toDevice else {
      if let target = stream.target {
        // A kernel that runs puts there what is to be read; of one that has crashed it is still there.
        if hasCrashed, !isKdump {
          bytes = bus.memory.bytes(at: target.lowerBound, count: bytes.count) ?? bytes
        } else {
          bus.memory.write(bytes, at: target.lowerBound)
        }
      }
      return judge(
        bus.read(bytes.count, by: stream.device, at: stream.iova.lowerBound), stream, sent: bytes,
        count: count, isKdump: isKdump)
    }
    return judge(
      bus.write(bytes, by: stream.device, at: stream.iova.lowerBound), stream, sent: bytes,
      count: count, isKdump: isKdump)
  }

  private func judge(
    _ record: DMARecord, _ stream: LeftoverStream, sent bytes: [UInt8], count: Double,
    isKdump: Bool
  ) -> LabAccess {
    let target = stream.target ?? PhysicalAddress(0)..<PhysicalAddress(0)
    let isDelivered =
      record.access == .read
      ? record.bytesRead == bytes
      : stream.target.map { bus.memory.holds(bytes, at: $0.lowerBound) } ?? true
    let outcome = Outcome(
      of: record, target: target, isDelivered: isDelivered, map: setup.machine.map,
      isKdump: isKdump)
    let reached = record.hits.compactMap(\.physical)
    let victim = outcome == .own ? nil : reached.first.map(owners.owner(of:))
    return LabAccess(
      owner: isKdump ? .kdump : .leftover, device: stream.device,
      source: isKdump ? nil : stream.source, row: stream.row, direction: stream.direction,
      iova: stream.iova, outcome: outcome, fault: record.fault, reached: reached,
      changedByteCount: record.hits.reduce(0) { $0 + $1.changedByteCount }, victim: victim,
      expectedCount: count)
  }

  // MARK: The verdict

  private func verdicts() -> [RuleVerdict] {
    guard checksRule, setup.unit.isHardware, setup.strategy.isRule else { return [] }
    return RuleCheck(evidence: primary.evidence(), memory: primary.memory).all()
  }
}

extension CrashSetup {
  /// A capture kernel that knows of no hardware; with bounce buffers where its memory lies above 4 GiB.
  func blindKernel(_ memory: FlatMemory) throws(SetUpError) -> any CaptureKernel {
    let ranges = strategy == .ruleForPages ? pagesForIO : machine.map.crashKernel
    return ranges.contains { $0.upperBound.rawValue > 1 << 32 }
      ? try BouncingKernel(ranges, memory: memory) : BlindKernel(ranges)
  }

  /// The part of the crash kernel that is mapped to itself where not all of it is: the second half of
  /// each range, where the capture kernel of this strategy takes its buffers.
  var pagesForIO: [Range<PhysicalAddress>] {
    machine.map.crashKernel.map { range in
      let middle = PhysicalAddress(range.lowerBound.rawValue + range.byteCount / 2)
        .alignedDown(to: 4096)
      return middle..<range.upperBound
    }
  }
}

/// Bytes that tell which access they are from.
struct PatternSource {
  private var sequence: UInt64 = 0

  /// The number of the access, again and again.
  mutating func next(count: UInt64) -> [UInt8] {
    sequence += 1
    // No byte is zero, as memory is that nobody has written.
    let word = sequence &* 0x9e37_79b9_7f4a_7c15 | 0x0101_0101_0101_0101
    // Pages of it are made in every crash.
    let words = [UInt64](repeating: word.littleEndian, count: Int(count + 7) / 8)
    // Safe: the words have as many bytes, and more.
    return unsafe words.withUnsafeBytes {
      unsafe Array(UnsafeRawBufferPointer(rebasing: $0[..<Int(count)]))
    }
  }
}
