import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// The machine that cases run on: 0 to 2 GiB and 4 to 8 GiB of RAM, and one unit.
///
/// Commands and events lie at ``rings``, where no case has anything else.
final class AMDViCaseMachine {
  private let ram: CaseMemory
  private let caches: AMDViCacheConfiguration
  private var unit: AMDViUnit!
  private typealias Offset = AMDVi.RegisterOffset

  /// 4 KiB of commands, then 4 KiB of events.
  private static let rings = PhysicalAddress(0x700_0000)
  private static let ringByteCount: UInt64 = 4096

  init(caches: AMDViCacheConfiguration) throws(MemoryError) {
    ram = try CaseMemory()
    self.caches = caches
  }

  /// Runs one case from its start.
  ///
  /// - Throws: ``CaseError`` for an operation that says too little or too much.
  func answers(to test: AMDViCase) throws -> AMDViAnswers {
    ram.clear()
    try setUp(test)
    var answers: [AMDViAnswer?] = []
    for (index, operation) in test.ops.enumerated() {
      do {
        answers.append(try answer(operation))
      } catch let error as CaseError {
        throw CaseError("ops[\(index)].\(error)")
      }
    }
    return AMDViAnswers(id: test.id, answers: answers)
  }

  private func setUp(_ test: AMDViCase) throws {
    for run in test.memory { ram.store(run.bytes.bytes, at: run.address.value) }
    var registers: [UInt64: UInt64] = [:]
    for (text, value) in test.registers {
      guard text.hasPrefix("0x"), let offset = Notation.printed(text) else {
        throw CaseError("registers.\(text): is no offset with 0x")
      }
      registers[offset] = value.value
    }
    func take(_ offset: UInt64) -> UInt64 { registers.removeValue(forKey: offset) ?? 0 }
    unit = try AMDViUnit(
      AMDViUnitConfiguration(
        capability: AMDVi.CapabilityHeader(
          rawValue: UInt32(truncatingIfNeeded: test.capability.value)),
        features: AMDVi.ExtendedFeatures(rawValue: take(Offset.extendedFeatures)),
        features2: AMDVi.ExtendedFeatures2(rawValue: take(Offset.extendedFeatures2)),
        physicalAddressWidth: 52, caches: caches),
      memory: ram.memory)
    var control = AMDVi.Control(rawValue: take(Offset.control))
    for (offset, value) in registers.sorted(by: { $0.key < $1.key }) { write(value, at: offset) }
    write(
      AMDVi.CommandBufferBase(address: Self.rings, entryCount: 256).rawValue,
      at: Offset.commandBufferBase)
    write(
      AMDVi.EventLogBase(address: PhysicalAddress(eventPlace(0)), entryCount: 256).rawValue,
      at: Offset.eventLogBase)
    control.fetchesCommands = true
    control.logsEvents = true
    write(control.rawValue, at: Offset.control)
  }

  private func read(_ offset: UInt64) -> UInt64 { unit.read(offset, byteCount: 8) }
  private func write(_ value: UInt64, at offset: UInt64) {
    unit.write(value, at: offset, byteCount: 8)
  }
  private func eventPlace(_ position: UInt64) -> UInt64 {
    Self.rings.rawValue + Self.ringByteCount + position
  }

  // MARK: Operations

  private func answer(_ operation: AMDViCase.Operation) throws -> AMDViAnswer? {
    switch operation.op {
    case "probe": return try probe(operation)
    case "peek": return try peek(operation)
    case "mem":
      ram.store(try operation.hex.required("hex").bytes, at: try operation.pa.required("pa").value)
    case "command":
      let bytes = try operation.hex.required("hex").bytes
      guard bytes.count == 16 else {
        throw CaseError("hex: \(bytes.count) bytes, and a command has 16")
      }
      submit(bytes)
    default:
      throw CaseError("op: '\(operation.op)' is not known; probe, peek, mem and command are")
    }
    return nil
  }

  private func probe(_ operation: AMDViCase.Operation) throws -> AMDViAnswer {
    let address = try operation.iova.required("iova").value
    let size = try operation.size.required("size")
    let number = try operation.device.required("device").value
    guard 1...(1 << 20) ~= size else { throw CaseError("size: \(size) is not 1 to 1 MiB") }
    guard let device = UInt16(exactly: number) else {
      throw CaseError("device: \(hexadecimal(number)) has more than 16 bits")
    }
    if let pasid = operation.pasid, pasid >> 20 != 0 {
      throw CaseError("pasid: \(pasid) has more than 20 bits")
    }
    var request = AMDVi.Request(
      Requester(rawValue: device), IOVA(address), operation.write == true ? .write : .read,
      pasid: operation.pasid.map { PASID($0) }, isSupervisor: operation.privileged ?? false,
      isExecute: operation.execute ?? false)
    var parts: [AMDViAnswer.Part] = []
    var offset: UInt64 = 0
    while offset < size {
      request.address = address &+ offset
      let length = min(size - offset, 4096 - request.address % 4096)
      parts.append(part(of: request, offset, length))
      offset += length
    }
    return AMDViAnswer(parts: parts)
  }

  private func peek(_ operation: AMDViCase.Operation) throws -> AMDViAnswer {
    AMDViAnswer(
      hex: try ram.text(
        at: try operation.pa.required("pa").value, byteCount: try operation.len.required("len")))
  }

  private func part(
    of request: AMDVi.Request, _ offset: UInt64, _ length: UInt64
  ) -> AMDViAnswer.Part {
    var part = AMDViAnswer.Part(off: offset, len: length, r: "fault")
    switch unit.translate(request, byteCount: .max) {
    case .mapped(let physical, let byteCount):
      part.r = "ok"
      part.pa = hexadecimal(physical.rawValue)
      part.bytes = byteCount
    case .interruptMessage: part.r = "irq"
    case .fault: part.event = .some(takeEvent())
    }
    return part
  }

  /// The one event that was logged, which is taken out of the log as a kernel does it; `nil` for none.
  private func takeEvent() -> String? {
    let head = read(Offset.eventHead)
    let tail = read(Offset.eventTail)
    guard head != tail,
      let bytes = ram.memory.bytes(at: PhysicalAddress(eventPlace(head)), count: 16)
    else { return nil }
    ram.store([UInt8](repeating: 0, count: 16), at: eventPlace(head))
    write(tail, at: Offset.eventHead)
    write(read(Offset.status), at: Offset.status)
    return bytes.map { hexadecimal($0, digits: 2) }.joined()
  }

  /// Queues a command; the unit has done it when this returns.
  private func submit(_ command: [UInt8]) {
    let tail = read(Offset.commandTail)
    ram.store(command, at: Self.rings.rawValue + tail)
    write((tail + 16) % Self.ringByteCount, at: Offset.commandTail)
  }
}
