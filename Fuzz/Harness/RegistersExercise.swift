import IOMMUFormats
import IOMMUHardware
import IOMMUTestSupport
import IOMMUTranslation

/// A hostile guest with a VT-d unit: it writes memory and registers, queues descriptors, and sends DMA,
/// translation requests, page requests and interrupts, in any order.
///
/// The first byte says which unit and which caches, and whether a start with sound tables comes before
/// what the guest does. At the end the unit has to be usable: reset, it translates as its tables say.
enum RegistersExercise {
  /// Operations of one input at most.
  private static let operationLimit = 512
  private static let byteCount: UInt64 = 4 << 20

  private static let configurations: [RemappingUnitConfiguration] = [
    .qemu, .unit2008, .currentServer,
  ]

  static func run(_ input: UnsafeRawBufferPointer) {
    guard input.count >= 2 else { return }
    var reader = ByteReader(input)
    let first = reader.byte()
    var configuration = configurations[Int(first & 3) % configurations.count]
    configuration.caches = [.none, .hardware, .everything][Int(first >> 2 & 3) % 3]
    configuration.compressesFaults = first & 0x10 != 0
    guard let memory = try? FlatMemory(byteCount: byteCount) else { fatalError("no memory") }
    let unit: RemappingUnit
    let received = Counter()
    do {
      unit = try RemappingUnit(configuration, memory: memory) { _ in received.count += 1 }
    } catch {
      fatalError("\(error)")
    }
    let guest = HostileGuest(unit, memory)
    let isScalable = configuration.extendedCapability.hasScalableMode && first & 0x40 != 0
    if first & 0x20 != 0 { guest.setUp(isScalable: isScalable) }
    for _ in 0..<operationLimit where !reader.isAtEnd { guest.act(&reader) }
    guest.checkCoherence()
    guest.checkRecovery(isScalable: isScalable)
  }

  private final class Counter: @unchecked Sendable {
    // Sendable: one thread does all.
    var count = 0
  }
}

private final class HostileGuest {
  let unit: RemappingUnit
  let memory: FlatMemory
  let ports: [TranslationPort]
  private let device = HostileDevice()

  private static let queue: UInt64 = 0x1_0000
  private static let requester = Requester(bus: 0, device: 4, function: 0)
  /// Where sound tables map IOVA 0x12345000 to.
  private static let page: UInt64 = 0x20_0000

  init(_ unit: RemappingUnit, _ memory: FlatMemory) {
    self.unit = unit
    self.memory = memory
    ports = [unit.makePort(), unit.makePort()]
    unit.attach(device, to: Self.requester)
  }

  private func store(_ word: UInt64, _ address: UInt64) {
    guard memory.isBacked(PhysicalAddress(address), byteCount: 8) else { return }
    memory.store(word, at: PhysicalAddress(address))
  }

  private func write(_ value: UInt64, _ offset: UInt64, _ byteCount: Int = 4) {
    unit.write(value, at: offset, byteCount: byteCount)
  }

  private func command(_ bit: UInt64, _ isOn: Bool = true) {
    let status = unit.read(VTd.RegisterOffset.globalStatus, byteCount: 4) & 0x96ff_ffff
    write(
      isOn ? status | 1 << bit : status & ~(1 << bit), VTd.RegisterOffset.globalCommand)
  }

  /// 00:04.0 has one page; its tables lie at 0x10_0000.
  func setUp(isScalable: Bool) {
    let tables: UInt64 = 0x10_0000
    let levels = unit.configuration.capability.supportedWidths & 4 == 0 ? 3 : 4
    for page in 0..<16 as Range<UInt64> {
      memory.zero(at: PhysicalAddress(tables + page << 12), byteCount: 4096)
    }
    store(tables + 0x1001, tables)
    var table = tables + 0x4000
    if isScalable {
      store(tables + 0x2001, tables + 0x1000 + 32 * 0x20)
      store(tables + 0x3001, tables + 0x2000)
      store(table | 1 | 2 << 6 | UInt64(levels - 2) << 2, tables + 0x3000)
      store(7, tables + 0x3008)
    } else {
      store(table | 1, tables + 0x1000 + 16 * 0x20)
      store(7 << 8 | UInt64(levels - 2), tables + 0x1008 + 16 * 0x20)
    }
    for level in stride(from: levels, through: 1, by: -1) {
      let place = table + (0x1234_5000 >> UInt64(9 * level + 3) & 511) * 8
      table += 0x1000
      store((level == 1 ? Self.page : table) | 3, place)
    }
    write(tables | (isScalable ? 0x400 : 0), VTd.RegisterOffset.rootTableAddress, 8)
    command(30)
    if unit.configuration.extendedCapability.hasQueue {
      write(Self.queue | (isScalable ? 0x800 : 0), VTd.RegisterOffset.queueAddress, 8)
      command(26)
    }
    command(31)
  }

  // MARK: What the guest does

  /// An address in memory, or near it, or anywhere.
  private func address(_ reader: inout ByteReader) -> UInt64 {
    let kind = reader.byte()
    let value = reader.number(byteCount: 2)
    switch kind & 3 {
    case 0: return 0x10_0000 + value & 0x1_fff8
    case 1: return Self.queue + value & 0xff8
    case 2: return value << 6
    default: return reader.wide()
    }
  }

  private func request(_ reader: inout ByteReader, _ kind: VTd.Request.Kind) -> VTd.Request {
    let flags = reader.byte()
    let requester =
      flags & 1 == 0
      ? Self.requester
      : Requester(rawValue: UInt16(truncatingIfNeeded: reader.number(byteCount: 2)))
    let pasid = flags & 2 == 0 ? nil : PASID(UInt32(truncatingIfNeeded: reader.wide()) & 0xf_ffff)
    return VTd.Request(
      requester, IOVA(reader.iova()), VTd.Request.Operation.allCases[Int(flags >> 2 & 3)],
      kind: kind, pasid: pasid, isPrivileged: flags & 16 != 0, isExecute: flags & 32 != 0)
  }

  func act(_ reader: inout ByteReader) {
    let operation = reader.byte()
    let port = ports[Int(operation >> 7)]
    switch operation & 15 {
    case 0, 1:
      let word = reader.wide()
      store(word, address(&reader) & ~7)
    case 2, 3:
      let widths = [4, 8, 4, 8, 1, 2, 3, 16]
      let offset = UInt64(reader.number(byteCount: 2)) % (unit.windowByteCount + 16)
      let width = widths[Int(operation >> 4 & 7)]
      write(reader.wide(), width >= 8 ? offset & ~7 : offset & ~3, width)
    case 4:
      command(UInt64(reader.byte() & 31), operation & 16 == 0)
    case 5:
      // A pointer of the unit's, into memory or not.
      let offsets = [
        VTd.RegisterOffset.rootTableAddress, VTd.RegisterOffset.queueAddress,
        VTd.RegisterOffset.interruptTableAddress, VTd.RegisterOffset.pageRequestQueueAddress,
      ]
      let bits = reader.wide() & 0xfff
      write(address(&reader) & ~0xfff | bits, offsets[Int(operation >> 4 & 3)], 8)
    case 6, 7: enqueue(&reader, isWide: operation & 16 != 0)
    case 8, 9, 10:
      let request = request(&reader, operation & 64 == 0 ? .untranslated : .translated)
      let count = max(1, reader.wide())
      check(port.translate(request, byteCount: count), count)
    case 11: batch(&reader, port)
    case 12:
      _ = port.completeTranslationRequest(
        request(&reader, .translation(noWrite: operation & 16 != 0)))
    case 13:
      let request = request(&reader, .untranslated)
      let outcome = port.submitPageRequest(
        PageRequest(
          request.requester, pasid: request.pasid, address: IOVA(request.address),
          reads: operation & 16 == 0, writes: operation & 32 != 0,
          isPrivileged: request.isPrivileged, isLastInGroup: operation & 64 != 0,
          groupIndex: UInt16(reader.number(byteCount: 2)) & 511))
      if case .dropped(let response) = outcome {
        require(
          (response != nil) == (operation & 64 != 0), "the last of a group is answered at once")
      }
    case 14:
      _ = unit.remap(
        VTd.InterruptRequest(
          address: VTd.InterruptAddress(
            rawValue: UInt32(truncatingIfNeeded: 0xfee0_0000 | reader.wide() & 0xf_ffff)),
          data: VTd.InterruptData(rawValue: UInt32(truncatingIfNeeded: reader.wide()))),
        byteCount: operation & 16 == 0 ? 4 : Int(reader.byte()),
        from: operation & 32 == 0
          ? Self.requester : Requester(rawValue: UInt16(reader.number(byteCount: 2))))
    default: rare(operation, &reader)
    }
  }

  private func rare(_ operation: UInt8, _ reader: inout ByteReader) {
    switch operation >> 4 & 7 {
    case 0: unit.reset(isWarm: false)
    case 1: unit.reset(isWarm: true)
    case 2: device.answer = [.completed, .timedOut, .completedWrongly][reader.below(3)]
    case 3: unit.attach(reader.byte() & 1 == 0 ? nil : device, to: Self.requester)
    case 4:
      let port = ports[Int(operation >> 7)]
      let first = request(&reader, .untranslated)
      port.transaction { check(port.translate(first), 1) }
    default: _ = unit.read(reader.number(byteCount: 2), byteCount: reader.below(10))
    }
  }

  /// A descriptor at the tail, and the tail behind it.
  private func enqueue(_ reader: inout ByteReader, isWide: Bool) {
    let register = VTd.QueueAddress(
      rawValue: unit.read(VTd.RegisterOffset.queueAddress, byteCount: 8))
    let tail = unit.read(VTd.RegisterOffset.queueTail, byteCount: 8)
    let place = register.queue.rawValue &+ tail
    let low = reader.number(byteCount: 1) | reader.wide() << 4
    store(low, place & ~7)
    store(reader.wide(), place & ~7 &+ 8)
    if register.isWide {
      store(isWide ? reader.wide() : 0, place & ~7 &+ 16)
      store(0, place & ~7 &+ 24)
    }
    write(
      (tail &+ register.descriptorByteCount) % register.byteCount, VTd.RegisterOffset.queueTail, 8)
  }

  private func batch(_ reader: inout ByteReader, _ port: TranslationPort) {
    let first = reader.iova()
    let stride = reader.wide()
    let addresses = (0..<Int(reader.byte() & 63)).map { IOVA(first &+ UInt64($0) &* stride) }
    var answers = [PackedTranslation](
      repeating: PackedTranslation(rawValue: 0), count: addresses.count)
    var span = answers.mutableSpan
    let access: Access = reader.byte() & 1 == 0 ? .read : .write
    port.translate(addresses.span, access, of: Self.requester, into: &span)
    for (address, answer) in zip(addresses, answers) {
      // Nobody has changed anything meanwhile: a single call says the same.
      require(
        port.translate(address, access, of: Self.requester) == answer,
        "a batch says of \(address) what a single request is told")
    }
  }

  private func check(_ translation: Translation, _ count: UInt64) {
    switch translation {
    case .mapped(_, let byteCount):
      require(1...count ~= byteCount, "a mapping is no longer than the request")
    case .interruptMessage: break
    case .fault(let fault): require(!fault.meaning.isEmpty, "a fault has a meaning")
    }
  }

  // MARK: What has to hold

  /// Registers do not contradict each other.
  func checkCoherence() {
    let capability = unit.configuration.capability
    let records = (0..<capability.faultRecordCount).map {
      let place = capability.faultRecordOffset + UInt64($0) * 16
      return VTd.FaultRecord(
        low: unit.read(place, byteCount: 8), high: unit.read(place + 8, byteCount: 8))
    }
    let status = VTd.FaultStatus(
      rawValue: UInt32(unit.read(VTd.RegisterOffset.faultStatus, byteCount: 4)))
    require(
      status.hasPendingFault == records.contains(where: \.isValid),
      "PPF says whether a record has F")
    require(
      Int(status.firstRecord) < capability.faultRecordCount, "FRI names a record that there is")
    require(
      unit.read(VTd.RegisterOffset.queueHead, byteCount: 8) & 15 == 0,
      "the queue's head lies at a descriptor")
    for register in VTd.registerMap {
      guard case .at(let offset) = register.place, register.requirement == .always else { continue }
      let reserved = register.format.mask { $0.access == .reserved }
      let value = unit.read(offset, byteCount: register.format.byteCount == 4 ? 4 : 8)
      require(value & reserved.low == 0, "\(register.name) shows no reserved bit")
    }
  }

  /// After a reset, whatever came before: sound tables translate, and what is not mapped faults.
  func checkRecovery(isScalable: Bool) {
    unit.reset()
    setUp(isScalable: isScalable)
    for port in ports {
      let mapped = VTd.Request(Self.requester, IOVA(0x1234_5678), .write)
      require(
        port.translate(mapped, byteCount: 8)
          == .mapped(PhysicalAddress(Self.page + 0x678), byteCount: 8),
        "a unit that was reset translates by its tables: \(port.translate(mapped, byteCount: 8))")
      guard case .fault = port.translate(VTd.Request(Self.requester, IOVA(0x1234_6000))) else {
        fatalError("what is not mapped faults")
      }
      guard case .fault = port.translate(VTd.Request(Requester(rawValue: 0x28), IOVA(0))) else {
        fatalError("a device without tables faults")
      }
    }
  }
}

/// Answers invalidations as it is told to.
private final class HostileDevice: DeviceTLB, @unchecked Sendable {
  // Sendable: one thread does all.
  var answer = DeviceTLBInvalidationResult.completed

  func invalidate(_: VTd.DeviceTLBRange, of _: DeviceTLBTarget) -> DeviceTLBInvalidationResult {
    answer
  }

  func receive(_: PageGroupResponse) {}
}
