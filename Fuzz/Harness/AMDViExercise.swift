import IOMMUFormats
import IOMMUHardware
import IOMMUTestSupport
import IOMMUTranslation

/// A hostile guest with an AMD-Vi unit: it writes memory, registers and the unit's PCI function, queues
/// commands, and sends DMA, translation requests, page requests and interrupts, in any order.
///
/// The first byte says which unit and which caches, and whether a start with sound tables comes before
/// what the guest does. At the end its caches are dropped, and the unit answers as one without; then it
/// is reset, and translates as its tables say.
enum AMDViExercise {
  /// Operations of one input at most.
  private static let operationLimit = 512
  private static let byteCount: UInt64 = 4 << 20

  private static let configurations: [AMDViUnitConfiguration] = [.current, .qemu, .firstRevision]

  static func run(_ input: UnsafeRawBufferPointer) {
    guard input.count >= 2 else { return }
    var reader = ByteReader(input)
    let first = reader.byte()
    var configuration = configurations[Int(first & 3) % configurations.count]
    configuration.caches = [.none, .hardware, .everything][Int(first >> 2 & 3) % 3]
    guard let memory = try? FlatMemory(byteCount: byteCount) else { fatalError("no memory") }
    let guest = HostileAMDViGuest(configuration, memory)
    if first & 0x20 != 0 { guest.setUp() }
    for _ in 0..<operationLimit where !reader.isAtEnd { guest.act(&reader) }
    guest.checkCoherence()
    guest.checkCaches()
    guest.checkRecovery()
  }
}

private final class HostileAMDViGuest {
  private typealias Offset = AMDVi.RegisterOffset

  private let unit: AMDViUnit
  private let memory: FlatMemory
  private let device = HostileAMDViDevice()

  private static let deviceTable: UInt64 = 0x10_0000
  private static let tables: UInt64 = 0x11_0000
  private static let commands: UInt64 = 0x1_0000
  private static let events: UInt64 = 0x1_1000
  private static let requester = Requester(bus: 0, device: 4, function: 0)
  /// Where sound tables map IOVA 0x12345000 to.
  private static let page: UInt64 = 0x20_0000

  init(_ configuration: AMDViUnitConfiguration, _ memory: FlatMemory) {
    self.memory = memory
    do {
      unit = try AMDViUnit(configuration, memory: memory)
    } catch {
      fatalError("\(error)")
    }
    unit.attach(device, to: Self.requester)
  }

  private func store(_ word: UInt64, _ address: UInt64) {
    guard memory.isBacked(PhysicalAddress(address), byteCount: 8) else { return }
    memory.store(word, at: PhysicalAddress(address))
  }

  private func write(_ value: UInt64, _ offset: UInt64) {
    unit.write(value, at: offset, byteCount: 8)
  }

  private func read(_ offset: UInt64) -> UInt64 { unit.read(offset, byteCount: 8) }

  /// 00:04.0 has one page, and an interrupt.
  func setUp() {
    memory.zero(at: PhysicalAddress(Self.deviceTable), byteCount: 0x2_0000)
    let entry = Self.deviceTable + 32 * 0x20
    let pages: UInt64 = unit.configuration.features.hasPageRequests ? 1 << 52 : 0
    store(0x6000_0000_0000_0603 | pages | Self.tables, entry)
    store(0x1_0000_0005, entry + 8)
    store(0x2000_0000_0000_0013 | (Self.tables + 0x4000), entry + 16)
    store(0x6000_0000_0000_0401 | (Self.tables + 0x1000), Self.tables)
    store(0x6000_0000_0000_0201 | (Self.tables + 0x2000), Self.tables + 0x1488)
    store(0x6000_0000_0000_0001 | Self.page, Self.tables + 0x2a28)
    store(0x0031_0f01_0031_0f01, Self.tables + 0x4000)
    // The third device has entries and nothing in them.
    store(0x3, Self.deviceTable + 32 * 0x28)
    write(Self.deviceTable | 0x3, Offset.deviceTableBase)
    write(0x0800_0000_0000_0000 | Self.commands, Offset.commandBufferBase)
    write(0x0800_0000_0000_0000 | Self.events, Offset.eventLogBase)
    write(0x0800_0000_0000_2000 | Self.commands, Offset.pageRequestLogBase)
    write(0x0800_0000_0000_3000 | Self.commands, Offset.guestLogBase)
    write(0x1400 | 0xf01d, Offset.control)
  }

  // MARK: What the guest does

  /// An address in memory, or near it, or anywhere.
  private func address(_ reader: inout ByteReader) -> UInt64 {
    let kind = reader.byte()
    let value = reader.number(byteCount: 2)
    switch kind & 3 {
    case 0: return Self.deviceTable + value & 0x1_fff8
    case 1: return Self.commands + value & 0x3ff8
    case 2: return value << 6
    default: return reader.wide()
    }
  }

  private func requester(_ reader: inout ByteReader, isOther: Bool) -> Requester {
    isOther ? Requester(rawValue: UInt16(reader.number(byteCount: 2))) : Self.requester
  }

  private func request(_ reader: inout ByteReader) -> AMDVi.Request {
    let flags = reader.byte()
    let requester = requester(&reader, isOther: flags & 1 != 0)
    let pasid = flags & 2 == 0 ? nil : PASID(UInt32(truncatingIfNeeded: reader.wide()))
    return AMDVi.Request(
      requester, IOVA(reader.iova()), VTd.Request.Operation.allCases[Int(flags >> 2 & 3)],
      pasid: pasid, isSupervisor: flags & 16 != 0, isExecute: flags & 32 != 0)
  }

  func act(_ reader: inout ByteReader) {
    let operation = reader.byte()
    switch operation & 15 {
    case 0, 1:
      let word = reader.wide()
      store(word, address(&reader) & ~7)
    case 2, 3:
      let offset = UInt64(reader.number(byteCount: 2)) % (unit.windowByteCount + 16)
      let width = [8, 4, 8, 2, 1, 8, 3, 16][Int(operation >> 4 & 7)]
      unit.write(reader.wide(), at: width >= 8 ? offset & ~7 : offset, byteCount: width)
    case 4:
      write(read(Offset.control) ^ 1 << UInt64(reader.byte() & 63), Offset.control)
    case 5:
      // A pointer of the unit's, into memory or not.
      let offsets = [
        Offset.deviceTableBase, Offset.commandBufferBase, Offset.eventLogBase,
        Offset.pageRequestLogBase, Offset.guestLogBase, Offset.deviceTableSegmentBase,
        Offset.exclusionBase, Offset.exclusionLimit,
      ]
      let bits = reader.wide() & 0x0f00_0000_0000_0fff
      write(address(&reader) & ~0xfff | bits, offsets[Int(operation >> 4 & 7)])
    case 6, 7: enqueue(&reader)
    case 8, 9, 10:
      let request = request(&reader)
      let count = max(1, reader.wide())
      check(unit.translate(request, byteCount: count), count)
    case 11: _ = unit.passTranslated(request(&reader))
    case 12: _ = unit.completeTranslationRequest(request(&reader))
    case 13:
      let request = request(&reader)
      let entry = AMDVi.PageRequestEntry(
        request.requester, pasid: request.pasid, address: IOVA(request.address),
        reads: operation & 16 == 0, writes: operation & 32 != 0, isUser: !request.isSupervisor,
        tag: UInt16(reader.number(byteCount: 2)), isLast: operation & 64 != 0)
      if case .dropped(let response?) = unit.submit(entry) {
        require(entry.isLast && response.tag == entry.tag, "an answer is to the last of its group")
      }
    case 14:
      _ = unit.remap(
        AMDVi.InterruptRequest(
          address: 0xfee0_0000 | reader.wide() & 0xf_ffff,
          data: UInt32(truncatingIfNeeded: reader.wide())),
        from: requester(&reader, isOther: operation & 32 != 0))
    default: rare(operation, &reader)
    }
  }

  private func rare(_ operation: UInt8, _ reader: inout ByteReader) {
    switch operation >> 4 {
    case 0: unit.reset()
    case 1: device.answers = reader.byte() & 1 == 0
    case 2: unit.attach(reader.byte() & 1 == 0 ? nil : device, to: Self.requester)
    case 3: write(0x7, Offset.status)
    case 4...7:
      unit.writeConfiguration(
        UInt32(truncatingIfNeeded: reader.wide()), at: Int(reader.number(byteCount: 2)) - 16)
    case 8: _ = unit.readConfiguration(Int(reader.number(byteCount: 2)) - 16)
    default: _ = unit.read(reader.number(byteCount: 2), byteCount: reader.below(18))
    }
  }

  /// A command at the tail, and the tail behind it.
  private func enqueue(_ reader: inout ByteReader) {
    let base = AMDVi.CommandBufferBase(rawValue: read(Offset.commandBufferBase))
    let tail = read(Offset.commandTail) & (base.byteCount.map { $0 - 1 } ?? 0xfff)
    let code = UInt64(reader.byte())
    // Reserved bits are zero in most.
    let isLegal = code & 0x80 == 0
    let (low, high) = (reader.wide(), reader.wide())
    func masked<Command: AMDViCommand>(_: Command.Type) -> (UInt64, UInt64) {
      let reserved = Command.reservedMasks(.permissive)
      return (low & ~reserved.low, high & ~reserved.high)
    }
    var words = (low, high)
    if isLegal, let format = AMDVi.CommandCode(rawValue: UInt8(code & 15)).format {
      words = masked(format)
    }
    let place = base.address.rawValue &+ tail
    store(words.0 & ~(15 << 60) | (code & 15) << 60, place & ~7)
    store(words.1, place & ~7 &+ 8)
    write(tail &+ 16, Offset.commandTail)
  }

  private func check(_ answer: AMDVi.Answer, _ count: UInt64) {
    switch answer {
    case .mapped(_, let byteCount):
      require(1...count ~= byteCount, "a mapping is no longer than the request")
    case .interruptMessage: break
    case .fault(let fault): require(!fault.fault.meaning.isEmpty, "a fault has a meaning")
    }
  }

  // MARK: What has to hold

  /// Registers do not contradict each other.
  func checkCoherence() {
    let control = AMDVi.Control(rawValue: read(Offset.control))
    let status = AMDVi.Status(rawValue: read(Offset.status))
    require(
      !status.fetchesCommands || control.isEnabled && control.fetchesCommands,
      "commands run where they are switched on")
    require(
      !status.logsEvents || control.isEnabled && control.logsEvents,
      "the event log runs where it is switched on")
    require(
      !(status.logsEvents && status.hasEventOverflow), "a log that has overflowed does not run")
    if status.fetchesCommands,
      let size = AMDVi.CommandBufferBase(rawValue: read(Offset.commandBufferBase)).byteCount
    {
      require(
        (read(Offset.commandHead) ^ read(Offset.commandTail)) & (size - 1) == 0,
        "a buffer that runs is empty")
    }
    for register in AMDVi.registerMap where register.format.byteCount == 8 {
      let reserved = register.format.mask { $0.access == .reserved }.low
      require(read(register.offset) & reserved == 0, "\(register.name) shows no reserved bit")
    }
  }

  /// Once everything is dropped a unit answers as one that never kept anything.
  func checkCaches() {
    guard unit.configuration.features.hasInvalidateAll else { return }
    // Nothing is logged, and no command of the guest's runs.
    let control = read(Offset.control) & ~0x1000_3004
    write(control & ~1, Offset.control)
    write(0x0800_0000_0000_0000 | Self.commands, Offset.commandBufferBase)
    write(control | 1 | 1 << 12, Offset.control)
    store(0x8 << 60, Self.commands)
    store(0, Self.commands + 8)
    write(0x10, Offset.commandTail)
    require(read(Offset.status) & 0x10 != 0, "everything can be dropped")
    var configuration = unit.configuration
    configuration.caches = .none
    guard let plain = try? AMDViUnit(configuration, memory: memory) else { fatalError("no unit") }
    let copied = AMDVi.registerMap.filter {
      [
        "DevTabBase", "DevTabSegBase", "ExclBase", "ExclLimit", "SmiFilter",
      ].contains($0.name)
    }
    for register in copied {
      for index in 0..<UInt64(register.count) {
        let place = register.offset + index * register.strideByteCount
        plain.write(read(place), at: place, byteCount: 8)
      }
    }
    plain.write(control | 1, at: Offset.control, byteCount: 8)
    for _ in 0..<2 {
      for (number, address): (UInt16, UInt64) in [
        (0x20, 0x1234_5010), (0x20, 0x1234_6010), (0x20, 0), (0x21, 0x1234_5010), (0x28, 0),
        (0xffff, 0x4000_0000),
      ] {
        for operation in VTd.Request.Operation.allCases {
          for pasid in [nil, PASID(0), PASID(1)] {
            let request = AMDVi.Request(
              Requester(rawValue: number), IOVA(address), operation, pasid: pasid)
            let expected = plain.translate(request, byteCount: 64)
            let answer = unit.translate(request, byteCount: 64)
            require(answer == expected, "\(request): \(answer), without caches \(expected)")
          }
        }
        let interrupt = AMDVi.InterruptRequest(index: number & 0x1ff)
        require(
          unit.remap(interrupt, from: Requester(rawValue: number))
            == plain.remap(interrupt, from: Requester(rawValue: number)),
          "\(interrupt) ends as without caches")
      }
    }
  }

  /// After a reset, whatever came before: sound tables translate, and what is not mapped faults.
  func checkRecovery() {
    unit.reset()
    setUp()
    let mapped = AMDVi.Request(Self.requester, IOVA(0x1234_5678), .write)
    require(
      unit.translate(mapped, byteCount: 8)
        == .mapped(PhysicalAddress(Self.page + 0x678), byteCount: 8),
      "a unit that was reset translates by its tables")
    for request in [
      AMDVi.Request(Self.requester, IOVA(0x1234_6000)),
      AMDVi.Request(Requester(rawValue: 0x28), IOVA(0)),
      AMDVi.Request(Requester(rawValue: 0x8000), IOVA(0)),
    ] {
      guard case .fault = unit.translate(request) else { fatalError("\(request) faults") }
    }
  }
}

/// Answers invalidations as it is told to.
private final class HostileAMDViDevice: AMDViDeviceTLB, @unchecked Sendable {
  // Sendable: one thread does all.
  var answers = true

  func invalidate(_: AMDVi.InvalidateDeviceTLBCommand) -> Bool { answers }
  func receive(_: AMDViPageResponse) {}
}
