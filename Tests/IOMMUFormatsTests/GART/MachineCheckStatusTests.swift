import IOMMUFormats
import Testing

@Suite struct MachineCheckStatusTests {
  typealias Status = GART.MachineCheckStatus

  @Test func `a walk error that nobody asked to be told of is these eight bytes`() throws {
    let status = try entry(Status.self, from: hexdump("1b 00 05 00 00 00 00 a4"))
    #expect(status.isValid && status.isUncorrected && status.hasAddress)
    #expect(!status.hasOverflowed && !status.isReported)
    #expect(!status.hasMiscellaneous && !status.hasCorruptedContext)
    #expect(status.extendedCode == 5)
    #expect(status.errorCode == 0x001b)
    #expect(status.transaction == 2)
    #expect(status.level == 3)
    #expect(Status.walkError(isReported: false).rawValue == 0xa400_0000_0005_001b)
    #expect(try stored(Status.walkError(isReported: false)) == hexdump("1b 00 05 00 00 00 00 a4"))
  }

  @Test func `a reported one has EN set, a second one OVER`() {
    var status = Status.walkError(isReported: true)
    #expect(status.rawValue == 0xb400_0000_0005_001b)
    status.hasOverflowed = true
    #expect(status.rawValue == 0xf400_0000_0005_001b)
  }

  @Test func `bit 10 of the control register asks for walk errors`() {
    var control = GART.MachineCheckControl(rawValue: 0)
    control.reportsWalkErrors = true
    #expect(control.rawValue == 0x400)
    #expect(!GART.MachineCheckControl(rawValue: 0xffff_fbff).reportsWalkErrors)
  }

  @Test func `the address register keeps bits 39 to 3`() {
    #expect(GART.MachineCheckAddress(address: 0xd200_3abc).rawValue == 0xd200_3ab8)
    #expect(GART.MachineCheckAddress(address: .max).address == 0xff_ffff_fff8)
  }
}
