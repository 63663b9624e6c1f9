import IOMMUFormats
import IOMMUTranslation
import Testing

@testable import IOMMUHardware

@Suite struct AMDViLogTests {
  typealias Offset = AMDVi.RegisterOffset
  static let device = Requester("03:00.0")!

  // MARK: Events

  @Test func `an event is at the tail, and interrupts where that is on`() throws {
    let machine = try AMDViMachine()
    machine.enableMessages()
    machine.store([0x16_1a28: 0])
    _ = machine.translate()
    #expect(machine[Offset.eventTail] == 0x10 && machine[Offset.status] == 0x1a)
    #expect(machine.messages.isEmpty)
    machine[Offset.control] = 0x140d
    _ = machine.translate(0x1234_6000)
    #expect(machine[Offset.eventTail] == 0x20)
    #expect(machine.messages == [InterruptMessage(address: 0xfee0_1000, data: 0x40)])
    #expect(machine.text(at: AMDViMachine.eventLog + 0x10) == "2000000005000020 0060341200000000")
  }

  @Test func `a full log drops events and stops, until software has switched it off and on`() throws
  {
    let machine = try AMDViMachine()
    machine.enableMessages()
    machine[Offset.control] = 0x140d
    for index: UInt64 in 0..<255 { _ = machine.translate(0x4000_0000 + index) }
    #expect(machine[Offset.eventTail] == 0xff0 && machine[Offset.status] == 0x1a)
    #expect(machine.messages.count == 255)
    _ = machine.translate(0x5000_0000)
    #expect(machine[Offset.eventTail] == 0xff0 && machine[Offset.status] == 0x13)
    #expect(machine.messages.count == 1)
    _ = machine.translate(0x5000_0000)
    #expect(machine.messages.isEmpty)
    // Room alone does not start it, nor does the bit.
    machine[Offset.eventHead] = 0xfe0
    machine[Offset.status] = 0x3
    _ = machine.translate(0x5000_0000)
    #expect(machine[Offset.status] == 0x10 && machine[Offset.eventTail] == 0xff0)
    machine[Offset.control] = 0x1401
    machine[Offset.control] = 0x140d
    #expect(machine[Offset.status] == 0x18)
    _ = machine.translate(0x6000_0000)
    #expect(machine[Offset.eventTail] == 0 && machine[Offset.status] == 0x1a)
    #expect(machine.text(at: AMDViMachine.eventLog + 0xff0) == "2000000005000020 0000006000000000")
  }

  @Test func `a log starts without the overflow of before`() throws {
    let machine = try AMDViMachine()
    machine[Offset.eventHead] = 0x10
    _ = machine.translate(0x4000_0000)
    #expect(machine[Offset.status] == 0x11)
    machine[Offset.control] = 0x1401
    machine[Offset.control] = 0x1405
    #expect(machine[Offset.status] == 0x18)
  }

  @Test func `without a log events are lost, and hardware errors stay in registers`() throws {
    let machine = try AMDViMachine()
    machine[Offset.control] = 0x1401
    machine.setEntry([0x6000_0000_c000_0603, 5, 0, 0])
    #expect(machine.translate() == nil && machine.wasAborted)
    #expect(machine[Offset.eventTail] == 0 && machine[Offset.status] == 0x10)
    #expect(machine[Offset.hardwareEventHigh] == 0x4400_0005_0000_0020)
    #expect(machine[Offset.hardwareEventLow] == 0xc000_0000)
  }

  @Test func `a log where no memory answers loses events and nothing else`() throws {
    let machine = try AMDViMachine()
    machine[Offset.control] = 0x1401
    machine[Offset.eventLogBase] = 0x0800_0000_c000_0000
    machine[Offset.control] = 0x1405
    #expect(machine.translate(0x4000_0000) == nil)
    #expect(machine[Offset.eventTail] == 0x10 && machine[Offset.status] == 0x1a)
  }

  @Test func `messages have numbers where software allows several`() throws {
    let machine = try AMDViMachine()
    machine.enableMessages()
    // MsiMultMessEn 2: four messages.
    machine.unit.writeConfiguration(0x0021_0000, at: 0x64)
    machine.unit.writeConfiguration(0x43, at: 0x70)
    machine[Offset.control] = 0xf40d
    _ = machine.translate(0x4000_0000)
    machine.setEntry([0x6010_0000_0016_3603, 5, 0, 0], of: Self.device)
    #expect(machine.unit.submit(Self.request(tag: 1)) == .queued)
    #expect(machine.messages.map(\.data) == [0x40, 0x41])
    machine.unit.writeConfiguration(0, at: 0x64)
    _ = machine.translate(0x4000_0000)
    #expect(machine.messages.isEmpty)
  }

  @Test func `IntCapXTEn: the unit's interrupts go to x2APIC ids`() throws {
    let machine = try AMDViMachine()
    machine[Offset.extendedInterruptControl] = 0x1200_0031_3456_7800
    machine[Offset.extendedPageRequestControl] = 0x0000_0132_0000_0304
    machine[Offset.control] = 0xc_0000_0000_f40d
    _ = machine.translate(0x4000_0000)
    #expect(
      machine.messages == [InterruptMessage(address: 0x1234_5600_fee7_8000, data: 0x31)])
    machine.setEntry([0x6010_0000_0016_3603, 5, 0, 0], of: Self.device)
    #expect(machine.unit.submit(Self.request(tag: 1)) == .queued)
    #expect(machine.messages == [InterruptMessage(address: 0xfee0_3004, data: 0x132)])
  }

  // MARK: Page requests

  static func request(tag: UInt16, isLast: Bool = true) -> AMDVi.PageRequestEntry {
    AMDVi.PageRequestEntry(
      device, pasid: PASID(0x1_2345), address: IOVA(0x7f00_1234_5000), reads: false, writes: true,
      isUser: true, tag: tag, isLast: isLast)
  }

  static func response(_ code: UInt8, tag: UInt16 = 0x123) -> AMDViUnit.PageRequestOutcome {
    .dropped(AMDViPageResponse(pasid: PASID(0x1_2345), tag: tag, code: code))
  }

  /// Page requests are on, and the device may send them.
  private func machine(control: UInt64 = 0xf405) throws -> AMDViMachine {
    let machine = try AMDViMachine()
    machine[Offset.pageRequestLogBase] = 0x0800_0000_0000_0000 | AMDViMachine.pageRequestLog
    machine.setEntry([0x6010_0000_0016_3603, 5, 0, 0], of: Self.device)
    machine[Offset.control] = control
    machine.enableMessages()
    return machine
  }

  @Test func `E17: a page request is in the log`() throws {
    let machine = try machine()
    #expect(machine[Offset.status] == 0x98)
    #expect(machine.unit.submit(Self.request(tag: 0x123)) == .queued)
    #expect(
      machine.text(at: AMDViMachine.pageRequestLog) == "0003452323076011 00503412007f0000")
    #expect(machine[Offset.pageRequestTail] == 0x10 && machine[Offset.status] == 0xd8)
    #expect(machine.messages == [InterruptMessage(address: 0xfee0_1000, data: 0x40)])
  }

  @Test func `a full log drops page requests and says so`() throws {
    let machine = try machine()
    for _ in 0..<255 { #expect(machine.unit.submit(Self.request(tag: 1)) == .queued) }
    #expect(machine.unit.submit(Self.request(tag: 1)) == .dropped(nil))
    #expect(machine[Offset.status] == 0x78 && machine[Offset.pageRequestTail] == 0xff0)
    // PprAutoRspEn: the device gets the code of the register.
    machine[Offset.pageRequestAnswer] = 0xf
    machine[Offset.control] = 0x80_0000_f405
    #expect(machine.unit.submit(Self.request(tag: 0x123)) == Self.response(15))
    #expect(machine.unit.submit(Self.request(tag: 0x123, isLast: false)) == .dropped(nil))
    machine[Offset.pageRequestHead] = 0x100
    machine[Offset.control] = 0xd405
    machine[Offset.control] = 0xf405
    #expect(machine[Offset.status] == 0xd8)
    #expect(machine.unit.submit(Self.request(tag: 1)) == .queued)
    #expect(machine[Offset.pageRequestTail] == 0)
  }

  @Test func `a log that is nearly full says so early`() throws {
    let machine = try machine(control: 0xb405)
    machine[Offset.pageRequestEarlyOverflow] = 0xc000_0003
    for count in 1...4 {
      #expect(machine.unit.submit(Self.request(tag: 1)) == .queued)
      #expect(machine[Offset.status] & 0x4_0000 == (count >= 3 ? 0x4_0000 : 0))
      #expect(machine.messages.count == (count == 3 ? 1 : 0))
    }
    machine[Offset.status] = 0x4_0000
    #expect(machine[Offset.status] & 0x4_0000 == 0)
  }

  @Test func `a page request that the entry does not allow is an event of its own`() throws {
    let machine = try machine()
    machine.setEntry([0x6000_0000_0016_3603, 5, 0, 0], of: Self.device)
    #expect(machine.unit.submit(Self.request(tag: 0x123)) == Self.response(1))
    #expect(machine.events() == ["0003452323076091 00503412007f0000"])
    #expect(machine[Offset.pageRequestTail] == 0)
  }

  @Test func `a unit that takes no page requests answers that they are invalid`() throws {
    let machine = try machine(control: 0x1405)
    #expect(machine.unit.submit(Self.request(tag: 0x123)) == Self.response(1))
    #expect(machine.events().isEmpty)
  }

  @Test func `a page request beyond the device table fails`() throws {
    let machine = try machine()
    machine[Offset.deviceTableBase] = AMDViMachine.deviceTable
    #expect(machine.unit.submit(Self.request(tag: 0x123)) == Self.response(15))
    #expect(machine.events() == ["0003000000002020 00503412007f0000"])
  }

  // MARK: Guests' interrupts

  @Test func `an interrupt of a guest that does not run is logged`() throws {
    let machine = try AMDViMachine()
    machine.enableMessages()
    machine[Offset.guestLogBase] = 0x0800_0000_0000_0000 | AMDViMachine.guestLog
    machine[Offset.guestLogTailAddress] = 0x18_0000
    // GAEn, GAMEn 1, GALogEn, GAIntEn.
    machine[Offset.control] = 0x3202_1405
    #expect(machine[Offset.status] == 0x118)
    machine.setEntry([0, 0, 0x2000_0000_0017_0013, 0])
    let entry = AMDVi.WideInterruptEntry(
      guestVector: 0x55, page: PhysicalAddress(0x19_0000), tag: 0xcafe, destination: 3,
      isRunning: false, isLogged: true)
    entry.store(to: machine.memory, at: PhysicalAddress(0x17_0250))
    let expected = AMDVi.GuestInterrupt(
      vector: 0x55, page: PhysicalAddress(0x19_0000), tag: 0xcafe, destination: 3,
      isRunning: false, isLogged: true)
    let request = AMDVi.InterruptRequest(index: 0x25)
    #expect(machine.unit.remap(request, from: AMDViMachine.device) == .guest(expected))
    #expect(machine.word(AMDViMachine.guestLog) == 0x1000_0020_0000_cafe)
    #expect(machine[Offset.guestTail] == 8 && machine.word(0x18_0000) == 8)
    #expect(machine[Offset.status] == 0x518)
    #expect(machine.messages == [InterruptMessage(address: 0xfee0_1000, data: 0x40)])
    // 511 fit; then the log stops.
    for _ in 0..<510 { _ = machine.unit.remap(request, from: AMDViMachine.device) }
    #expect(machine[Offset.guestTail] == 0xff8 && machine[Offset.status] == 0x518)
    _ = machine.unit.remap(request, from: AMDViMachine.device)
    #expect(machine[Offset.guestTail] == 0xff8 && machine[Offset.status] == 0x618)
  }
}
