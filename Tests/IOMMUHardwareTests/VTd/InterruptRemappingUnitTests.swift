import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import Testing

@Suite struct InterruptRemappingUnitTests {
  typealias Entry = VTd.InterruptRemappingEntry
  typealias Offset = VTd.RegisterOffset

  static let table = PhysicalAddress(0x10_0000)
  static let queue = PhysicalAddress(0x20_0000)
  static let status = PhysicalAddress(0x20_1000)
  static let descriptor = PhysicalAddress(0x30_0040)
  static let source = Requester(rawValue: 0x00fa)

  /// A unit with interrupt remapping on, a table of 65,536 entries, and a queue.
  struct Machine {
    let memory: FlatMemory
    let unit: RemappingUnit
    var tail = 0

    /// - Parameters:
    ///   - capability: QEMU's with eight fault records, and what a test adds.
    init(
      capability: UInt64 = 0, extendedCapability: UInt64 = 0, extendedMode: Bool = false,
      caches: CacheConfiguration = .everything, enables: Bool = true
    ) throws {
      memory = try FlatMemory(byteCount: 4 << 20)
      unit = try RemappingUnit(
        RemappingUnitConfiguration(
          version: VTd.Version(major: 1, minor: 0),
          capability: VTd.Capability(rawValue: 0x00d2_078c_222f_0606 | capability),
          extendedCapability: VTd.ExtendedCapability(rawValue: 0xf0_0f5a | extendedCapability),
          hostAddressWidth: 39, caches: caches), memory: memory)
      unit.write(
        InterruptRemappingUnitTests.table.rawValue | (extendedMode ? 0x80f : 0xf),
        at: Offset.interruptTableAddress, byteCount: 8)
      unit.write(
        InterruptRemappingUnitTests.queue.rawValue, at: Offset.queueAddress, byteCount: 8)
      unit.write(0x0500_0000, at: Offset.globalCommand, byteCount: 4)
      if enables { unit.write(0x0600_0000, at: Offset.globalCommand, byteCount: 4) }
    }

    func store(_ entry: Entry, at index: Int) {
      entry.store(
        to: memory,
        at: PhysicalAddress(InterruptRemappingUnitTests.table.rawValue + UInt64(index) * 16))
    }

    /// Queues a descriptor by its bytes.
    mutating func queue(_ bytes: String) {
      hexdump(bytes).withUnsafeBytes {
        _ = memory.write(
          $0, at: PhysicalAddress(InterruptRemappingUnitTests.queue.rawValue + UInt64(tail) * 16))
      }
      tail += 1
      unit.write(UInt64(tail) * 16, at: Offset.queueTail, byteCount: 8)
    }

    /// The fault records that are valid, as their two quadwords.
    var records: [[UInt64]] {
      (0..<8).compactMap { index in
        let offset = 0x220 + UInt64(index) * 16
        let words = [
          unit.read(offset, byteCount: 8), unit.read(offset + 8, byteCount: 8),
        ]
        return words[1] >> 63 == 0 ? nil : words
      }
    }

    func send(
      _ index: UInt16, from requester: Requester = InterruptRemappingUnitTests.source
    ) -> InterruptOutcome {
      unit.remap(VTd.InterruptRequest(index: index, subhandle: 0), from: requester)
    }
  }

  static let entry = Entry(vector: 0x31, destination: 2, usesExtendedMode: false).admitting(source)
  static let delivery = InterruptDelivery(vector: 0x31, destination: 2)

  static func isBlocked(_ outcome: InterruptOutcome, _ reason: UInt8) -> Bool {
    if case .blocked(let fault) = outcome { fault.reason.rawValue == reason } else { false }
  }

  @Test func `status follows the commands, and IRTA reads as it was written`() throws {
    let machine = try Machine(extendedMode: true)
    #expect(machine.unit.read(Offset.globalStatus, byteCount: 4) == 0x0700_0000)
    #expect(machine.unit.read(Offset.interruptTableAddress, byteCount: 8) == 0x10_080f)
    let address = VTd.InterruptTableAddress(
      table: PhysicalAddress(0x100_0000), sizeCode: 15, usesExtendedMode: true)
    #expect(address.rawValue == 0x0000_0000_0100_080f)
    #expect(address.entryCount == 65_536)
  }

  @Test func `an interrupt goes where its entry says`() throws {
    let machine = try Machine()
    machine.store(Self.entry, at: 0x17)
    #expect(machine.send(0x17) == .delivered(Self.delivery))
    #expect(machine.records.isEmpty)
  }

  @Test func `a fault is recorded with the index on top`() throws {
    let machine = try Machine()
    #expect(Self.isBlocked(machine.send(0x17), 0x22))
    // As bytes: 00 00 00 00 00 00 17 00, fa 00 00 00 22 00 00 80.
    #expect(machine.records == [[0x0017_0000_0000_0000, 0x8000_0022_0000_00fa]])
    #expect(machine.unit.read(Offset.faultStatus, byteCount: 4) == 0x0000_0002)
  }

  @Test func `FPD of the entry silences the record`() throws {
    let machine = try Machine()
    machine.store(Entry(low: 2), at: 0x17)
    #expect(Self.isBlocked(machine.send(0x17), 0x22))
    #expect(machine.records.isEmpty)
  }

  @Test func `off, requests pass as they stand`() throws {
    let machine = try Machine(enables: false)
    let request = VTd.InterruptRequest(index: 0x17, subhandle: 0)
    #expect(machine.unit.remap(request, from: Self.source) == .passed(request))
    #expect(machine.unit.remap(request, byteCount: 8, from: Self.source) == .passed(request))
  }

  @Test func `compatibility format passes only when software lets it`() throws {
    let machine = try Machine()
    let request = VTd.InterruptRequest(
      address: VTd.InterruptAddress(rawValue: 0xfee0_1000),
      data: VTd.InterruptData(rawValue: 0x4041))
    #expect(Self.isBlocked(machine.unit.remap(request, from: Self.source), 0x25))
    machine.unit.write(0x0680_0000, at: Offset.globalCommand, byteCount: 4)
    #expect(machine.unit.read(Offset.globalStatus, byteCount: 4) == 0x0780_0000)
    #expect(machine.unit.remap(request, from: Self.source) == .passed(request))
    #expect(machine.records.count == 1)
  }

  @Test func `in extended mode compatibility format never passes`() throws {
    let machine = try Machine(extendedMode: true)
    machine.unit.write(0x0680_0000, at: Offset.globalCommand, byteCount: 4)
    let request = VTd.InterruptRequest(
      address: VTd.InterruptAddress(rawValue: 0xfee0_1000),
      data: VTd.InterruptData(rawValue: 0x4041))
    #expect(Self.isBlocked(machine.unit.remap(request, from: Self.source), 0x25))
  }

  @Test func `units that require remapping or extended mode block all without`() throws {
    let request = VTd.InterruptRequest(index: 0, subhandle: 0)
    let off = try Machine(extendedCapability: 1 << 62, enables: false)
    #expect(Self.isBlocked(off.unit.remap(request, from: Self.source), 0x2b))
    let narrow = try Machine(extendedCapability: 1 << 61)
    narrow.store(Self.entry, at: 0)
    #expect(Self.isBlocked(narrow.send(0), 0x2a))
  }

  @Test func `a store of other than four bytes is no interrupt`() throws {
    let machine = try Machine()
    machine.store(Self.entry, at: 0x17)
    let request = VTd.InterruptRequest(index: 0x17, subhandle: 0)
    #expect(Self.isBlocked(machine.unit.remap(request, byteCount: 8, from: Self.source), 0x29))
    #expect(machine.records == [[0, 0x8000_0029_0000_00fa]])
  }

  // MARK: The interrupt entry cache

  @Test func `a cached entry lives until it is invalidated`() throws {
    var machine = try Machine()
    machine.store(Self.entry, at: 7)
    #expect(machine.send(7) == .delivered(Self.delivery))
    machine.store(Entry(), at: 7)
    #expect(machine.send(7) == .delivered(Self.delivery), "as it was when it was read")
    // Another index, then all: iec_inv index 8 IM 0, iec_inv global.
    machine.queue("1400000008000000 0000000000000000")
    #expect(machine.send(7) == .delivered(Self.delivery))
    machine.queue("0400000000000000 0000000000000000")
    #expect(Self.isBlocked(machine.send(7), 0x22))
  }

  @Test func `an index mask drops an aligned run`() throws {
    var machine = try Machine()
    for index in 0..<16 { machine.store(Self.entry, at: index) }
    for index in 0..<16 { _ = machine.send(UInt16(index)) }
    for index in 0..<16 { machine.store(Entry(), at: index) }
    // Index 7 with IM 2: entries 4 to 7.
    machine.queue("1400001007000000 0000000000000000")
    let stale = (0..<16).filter { machine.send(UInt16($0)) == .delivered(Self.delivery) }
    #expect(stale == [0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15])
    #expect(machine.unit.interruptEntryCounters.invalidations == 4)
  }

  @Test func `entries that are not present are not kept, but in caching mode`() throws {
    let machine = try Machine()
    #expect(Self.isBlocked(machine.send(7), 0x22))
    machine.store(Self.entry, at: 7)
    #expect(machine.send(7) == .delivered(Self.delivery))
    let caching = try Machine(capability: 1 << 7)
    #expect(Self.isBlocked(caching.send(7), 0x22))
    caching.store(Self.entry, at: 7)
    #expect(Self.isBlocked(caching.send(7), 0x22))
  }

  @Test func `a source that was refused is checked anew`() throws {
    let machine = try Machine()
    machine.store(Self.entry, at: 7)
    #expect(Self.isBlocked(machine.send(7, from: Requester("00:02.0")!), 0x26))
    #expect(machine.send(7) == .delivered(Self.delivery))
    #expect(machine.unit.interruptEntryCounters.hits == 1)
  }

  @Test func `without a cache every request reads its entry`() throws {
    let machine = try Machine(caches: .none)
    machine.store(Self.entry, at: 7)
    #expect(machine.send(7) == .delivered(Self.delivery))
    machine.store(Entry(), at: 7)
    #expect(Self.isBlocked(machine.send(7), 0x22))
  }

  @Test func `a new table pointer drops entries when the unit says so`() throws {
    for (capability, isDropped) in [(UInt64(0), false), (1 << 62, true)] {
      let machine = try Machine(capability: capability)
      machine.store(Self.entry, at: 7)
      _ = machine.send(7)
      machine.store(Entry(), at: 7)
      machine.unit.write(0x0700_0000, at: Offset.globalCommand, byteCount: 4)
      #expect(Self.isBlocked(machine.send(7), 0x22) == isDropped)
    }
  }

  @Test func `switching off drops entries when the unit says so`() throws {
    for (capability, isDropped) in [(UInt64(0), false), (1 << 62, true)] {
      let machine = try Machine(capability: capability)
      machine.store(Self.entry, at: 7)
      _ = machine.send(7)
      machine.store(Entry(), at: 7)
      machine.unit.write(0x0400_0000, at: Offset.globalCommand, byteCount: 4)
      machine.unit.write(0x0600_0000, at: Offset.globalCommand, byteCount: 4)
      #expect(Self.isBlocked(machine.send(7), 0x22) == isDropped)
    }
  }

  // MARK: Posting

  /// A machine that can post, with a posted entry at index 3.
  static func postingMachine(
    _ descriptor: VTd.PostedInterruptDescriptor, isUrgent: Bool = false, extendedMode: Bool = true
  ) throws -> Machine {
    let machine = try Machine(capability: 1 << 59, extendedMode: extendedMode)
    descriptor.bytes.withUnsafeBytes { _ = machine.memory.write($0, at: Self.descriptor) }
    machine.store(
      Entry(postingIn: Self.descriptor, vector: 0x55, isUrgent: isUrgent).admitting(source), at: 3)
    return machine
  }

  @Test func `a posted interrupt is set and told of once`() throws {
    let machine = try Self.postingMachine(
      VTd.PostedInterruptDescriptor(notificationVector: 0xf2, destination: 0x0102_0304))
    #expect(
      machine.send(3)
        == .posted(notification: InterruptDelivery(vector: 0xf2, destination: 0x0102_0304)))
    #expect(machine.send(3) == .posted(notification: nil), "ON is set already")
    #expect(
      machine.memory.bytes(at: Self.descriptor, count: 64)
        == hexdump(
          """
          0000000000000000 0000200000000000 0000000000000000 0000000000000000
          0100f20004030201 0000000000000000 0000000000000000 0000000000000000
          """))
    #expect(machine.records.isEmpty)
  }

  @Test func `a suppressed notification is sent for urgent interrupts alone`() throws {
    let suppressed = VTd.PostedInterruptDescriptor(
      notificationVector: 0xf2, destination: 5, isSuppressed: true)
    let plain = try Self.postingMachine(suppressed)
    #expect(plain.send(3) == .posted(notification: nil))
    #expect(plain.memory.quadword(at: PhysicalAddress(Self.descriptor.rawValue + 8)) == 1 << 21)
    let urgent = try Self.postingMachine(suppressed, isUrgent: true)
    #expect(
      urgent.send(3) == .posted(notification: InterruptDelivery(vector: 0xf2, destination: 5)))
  }

  @Test func `without extended mode the destination is bits 15 to 8`() throws {
    let machine = try Self.postingMachine(
      VTd.PostedInterruptDescriptor(notificationVector: 0xf2, destination: 0x0500),
      extendedMode: false)
    #expect(
      machine.send(3) == .posted(notification: InterruptDelivery(vector: 0xf2, destination: 5)))
  }

  @Test func `a descriptor that cannot be used is reason 27h or 28h`() throws {
    var broken = VTd.PostedInterruptDescriptor(notificationVector: 0xf2, destination: 5)
    broken.quadwords[4] |= 4
    let machine = try Self.postingMachine(broken)
    #expect(Self.isBlocked(machine.send(3), 0x28))
    #expect(
      machine.memory.quadword(at: PhysicalAddress(Self.descriptor.rawValue + 8)) == 0,
      "nothing is set")
    machine.store(Entry(postingIn: PhysicalAddress(0x4000_0000), vector: 1), at: 4)
    #expect(Self.isBlocked(machine.send(4), 0x27))
    var silent = Entry(postingIn: PhysicalAddress(0x4000_0000), vector: 1)
    silent.low |= 2
    machine.store(silent, at: 5)
    #expect(Self.isBlocked(machine.send(5), 0x27))
    #expect(machine.records.map { $0[0] } == [3 << 48, 4 << 48])
  }
}
