import IOMMUFormats
import IOMMUTranslation
import Testing

@testable import IOMMUHardware

/// Devices with a TLB of their own.
@Suite struct AMDViDeviceRequestTests {
  typealias Offset = AMDVi.RegisterOffset
  static let device = AMDViMachine.device
  /// W1's entry with I.
  static let entry: [UInt64] = [0x6000_0000_0016_3603, 0x1_0000_0005, 0, 0]

  private func ask(
    _ machine: AMDViMachine, _ address: UInt64 = AMDViMachine.address, writes: Bool = true,
    of device: Requester = device
  ) -> AMDViUnit.TranslationCompletion {
    machine.unit.completeTranslationRequest(
      AMDVi.Request(device, IOVA(address), writes ? .write : .read))
  }

  private func told(
    _ page: UInt64, _ permissions: Permissions, sizeLog2: Int = 12
  ) -> AMDViUnit.TranslationCompletion {
    .success(
      DeviceTranslation(
        page: PhysicalAddress(page), sizeLog2: sizeLog2, permissions: permissions))
  }

  @Test func `a device is told the page, its size and what it may do`() throws {
    let machine = try AMDViMachine()
    machine.setEntry(Self.entry)
    #expect(ask(machine) == told(0x20_0000, .readWrite))
    machine.store([0x16_1a28: 0x2000_0000_0020_0001])
    #expect(ask(machine) == told(0x20_0000, .read))
    machine.store([0x16_2488: 0x6000_0000_0020_0001])
    machine.run(AMDVi.InvalidatePagesCommand(domainID: 5))
    #expect(ask(machine) == told(0x20_0000, .readWrite, sizeLog2: 21))
    #expect(machine.events().isEmpty && !machine.wasAborted)
  }

  @Test func `U is handed on, and without V every address is its own`() throws {
    let machine = try AMDViMachine()
    machine.setEntry(Self.entry)
    machine.store([0x16_1a28: 0x6800_0000_0020_0001])
    #expect(
      ask(machine)
        == .success(
          DeviceTranslation(
            page: PhysicalAddress(0x20_0000), sizeLog2: 12, permissions: .readWrite,
            isUntranslatedOnly: true)))
    #expect(ask(machine, of: Requester(rawValue: 0x30)) == told(0x1234_5000, .readWrite))
  }

  /// What stops an untranslated request with a page fault is no event here.
  @Test(
    arguments: [
      (0x6000_0000_0016_3603, 0), (0x6000_0000_0016_3603, 0x6010_0000_0020_0001),
      (0x6000_0000_0016_3603, 0x6000_0000_000f_fe01),
      (0x6000_0000_0016_3601, 0x6000_0000_0020_0001),
      (0x0000_0000_0016_3603, 0x6000_0000_0020_0001),
    ] as [(UInt64, UInt64)])
  func `a page that is not there is an answer without permission`(low: UInt64, leaf: UInt64) throws
  {
    let machine = try AMDViMachine()
    machine.setEntry([low, 0x1_0000_0005, 0, 0])
    machine.store([0x16_1a28: leaf])
    let answer = ask(machine)
    guard case .success(let found) = answer else {
      Issue.record("\(answer)")
      return
    }
    #expect(found.permissions.isEmpty && machine.events().isEmpty && !machine.wasAborted)
  }

  @Test func `tables where no memory answers, and illegal entries, are events with TR`() throws {
    let machine = try AMDViMachine()
    machine.setEntry([0x6000_0000_c000_0603, 0x1_0000_0005, 0, 0])
    guard case .aborted(let fault?) = ask(machine) else {
      Issue.record("it is answered")
      return
    }
    #expect(fault.reason == .tableUnreadable && machine.wasAborted)
    #expect(machine.events() == ["2000000005002045 000000c000000000"])
    machine.run(AMDVi.InvalidateDeviceEntryCommand(Self.device))
    machine.setEntry([0x6000_0000_0016_3607, 0x1_0000_0005, 0, 0])
    _ = ask(machine, writes: false)
    #expect(machine.events() == ["2000000000008011 1050341200000000"])
  }

  @Test func `INVALID_DEVICE_REQUEST: requests that a device may not send`() throws {
    let machine = try AMDViMachine()
    // I is clear: type 1.
    #expect(ask(machine) == .aborted(nil) && machine.wasAborted)
    #expect(machine.events() == ["2000000000000083 1050341200000000"])
    // Beyond the table: type 2.
    #expect(ask(machine, of: Requester(rawValue: 0x1000)) == .aborted(nil))
    #expect(machine.events() == ["0010000000000085 1050341200000000"])
    machine.run(AMDVi.InvalidateDeviceEntryCommand(Self.device))
    machine.setEntry(Self.entry)
    // The range of interrupts: type 0.
    #expect(ask(machine, 0xfee0_0000) == .aborted(nil))
    #expect(machine.events() == ["2000000000000081 0000e0fe00000000"])
    machine[Offset.control] = 0x1404
    #expect(ask(machine) == .aborted(nil) && machine.events().isEmpty)
  }

  @Test func `E16: a translated request passes where I is set`() throws {
    let machine = try AMDViMachine()
    let request = AMDVi.Request(Self.device, IOVA(0xfee0_0000), .write)
    #expect(!machine.unit.passTranslated(request) && machine.wasAborted)
    #expect(machine.events() == ["2000000000000082 0000e0fe00000000"])
    machine.run(AMDVi.InvalidateDeviceEntryCommand(Self.device))
    machine.setEntry(Self.entry)
    #expect(machine.unit.passTranslated(request) && machine.events().isEmpty)
    #expect(machine.unit.passTranslated(AMDVi.Request(Requester(rawValue: 0x30), IOVA(0), .read)))
  }

  @Test func `a request that is no interrupt in their range is refused`() throws {
    let machine = try AMDViMachine()
    #expect(machine.translate(0xfee0_0010) == nil)
    #expect(machine.events() == ["2000000000000080 1000e0fe00000000"])
    #expect(
      machine.unit.translate(AMDVi.Request(Self.device, IOVA(0xfee0_0010), .write))
        == .interruptMessage)
  }

  @Test func `a DMA port asks by the number that the unit sees`() throws {
    let machine = try AMDViMachine()
    let request = DMARequest(.read, by: Self.device, at: IOVA(AMDViMachine.address), byteCount: 16)
    #expect(
      machine.unit.translate(request, in: machine.memory)
        == .mapped(PhysicalAddress(0x20_0010), byteCount: 16))
  }

  @Test func `where writes leave marks a device that only reads may only read`() throws {
    let machine = try AMDViMachine()
    machine.setEntry([0x6000_0000_0016_3783, 0x1_0000_0005, 0, 0])
    #expect(ask(machine, writes: false) == told(0x20_0000, .read))
    #expect(ask(machine) == told(0x20_0000, .readWrite))
    #expect(machine.word(0x16_1a28) == 0x6000_0000_0020_0061)
    #expect(ask(machine, writes: false) == told(0x20_0000, .readWrite))
  }
}
