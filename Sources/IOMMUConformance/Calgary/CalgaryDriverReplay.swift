import IOMMUFormats
import IOMMUImages
import IOMMUKdump
import IOMMUTranslation

/// Runs our own Calgary driver beside the recording of the real one: call by call it has to take the
/// same steps and give out the same numbers.
final class CalgaryDriverReplay {
  let platform: ScriptedPlatform
  private let driver: LinuxCalgaryDriver
  private let truth: TraceTruth
  private var phase = ""
  private var pending: [TraceEvent] = []
  private var call: TraceCall?
  /// By the place where they begin and end, in the order of the segments of one call.
  private let begins: [UInt64: [TraceMapping]]
  private let ends: [UInt64: [TraceMapping]]
  /// The first difference, after which our driver is not what the real one is.
  private(set) var difference: (line: Int, text: String)?
  /// Why our driver could not be run on; no difference.
  private(set) var stop: String?

  /// - Parameter bases: The chips of the recording.
  init?(truth: TraceTruth, bases: [PhysicalAddress], memory: FlatMemory) {
    guard let configuration = truth.driverConfiguration else { return nil }
    self.truth = truth
    platform = ScriptedPlatform(bases: bases, memory: memory)
    driver = LinuxCalgaryDriver(configuration, platform: platform)
    begins = Dictionary(grouping: truth.mappings, by: \.firstSequence)
      .mapValues { $0.sorted { $0.identifier < $1.identifier } }
    ends = Dictionary(
      grouping: truth.mappings.filter { $0.endSequence != nil }, by: { $0.endSequence! }
    ).mapValues { $0.sorted { $0.identifier < $1.identifier } }
  }

  /// Takes notice of an event that has been applied to the machine.
  func observe(_ event: TraceEvent) {
    guard difference == nil, stop == nil else { return }
    switch event.action {
    case .phase(let name):
      finishPhase(line: event.line)
      phase = name
    case .call(let call):
      finishPhase(line: event.line)
      phase = ""
      self.call = call
    case .ret(let ret):
      if let call { finish(call, ret, at: event.sequence + 1, line: event.line) }
      call = nil
      pending = []
    case .register, .configuration, .memory, .tableAllocation:
      pending.append(event)
    case .cacheFlush, .housekeeping: break
    }
  }

  /// The end of the trace: our driver's next search starts where the real one's does.
  func finish(line: Int) {
    finishPhase(line: line)
    guard difference == nil, stop == nil else { return }
    for table in truth.tables where table.isTranslated {
      let hint = driver.buses.first { $0.number == table.bus }.map { UInt64($0.bitmap.hint) }
      if hint != table.hint {
        difference = (line, "bus \(table.bus): the next search starts at \(hint ?? 0)")
      }
    }
  }

  private func note(_ text: String?, line: Int) {
    if let text, difference == nil { difference = (line, text) }
  }

  private func finishPhase(line: Int) {
    let events = pending
    pending = []
    let text: String?
    do {
      text = try platform.run(events) { () throws -> String? in
        switch phase {
        case "detect_calgary": try driver.detect()
        case "iommu_init": try driver.initialise()
        default: watch()
        }
        return nil
      }
    } catch {
      text = "our driver gives up: \(error)"
    }
    note(text, line: line)
  }

  /// Outside calls and the start, only the watchdog does anything.
  private func watch() {
    for index in driver.buses.indices {
      let bus = driver.buses[index]
      if platform.continues(with: .channelStatus, bus.base, bus.phb) { _ = driver.tick(index) }
    }
  }

  private func finish(_ call: TraceCall, _ ret: TraceReturn, at boundary: UInt64, line: Int) {
    guard let device = call.device, let index = driver.busIndex(of: device) else {
      // No table: the number is the physical address, and nothing is to be done.
      return note(platform.run(pending) { nil }, line: line)
    }
    let begun = begins[boundary] ?? []
    let failed = begun.isEmpty
    if failed, pending.isEmpty { return }
    if failed, call.function == .mapSegments {
      stop = "line \(line): a list of segments that found no room is not recorded"
      return
    }
    let text = platform.run(pending) { () -> String? in
      switch call.function {
      case .mapPage, .allocateCoherent, .mapSegments:
        return self.map(call, begun, on: index)
      case .unmapPage, .unmapSegments, .freeCoherent:
        for mapping in ends[boundary] ?? [] {
          driver.unmap(mapping.iova, byteCount: mapping.byteCount, on: index)
        }
        return nil
      case .bindAGP, .unbindAGP: return "a call of another driver"
      }
    }
    note(text, line: line)
  }

  private func map(_ call: TraceCall, _ begun: [TraceMapping], on index: Int) -> String? {
    if begun.isEmpty {
      let given = driver.map(
        call.physical ?? PhysicalAddress(0), byteCount: call.count ?? 0, permissions: .readWrite,
        on: index)
      return given.map { "our driver found room at \($0)" }
    }
    for mapping in begun {
      let given = driver.map(
        mapping.physical, byteCount: mapping.byteCount,
        permissions: mapping.direction == .toDevice ? .read : .readWrite, on: index)
      guard given == mapping.iova else {
        return "our driver gives out \(given.map { "\($0)" } ?? "nothing"), not \(mapping.iova)"
      }
    }
    return nil
  }
}

extension TraceTruth {
  /// How the recorded kernel was started; `nil` when the file does not say.
  var driverConfiguration: LinuxCalgaryDriver.Configuration? {
    guard let release = driver.split(separator: " ").dropFirst().first,
      let version = LinuxCalgaryDriver.Version(release: String(release))
    else { return nil }
    var configuration = LinuxCalgaryDriver.Configuration(
      version: version, isKdump: kernel == 2, endOfRAM: endOfRAM, savedEndOfRAM: savedEndOfRAM)
    let sizes: [String: Calgary.TableSize] = [
      "64k": .kib64, "128k": .kib128, "256k": .kib256, "512k": .kib512, "1M": .mib1, "2M": .mib2,
      "4M": .mib4, "8M": .mib8,
    ]
    for word in option.split(whereSeparator: { $0 == "," || $0 == " " }) {
      let word = word.hasPrefix("calgary=") ? word.dropFirst(8) : word
      if let size = sizes[String(word)] {
        configuration.tableSize = size
      } else if word.hasPrefix("disable="), let bus = Notation.printed(word.dropFirst(8)), bus < 256
      {
        configuration.disabledBuses.insert(UInt8(bus))
      } else if word == "translate_empty_slots" {
        configuration.translatesEmptySlots = true
      }
    }
    return configuration
  }
}
