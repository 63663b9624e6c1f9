import IOMMUFormats
import IOMMUTranslation
import Testing

@testable import IOMMUKdump

/// The default machine: 4 GiB of RAM, crash kernel 128 MiB at 16 MiB, three devices.
func defaultConfiguration(_ mode: TranslationMode) throws -> MachineConfiguration {
  let ram = try MemoryMap.ram(byteCount: 4 << 30)
  let map = try MemoryMap(
    ram: ram, crashKernel: [PhysicalAddress(0x100_0000)..<PhysicalAddress(0x900_0000)])
  return MachineConfiguration(mode: mode, map: map)
}

@Suite struct CrashTests {
  @Test(arguments: TranslationMode.allCases)
  func `with the Rule every access reaches its own buffer`(mode: TranslationMode) throws {
    let (report, _) = try CrashSimulation().play(try defaultConfiguration(mode), applyingRule: true)
    #expect(report.counts(of: .leftover).total == 45)
    #expect(report.counts(of: .leftover)[.own] == 45)
    #expect(report.counts(of: .kdump)[.own] == 24)
    #expect(report.counts(of: .kdump).total == 24)
    #expect(report.strayByteCount == 0)
    #expect(report.ruleHolds)
    for verdict in report.verdicts where !verdict.rule.isBrokenByDesign {
      #expect(verdict.outcome == .holds || verdict.outcome == .notApplicable, "\(verdict)")
    }
  }
}
