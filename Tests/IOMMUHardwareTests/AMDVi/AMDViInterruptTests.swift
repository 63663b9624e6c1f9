import IOMMUFormats
import IOMMUTranslation
import Testing

@testable import IOMMUHardware

/// Interrupt remapping, X5 to X12 of the manual and each step of its order.
@Suite struct AMDViInterruptTests {
  typealias Offset = AMDVi.RegisterOffset
  static let device = AMDViMachine.device
  /// IntCtl 10b, IntTabLen 9, IV; table at 0x17_0000.
  static let interrupts: UInt64 = 0x2000_0000_0017_0013

  private func machine(
    _ quadword: UInt64 = interrupts, upper: UInt64 = 0, control: UInt64 = 0x1405
  ) throws -> AMDViMachine {
    let machine = try AMDViMachine()
    machine.setEntry([0, 0, quadword, upper])
    machine[Offset.control] = control
    return machine
  }

  private func outcome(_ machine: AMDViMachine, _ data: UInt32) -> AMDViInterruptOutcome {
    machine.unit.remap(
      AMDVi.InterruptRequest(address: 0xfee0_0000, data: data), from: Self.device)
  }

  private func isBlocked(_ machine: AMDViMachine, _ data: UInt32) -> AMDVi.FaultReason? {
    guard case .blocked(let fault) = outcome(machine, data) else { return nil }
    return fault.reason
  }

  private func delivered(
    _ vector: UInt8, _ destination: UInt32, isLogical: Bool = false,
    mode: VTd.DeliveryMode = .fixed
  ) -> AMDViInterruptOutcome {
    .delivered(
      InterruptDelivery(
        vector: vector, destination: destination, deliveryMode: mode, isLogical: isLogical))
  }

  private func passed(_ data: UInt32) -> AMDViInterruptOutcome {
    .passed(AMDVi.InterruptRequest(address: 0xfee0_0000, data: data))
  }

  @Test func `X5, X7 and X9: the data names an entry of 32 bits`() throws {
    // 32 bits each: X1 at index 25h, X2 at 1FFh, X1 at 41h.
    for (data, place, word): (UInt32, UInt64, UInt64) in [
      (0x25, 0x17_0090, 0x0031_0f41_0000_0000), (0x1ff, 0x17_07f8, 0x0041_0205_0000_0000),
      (0x4041, 0x17_0100, 0x0031_0f41_0000_0000),
    ] {
      let machine = try machine()
      machine.store([place: word])
      #expect(
        outcome(machine, data)
          == (data == 0x1ff
            ? delivered(0x41, 2, mode: .lowestPriority) : delivered(0x31, 0x0f, isLogical: true)))
      #expect(machine.events().isEmpty && !machine.wasAborted)
    }
  }

  @Test func `X6 and X8: entries of 128 bits, 2,048 of them`() throws {
    let machine = try machine(control: 0x4_0000_0002_1405)
    AMDVi.WideInterruptEntry(vector: 0x31, destination: 0x1234_5678, isLogical: false)
      .store(to: machine.memory, at: PhysicalAddress(0x17_0250))
    #expect(outcome(machine, 0x25) == delivered(0x31, 0x1234_5678))
    // Without XTEn an APIC id has eight bits.
    machine[Offset.control] = 0x2_1405
    #expect(outcome(machine, 0x25) == delivered(0x31, 0x78))
    // NumIntRemapMode 1, IntTabLen 11.
    machine[Offset.control] = 0x4_0800_0002_1405
    machine.run(AMDVi.InvalidateDeviceEntryCommand(Self.device))
    machine.setEntry([0, 0, 0x2000_0000_0017_0017, 0])
    AMDVi.WideInterruptEntry(vector: 0x77, destination: 5, isLogical: false)
      .store(to: machine.memory, at: PhysicalAddress(0x17_7ff0))
    #expect(outcome(machine, 0x7ff) == delivered(0x77, 5))
  }

  @Test func `X10: an index beyond the table`() throws {
    let machine = try machine(0x2000_0000_0017_0011)
    #expect(isBlocked(machine, 0x100) == .interruptBeyondTable)
    #expect(machine.events() == ["2000000000000820 0000e0fe00000000"] && machine.wasAborted)
    // IG
    machine.run(AMDVi.InvalidateDeviceEntryCommand(Self.device))
    machine.setEntry([0, 0, 0x2000_0000_0017_0031, 0])
    #expect(isBlocked(machine, 0x100) == .interruptBeyondTable)
    #expect(machine.events().isEmpty && machine.wasAborted)
  }

  @Test func `X11: in 512-entry mode a system management interrupt is never looked up`() throws {
    let machine = try machine(0x2000_0000_0017_0017)
    #expect(outcome(machine, 0x200) == passed(0x200))
    // SmiFEn: only from devices that a filter names.
    machine[Offset.control] = 0x40_1405
    #expect(isBlocked(machine, 0x200) == .interruptNotPassed)
    machine[Offset.systemManagementFilter + 8] = 0x1_0020
    #expect(outcome(machine, 0x200) == passed(0x200))
    machine[Offset.systemManagementFilter + 8] = 0x0_0020
    #expect(isBlocked(machine, 0x200) == .interruptNotPassed)
    #expect(machine.events().isEmpty)
  }

  @Test func `X12 and E10: a table that is too long`() throws {
    for code: UInt64 in 12...15 {
      let machine = try machine(0x2000_0000_0017_0001 | code << 1)
      #expect(isBlocked(machine, 0x25) == .interruptTableLengthIllegal)
      #expect(machine.events() == ["2000000000000810 0000e0fe00000000"] && machine.wasAborted)
    }
  }

  @Test func `without IV interrupts pass, whatever IntCtl says`() throws {
    for control: UInt64 in 0...3 {
      let machine = try machine(control << 60)
      #expect(outcome(machine, 0x25) == passed(0x25))
    }
    let off = try machine(control: 0x1404)
    #expect(outcome(off, 0x25) == passed(0x25))
  }

  @Test func `IntCtl aborts without a word, forwards, or is illegal`() throws {
    let aborting = try machine(0x0000_0000_0017_0013)
    #expect(isBlocked(aborting, 0x25) == .interruptNotPassed)
    #expect(aborting.events().isEmpty && aborting.wasAborted)
    let forwarding = try machine(0x1000_0000_0017_0013)
    #expect(
      outcome(forwarding, 0x25) == passed(0x25) && outcome(forwarding, 0x125) == passed(0x125))
    let illegal = try machine(0x3000_0000_0017_0013)
    #expect(isBlocked(illegal, 0x25) == .interruptControlReserved)
    #expect(illegal.events() == ["2000000000000810 0000e0fe00000000"])
  }

  @Test func `a reserved bit of the interrupt half is illegal`() throws {
    let machine = try machine(Self.interrupts | 1 << 52)
    #expect(isBlocked(machine, 0x25) == .interruptFieldsReserved)
    #expect(machine.events() == ["2000000000008810 0000e0fe00000000"])
    let other = try self.machine(upper: 1)
    #expect(isBlocked(other, 0x25) == .interruptFieldsReserved)
  }

  @Test func `NMI, INIT and ExtINT have bits of their own, and one processor`() throws {
    for (mode, bit): (UInt32, UInt64) in [(4, 58), (5, 56), (7, 57)] {
      let data = mode << 8 | 0x25
      let machine = try machine()
      #expect(isBlocked(machine, data) == .interruptNotPassed)
      machine.run(AMDVi.InvalidateDeviceEntryCommand(Self.device))
      machine.setEntry([0, 0, Self.interrupts | 1 << bit, 0])
      #expect(outcome(machine, data) == passed(data))
      let logical = AMDVi.InterruptRequest(address: 0xfee0_0004, data: data)
      guard case .blocked(let fault) = machine.unit.remap(logical, from: Self.device) else {
        Issue.record("a logical destination passes")
        continue
      }
      #expect(fault.reason == .interruptNotPassed)
    }
    let machine = try machine(Self.interrupts | 7 << 56)
    #expect(isBlocked(machine, 0x325) == .interruptNotPassed)
    #expect(isBlocked(machine, 0x625) == .interruptNotPassed)
    #expect(machine.events().isEmpty)
  }

  @Test func `an entry without RemapEn, or of a type that is none`() throws {
    let machine = try machine()
    #expect(isBlocked(machine, 0x25) == .interruptNotPresent)
    #expect(machine.events() == ["2000000000000820 0000e0fe00000000"])
    // IntType 2; GuestMode; a reserved bit.
    for word: UInt64 in [0x0031_0f09, 0x0031_0f81, 0x0131_0f01] {
      machine.store([0x17_0090: word << 32])
      machine.run(AMDVi.InvalidateInterruptTableCommand(Self.device))
      #expect(isBlocked(machine, 0x25) == .interruptEntryReserved)
      #expect(machine.events() == ["2000000000009820 0000e0fe00000000"])
      // SupIOPF
      machine.store([0x17_0090: (word | 2) << 32])
      machine.run(AMDVi.InvalidateInterruptTableCommand(Self.device))
      #expect(isBlocked(machine, 0x25) == .interruptEntryReserved)
      #expect(machine.events().isEmpty && machine.wasAborted)
    }
  }

  @Test func `a guest's entry needs GAMEn`() throws {
    let machine = try machine(control: 0x2_1405)
    AMDVi.WideInterruptEntry(
      guestVector: 0x55, page: PhysicalAddress(0x19_0000), tag: 1, destination: 3,
      isRunning: true, isLogged: false
    ).store(to: machine.memory, at: PhysicalAddress(0x17_0250))
    #expect(isBlocked(machine, 0x25) == .interruptEntryReserved)
    machine[Offset.control] = 0x202_1405
    guard case .guest(let interrupt) = outcome(machine, 0x25) else {
      Issue.record("the guest gets nothing")
      return
    }
    #expect(interrupt.vector == 0x55 && interrupt.isRunning)
  }

  @Test func `an interrupt table where no memory answers`() throws {
    let machine = try machine(0x2000_0000_c000_0013)
    #expect(isBlocked(machine, 0x25) == .interruptTableUnreadable)
    #expect(machine.events() == ["2000000000000844 940000c000000000"])
  }

  @Test func `a device beyond the table, and one whose entry no memory holds`() throws {
    let machine = try machine()
    let far = Requester(rawValue: 0x1000)
    guard case .blocked = machine.unit.remap(AMDVi.InterruptRequest(index: 1), from: far) else {
      Issue.record("it passes")
      return
    }
    #expect(machine.events() == ["0010000000000820 0000e0fe00000000"])
    machine[Offset.deviceTableBase] = 0xc010_001f
    guard
      case .blocked = machine.unit.remap(
        AMDVi.InterruptRequest(index: 1), from: Requester(rawValue: 0x21))
    else {
      Issue.record("it passes")
      return
    }
    #expect(machine.events() == ["2100000000000834 200410c000000000"])
  }

  @Test func `an I/O APIC's vector and mode are the index`() throws {
    let machine = try machine()
    machine.store([0x17_0090: 0x0031_0f41_0000_0000])
    // Vector 25h, fixed, level-triggered, destination 3.
    let request = AMDVi.InterruptRequest(redirectionEntry: 0x0300_0000_0000_8025)
    #expect(request == AMDVi.InterruptRequest(address: 0xfee0_3000, data: 0x8025))
    #expect(
      machine.unit.remap(request, from: Self.device) == delivered(0x31, 0x0f, isLogical: true))
  }

  @Test func `an interrupt entry is kept until the table is dropped`() throws {
    let machine = try machine()
    machine.store([0x17_0090: 0x0031_0f41_0000_0000])
    let old = delivered(0x31, 0x0f, isLogical: true)
    let new = delivered(0x32, 0x0f, isLogical: true)
    #expect(outcome(machine, 0x25) == old)
    machine.store([0x17_0090: 0x0032_0f41_0000_0000])
    #expect(outcome(machine, 0x25) == old)
    machine.run(AMDVi.InvalidateInterruptTableCommand(Requester(rawValue: 0x21)))
    machine.run(AMDVi.InvalidatePagesCommand(domainID: 0))
    #expect(outcome(machine, 0x25) == old)
    machine.run(AMDVi.InvalidateInterruptTableCommand(Self.device))
    #expect(outcome(machine, 0x25) == new)
    machine.store([0x17_0090: 0x0033_0f41_0000_0000])
    machine.run(AMDVi.InvalidateAllCommand())
    #expect(outcome(machine, 0x25) == delivered(0x33, 0x0f, isLogical: true))
    // IRTCacheDis
    machine[Offset.control] = 0x0800_0000_0000_1405
    machine.store([0x17_0090: 0x0034_0f41_0000_0000])
    #expect(outcome(machine, 0x25) == delivered(0x34, 0x0f, isLogical: true))
  }

  @Test func `an entry without RemapEn is not kept, nor used at another size`() throws {
    let machine = try machine()
    #expect(isBlocked(machine, 0x25) == .interruptNotPresent)
    machine.store([0x17_0090: 0x0031_0f41_0000_0000])
    #expect(outcome(machine, 0x25) == delivered(0x31, 0x0f, isLogical: true))
    AMDVi.WideInterruptEntry(vector: 0x77, destination: 5, isLogical: false)
      .store(to: machine.memory, at: PhysicalAddress(0x17_0250))
    machine[Offset.control] = 0x2_1405
    #expect(outcome(machine, 0x25) == delivered(0x77, 5))
  }
}
