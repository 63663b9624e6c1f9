import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// The machine that cases run on: 0 to 2 GiB and 4 to 8 GiB of RAM, and one remapping unit.
final class VTdCaseMachine {
  private let ram: CaseMemory
  var memory: FlatMemory { ram.memory }
  private let caches: CacheConfiguration
  private var unit: RemappingUnit!
  private var port: TranslationPort!
  private var queueTail: UInt64 = 0

  init(caches: CacheConfiguration) throws(MemoryError) {
    ram = try CaseMemory()
    self.caches = caches
  }

  /// Runs one case from its start.
  ///
  /// - Throws: ``VTdConformance/CaseError`` for an operation that says too little or too much, and
  ///   `RemappingUnitConfigurationError` for registers that no unit here can have.
  func answers(to test: VTdCase) throws -> VTdAnswers {
    ram.clear()
    try setUp(test)
    var answers: [VTdAnswer?] = []
    for (index, operation) in test.ops.enumerated() {
      do {
        answers.append(try answer(operation))
      } catch let error as CaseError {
        throw CaseError("ops[\(index)].\(error)")
      }
    }
    return VTdAnswers(id: test.id, answers: answers)
  }

  // MARK: Set-up

  private func setUp(_ test: VTdCase) throws {
    for run in test.memory { ram.store(run.bytes.bytes, at: run.address.value) }
    let queue = test.registers.queueAddress.map { VTd.QueueAddress(rawValue: $0.value) }
    unit = try RemappingUnit(
      RemappingUnitConfiguration(
        version: VTd.Version(major: 1, minor: 0),
        capability: VTd.Capability(rawValue: test.cap.value),
        extendedCapability: extendedCapability(of: test),
        hostAddressWidth: test.config.addressWidth, caches: caches,
        acceptsNarrowQueueInScalableMode: queue.map { !$0.isWide } ?? false),
      memory: memory)
    port = unit.makePort()
    setRootTable(test.registers.rootTableAddress.value)
    queueTail = 0
    if let queue {
      unit.write(queue.rawValue, at: VTd.RegisterOffset.queueAddress, byteCount: 8)
      command { $0.enablesQueuedInvalidation = true }
    }
    // A new unit's caches are empty: the invalidations of a real set-up would find nothing.
    command { $0.enablesTranslation = test.registers.translates != 0 }
  }

  /// The case's ECAP_REG.
  ///
  /// Cases of the older format have devices whose requests stand for PASIDs other than 0 without
  /// saying that the unit can do that (ECAP.RPS).
  private func extendedCapability(of test: VTdCase) -> VTd.ExtendedCapability {
    var register = VTd.ExtendedCapability(rawValue: test.ecap.value)
    if test.config.hasFirstStage == nil, register.hasScalableMode {
      register.hasRequesterPASID = true
    }
    return register
  }

  private func setRootTable(_ value: UInt64) {
    unit.write(value, at: VTd.RegisterOffset.rootTableAddress, byteCount: 8)
    command { $0.setsRootTablePointer = true }
  }

  private func command(_ change: (inout VTd.GlobalCommand) -> Void) {
    let status = VTd.GlobalStatus(
      rawValue: UInt32(unit.read(VTd.RegisterOffset.globalStatus, byteCount: 4)))
    var command = VTd.GlobalCommand(keeping: status)
    change(&command)
    unit.write(UInt64(command.rawValue), at: VTd.RegisterOffset.globalCommand, byteCount: 4)
  }

  // MARK: Operations

  private func answer(_ operation: VTdCase.Operation) throws -> VTdAnswer? {
    switch operation.op {
    case "probe": return try probe(operation)
    case "inval": return try invalidate(operation)
    case "peek": return try peek(operation)
    case "mem":
      ram.store(try operation.hex.required("hex").bytes, at: try operation.pa.required("pa").value)
    case "clear": clearFaults()
    case "srtp": setRootTable(try operation.rtaddr.required("rtaddr").value)
    case "te":
      let isOn = try operation.on.required("on")
      command { $0.enablesTranslation = isOn }
    default:
      throw CaseError(
        "op: '\(operation.op)' is not known; probe, inval, peek, mem, clear, srtp and te are")
    }
    return nil
  }

  private func peek(_ operation: VTdCase.Operation) throws -> VTdAnswer {
    var answer = VTdAnswer()
    answer.hex = try ram.text(
      at: try operation.pa.required("pa").value, byteCount: try operation.len.required("len"))
    return answer
  }

  private func invalidate(_ operation: VTdCase.Operation) throws -> VTdAnswer {
    var answer = VTdAnswer()
    if let descriptor = operation.desc {
      answer.done = try queue(descriptor.map(\.value))
      return answer
    }
    let registers = try operation.regs.required("regs")
    if let context = registers.context {
      unit.write(context.value, at: VTd.RegisterOffset.contextCommand, byteCount: 8)
      let value = unit.read(VTd.RegisterOffset.contextCommand, byteCount: 8)
      answer.granularity = Int(VTd.ContextCommand(rawValue: value).actual.rawValue)
    } else {
      let place = unit.configuration.extendedCapability.invalidationRegisterOffset
      if let address = registers.address {
        unit.write(address.value, at: place, byteCount: 8)
      }
      unit.write(try registers.iotlb.required("regs.IOTLB").value, at: place + 8, byteCount: 8)
      let value = unit.read(place + 8, byteCount: 8)
      answer.granularity = Int(VTd.IOTLBInvalidate(rawValue: value).actual.rawValue)
    }
    return answer
  }

  /// Queues a descriptor and a wait behind it; whether the wait has completed.
  ///
  /// The queue's memory is as it was afterwards: it is no part of the case.
  private func queue(_ descriptor: [UInt64]) throws -> Bool {
    let queue = VTd.QueueAddress(
      rawValue: unit.read(VTd.RegisterOffset.queueAddress, byteCount: 8))
    let width = queue.descriptorByteCount
    guard descriptor.count == Int(width / 8) else {
      throw CaseError(
        "desc: \(descriptor.count) words; the queue's have \(width / 8)")
    }
    unit.write(1, at: VTd.RegisterOffset.completionStatus, byteCount: 4)
    var kept: [(PhysicalAddress, UInt64)] = []
    func put(_ words: [UInt64]) {
      for (index, word) in words.enumerated() {
        let place = PhysicalAddress(queue.queue.rawValue &+ queueTail &+ UInt64(index * 8))
        guard let old = memory.quadword(at: place) else { continue }
        kept.append((place, old))
        memory.store(word, at: place)
      }
      queueTail = (queueTail + width) % queue.byteCount
    }
    put(descriptor)
    put([VTd.WaitDescriptor(interrupts: true).low] + Array(repeating: 0, count: Int(width / 8) - 1))
    unit.write(queueTail, at: VTd.RegisterOffset.queueTail, byteCount: 8)
    let isDone = unit.read(VTd.RegisterOffset.completionStatus, byteCount: 4) & 1 == 1
    for (place, word) in kept.reversed() { memory.store(word, at: place) }
    if !isDone { restartQueue() }
    return isDone
  }

  /// After an error: the queue from its start.
  private func restartQueue() {
    command { $0.enablesQueuedInvalidation = false }
    queueTail = 0
    unit.write(0, at: VTd.RegisterOffset.queueTail, byteCount: 8)
    clearFaults()
    command { $0.enablesQueuedInvalidation = true }
  }
}

// MARK: Probes

extension VTdCaseMachine {
  private func probe(_ operation: VTdCase.Operation) throws -> VTdAnswer {
    let address = try operation.iova.required("iova").value
    let size = try operation.size.required("size")
    let sid = try operation.sid.required("sid").value
    guard 1...(1 << 20) ~= size else {
      throw CaseError("size: \(size) is not 1 to 1 MiB")
    }
    guard let requester = UInt16(exactly: sid) else {
      throw CaseError("sid: \(hexadecimal(sid)) has more than 16 bits")
    }
    if let pasid = operation.pasid, pasid >> 20 != 0 {
      throw CaseError("pasid: \(pasid) has more than 20 bits")
    }
    let recordsBefore = records()
    var request = VTd.Request(
      Requester(rawValue: requester), IOVA(address), operation.write == true ? .write : .read,
      pasid: operation.pasid.map { PASID($0) })
    var parts: [VTdAnswer.Part] = []
    var offset: UInt64 = 0
    while offset < size {
      request.address = address &+ offset
      let length = min(size - offset, 4096 - request.address % 4096)
      parts.append(part(port.translate(request, byteCount: length), offset, length))
      offset += length
    }
    var answer = VTdAnswer()
    if parts.count == 1 {
      (answer.r, answer.pa, answer.fr) = (parts[0].r, parts[0].pa, parts[0].fr)
      answer.suppressed = parts[0].suppressed
    } else {
      answer.r = "split"
      answer.parts = parts
    }
    answer.rec = .some(newRecord(since: recordsBefore))
    answer.fsts = unit.read(VTd.RegisterOffset.faultStatus, byteCount: 4)
    if operation.keep != true { clearFaults() }
    return answer
  }

  private func part(_ translation: Translation, _ offset: UInt64, _ length: UInt64)
    -> VTdAnswer.Part
  {
    var part = VTdAnswer.Part(off: offset, len: length, r: "fault")
    switch translation {
    case .mapped(let physical, _):
      part.r = "ok"
      part.pa = hexadecimal(physical.rawValue)
    case .interruptMessage:
      part.r = "irq"
    case .fault(let fault):
      if let reason = fault.vtdReason {
        if fault.isRecorded { part.fr = Int(reason.rawValue) } else { part.suppressed = "fpd" }
      } else {
        part.r = "blocked"
      }
    }
    return part
  }

  private var recordPlaces: [UInt64] {
    let capability = unit.configuration.capability
    return (0..<capability.faultRecordCount).map {
      capability.faultRecordOffset + UInt64($0) * 16
    }
  }

  private func records() -> [VTd.FaultRecord] {
    recordPlaces.map {
      VTd.FaultRecord(
        low: unit.read($0, byteCount: 8), high: unit.read($0 + 8, byteCount: 8))
    }
  }

  /// The first record that was free before.
  private func newRecord(since before: [VTd.FaultRecord]) -> VTdAnswer.Record? {
    for (old, new) in zip(before, records()) where new.isValid && !old.isValid {
      return VTdAnswer.Record(
        sid: hexadecimal(new.requester.rawValue), t: new.kind == .read ? 1 : 0,
        fr: Int(new.reason.rawValue), fi: hexadecimal(new.information),
        pp: new.pasid == nil ? 0 : 1, pv: new.pasid ?? 0)
    }
    return nil
  }

  /// What software does with faults: F of every record, then FSTS_REG.
  private func clearFaults() {
    for place in recordPlaces { unit.write(1 << 31, at: place + 12, byteCount: 4) }
    unit.write(0x73, at: VTd.RegisterOffset.faultStatus, byteCount: 4)
  }
}
