import IOMMUFormats
import IOMMURule
import IOMMUTranslation

/// How many accesses of a kind came to which outcome.
public struct OutcomeCounts: Sendable, Equatable {
  public private(set) var counts: [Outcome: Int] = [:]

  public init() {}
  public mutating func add(_ outcome: Outcome) { counts[outcome, default: 0] += 1 }
  public subscript(outcome: Outcome) -> Int { counts[outcome, default: 0] }
  public var total: Int { counts.values.reduce(0, +) }
  /// All accesses reached the buffers they were meant for.
  public var areAllOwn: Bool { total == self[.own] }
}

/// What one access of a device after the crash came to.
public struct CrashAccess: Sendable {
  public enum Owner: String, Sendable, Codable {
    /// Started by the primary kernel before the crash.
    case leftover
    /// Started by the kdump kernel.
    case kdump
  }

  public var owner: Owner
  public var device: Device
  public var direction: DMADirection
  public var iova: Range<IOVA>
  public var record: DMARecord?
  public var outcome: Outcome
}

/// One crash, played from boot to the kdump kernel's I/O.
public struct CrashReport: Sendable {
  public var mode: TranslationMode
  public var appliesRule: Bool
  /// `nil` without the Rule.
  public var setUp: SetUpReport?
  public var accesses: [CrashAccess]
  /// Bytes of the crash kernel range that changed otherwise than by the kdump kernel's own I/O.
  public var strayByteCount: Int
  public var verdicts: [RuleVerdict]

  public func counts(of owner: CrashAccess.Owner) -> OutcomeCounts {
    accesses.reduce(into: OutcomeCounts()) { counts, access in
      if access.owner == owner { counts.add(access.outcome) }
    }
  }

  /// Leftover DMA reached its own buffers, the kdump kernel's I/O worked, and its memory is intact.
  public var ruleHolds: Bool {
    counts(of: .leftover).areAllOwn && counts(of: .kdump).areAllOwn && strayByteCount == 0
  }
}

extension PrimaryKernel {
  /// All that is known of the machine when this kernel crashes now.
  ///
  /// - Parameter kdump: The kernel after it, which writes no register and resets no device; `nil` for
  ///   one that does nothing at all.
  public func evidence(of kdump: KdumpKernel? = nil) -> RuleEvidence {
    var evidence = RuleEvidence(
      machine: machine, devices: RuleEvidence.Device.all(configuration.devices),
      allocatorEvents: events,
      leftovers: .known(
        mapped.map {
          RuleEvidence.Leftover(requester: $0.device.sourceID, iova: $0.iovas, target: $0.target)
        }),
      freedTables: freedTables, registerWritesByKdump: [],
      kdumpNumbers: (kdump?.buffers ?? []).map {
        RuleEvidence.Numbers(requester: $0.device.sourceID, iova: $0.iovas)
      }, devicesResetByKdump: [])
    evidence.listsAllDevices = true
    return evidence
  }
}

/// A primary kernel, its devices at work, a crash, and a kdump kernel after it.
public struct CrashSimulation {
  /// Rounds of leftover DMA, before, between and after the kdump kernel's own I/O.
  public var roundCount = 3

  public init() {}

  /// Plays one crash.
  ///
  /// - Parameters:
  ///   - configuration: The machine, and how its primary kernel translates.
  ///   - applyingRule: Whether the primary kernel does its part.
  /// - Returns: The report, and the kernel whose memory and registers are as the crash left them.
  public func play(
    _ configuration: MachineConfiguration, applyingRule: Bool
  ) throws(SetUpError) -> (report: CrashReport, primary: PrimaryKernel) {
    let primary = try PrimaryKernel(configuration)
    let setUp = applyingRule ? try primary.applyRule() : nil
    startDrivers(primary)
    return (finish(primary, setUp: setUp), primary)
  }

  /// Plays the crash of a kernel that is up and has mapped its buffers.
  public func finish(_ primary: PrimaryKernel, setUp: SetUpReport?) -> CrashReport {
    let configuration = primary.configuration
    let memory = primary.memory
    var kdump = KdumpKernel(crashKernel: configuration.map.crashKernel)
    // The capture kernel was loaded long before the crash; its image must come through untouched.
    let image = bytes(count: Int(kdump.image.byteCount), step: 37, first: 11)
    memory.write(image, at: kdump.image.lowerBound)

    // The crash. From here on the primary kernel does nothing; its devices go on.
    let leftovers = primary.mapped
    for (number, buffer) in leftovers.enumerated() where buffer.direction != .fromDevice {
      let bytes = pattern(number, round: 0, count: Int(buffer.byteCount))
      memory.write(bytes, at: buffer.target.lowerBound)
    }
    primary.kexec()
    var bus = primary.makeBus()
    var accesses: [CrashAccess] = []
    for round in 1...max(1, roundCount) {
      for (number, buffer) in leftovers.enumerated() {
        accesses += leftover(buffer, number, round, &bus, configuration.map)
      }
      guard round < roundCount || roundCount == 1 else { break }
      for device in configuration.devices where device.isNeededByKdump {
        for direction in [DMADirection.toDevice, .fromDevice, .toDevice, .fromDevice] {
          accesses.append(kdumpAccess(device, direction, round, &kdump, &bus, configuration.map))
        }
      }
    }
    let stray = strayBytes(in: memory, image: image, kdump: kdump, log: bus.log)
    return CrashReport(
      mode: configuration.mode, appliesRule: setUp != nil, setUp: setUp, accesses: accesses,
      strayByteCount: stray,
      verdicts: RuleCheck(evidence: primary.evidence(of: kdump), memory: memory).all())
  }

  /// The drivers of the primary kernel start: rings, buffers, status pages.
  public func startDrivers(_ primary: PrimaryKernel) {
    for device in primary.configuration.devices where device.isUsedByPrimary {
      // Rings and status pages live long, data buffers come and go; sizes as drivers have them.
      for (byteCount, direction) in [
        (UInt64(4096), DMADirection.bidirectional), (1536, .fromDevice), (9000, .fromDevice),
        (16_384, .toDevice),
      ] {
        _ = try? primary.mapNewBuffer(byteCount: byteCount, for: device, direction: direction)
      }
      // One that is done before the crash: the device no longer uses it.
      if let done = try? primary.mapNewBuffer(byteCount: 4096, for: device, direction: .fromDevice)
      {
        primary.unmap(done)
      }
    }
  }

  private func leftover(
    _ buffer: MappedBuffer, _ number: Int, _ round: Int, _ bus: inout DMABus, _ map: MemoryMap
  ) -> [CrashAccess] {
    var accesses: [CrashAccess] = []
    func add(_ record: DMARecord, delivered: Bool) {
      accesses.append(
        CrashAccess(
          owner: .leftover, device: buffer.device, direction: buffer.direction, iova: buffer.iovas,
          record: record,
          outcome: Outcome(
            of: record, target: buffer.target, isDelivered: delivered, map: map, isKdump: false)))
    }
    if buffer.direction != .fromDevice {
      let expected = bus.memory.bytes(at: buffer.target.lowerBound, count: Int(buffer.byteCount))
      let record = bus.read(Int(buffer.byteCount), by: buffer.device, at: buffer.iova)
      add(record, delivered: record.bytesRead == expected)
    }
    if buffer.direction != .toDevice {
      let bytes = pattern(number, round: round, count: Int(buffer.byteCount))
      let record = bus.write(bytes, by: buffer.device, at: buffer.iova)
      let arrived = bus.memory.bytes(at: buffer.target.lowerBound, count: bytes.count)
      add(record, delivered: arrived == bytes)
    }
    return accesses
  }

  private func kdumpAccess(
    _ device: Device, _ direction: DMADirection, _ round: Int, _ kdump: inout KdumpKernel,
    _ bus: inout DMABus, _ map: MemoryMap
  ) -> CrashAccess {
    let buffer: MappedBuffer
    do {
      buffer = try kdump.map(for: device, direction: direction)
    } catch {
      return CrashAccess(
        owner: .kdump, device: device, direction: direction, iova: IOVA(0)..<IOVA(0), record: nil,
        outcome: .notMapped)
    }
    let bytes = pattern(1000 + kdump.buffers.count, round: round, count: 4096)
    let record: DMARecord
    let delivered: Bool
    if direction == .toDevice {
      bus.memory.write(bytes, at: buffer.buffer.lowerBound)
      record = bus.read(4096, by: device, at: buffer.iova)
      delivered = record.bytesRead == bytes
    } else {
      record = bus.write(bytes, by: device, at: buffer.iova)
      delivered = bus.memory.holds(bytes, at: buffer.buffer.lowerBound)
    }
    return CrashAccess(
      owner: .kdump, device: device, direction: direction, iova: buffer.iovas, record: record,
      outcome: Outcome(
        of: record, target: buffer.target, isDelivered: delivered, map: map, isKdump: true))
  }

  /// Bytes of the crash kernel's image that changed, and bytes that anything but the kdump kernel's
  /// own I/O wrote into its ranges.
  private func strayBytes(
    in memory: FlatMemory, image: [UInt8], kdump: KdumpKernel, log: [DMARecord]
  ) -> Int {
    let damaged = memory.differenceCount(image, at: kdump.image.lowerBound)
    let own = kdump.buffers.map(\.buffer)
    let stray = log.reduce(0) { count, record in
      record.hits.reduce(count) { count, hit in
        guard let physical = hit.physical, record.access == .write,
          kdump.crashKernel.contains(where: { $0.overlaps(physical) }),
          !own.contains(where: { $0.contains(physical.lowerBound) }),
          !kdump.image.overlaps(physical)
        else { return count }
        return count + hit.changedByteCount
      }
    }
    return damaged + stray
  }

  /// Bytes that tell which access they are from.
  private func pattern(_ number: Int, round: Int, count: Int) -> [UInt8] {
    bytes(count: count, step: 7, first: number &* 31 &+ round &* 101 &+ 1)
  }

  /// Bytes that start with `first` and grow by `step`, modulo 256.
  private func bytes(count: Int, step: Int, first: Int) -> [UInt8] {
    // They come again after 256, whatever the step: copying is quick in debug builds, too.
    let period = (0..<256).map { UInt8(truncatingIfNeeded: $0 &* step &+ first) }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count)
    while bytes.count < count { bytes += period.prefix(count - bytes.count) }
    return bytes
  }
}
