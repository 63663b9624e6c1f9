import IOMMUFormats
import Testing

@Suite struct PASIDTableEntryTests {
  static let zeros = String(repeating: "00", count: 8)

  /// A vector: three quadwords as bytes; the other five are zero.
  static func bytes(_ first: String, _ second: String, _ third: String = zeros) -> [UInt8] {
    hexdump(first + second + third + String(repeating: zeros, count: 5))
  }

  static let secondStage = bytes("8912110000000000", "4200800000000000")  // V11
  static let firstStage = bytes("4d00000000000000", "0100000000000000", "9520000001000000")  // V12
  static let nested = bytes("c900200000000000", "0700800100000000", "0050000000000000")  // V13
  static let passThrough = bytes("0901000000000000", "0100000000000000")  // V14
  static let silent = bytes("0200000000000000", zeros)  // V15

  @Test func `V11: second stage with accessed and dirty bits`() throws {
    let read = try entry(VTd.PASIDTableEntry.self, from: Self.secondStage)
    #expect(read.isPresent && !read.suppressesFaultReports)
    #expect(read.translationType == .secondStage)
    #expect(read.secondStageLevels == 4)
    #expect(read.marksSecondStage && read.snoopsWalks)
    #expect(read.secondStageTable == PhysicalAddress(0x11_1000))
    #expect(read.domainID == 0x42)
    #expect(read.reservedViolations(.permissive).isEmpty)

    var made = VTd.PASIDTableEntry(type: .secondStage, domainID: 0x42)
    made.secondStageLevels = 4
    made.marksSecondStage = true
    made.snoopsWalks = true
    made.secondStageTable = PhysicalAddress(0x11_1000)
    #expect(try stored(made) == Self.secondStage)
  }

  @Test func `V12: a first stage of five levels`() throws {
    let read = try entry(VTd.PASIDTableEntry.self, from: Self.firstStage)
    #expect(read.translationType == .firstStage)
    #expect(read.firstStageLevels == 5)
    #expect(read.allowsSupervisor && read.protectsFromSupervisor && read.marksExtendedAccessed)
    #expect(read.firstStageTable == PhysicalAddress(0x1_0000_2000))
    #expect(read.domainID == 1)

    var made = VTd.PASIDTableEntry(type: .firstStage, domainID: 1)
    made.secondStageLevels = 5
    made.allowsSupervisor = true
    made.firstStageLevels = 5
    made.protectsFromSupervisor = true
    made.marksExtendedAccessed = true
    made.firstStageTable = PhysicalAddress(0x1_0000_2000)
    #expect(try stored(made) == Self.firstStage)
  }

  @Test func `V13: nested`() throws {
    let read = try entry(VTd.PASIDTableEntry.self, from: Self.nested)
    #expect(read.translationType == .nested)
    #expect(read.secondStageTable == PhysicalAddress(0x20_0000))
    #expect(read.firstStageTable == PhysicalAddress(0x5000))
    #expect(read.secondStageLevels == 4 && read.firstStageLevels == 4)
    #expect(read.snoopsWalks && read.domainID == 7)
    // PGSNP needs snoop control.
    #expect(read.reservedViolations(.permissive).isEmpty)
    #expect(
      read.reservedViolations(limits(hostAddressWidth: 40)).map(\.bits) == [87...87, 88...88])
  }

  @Test func `V14 and V15: pass-through, and FPD without P`() throws {
    let read = try entry(VTd.PASIDTableEntry.self, from: Self.passThrough)
    #expect(read.translationType == .passThrough && read.secondStageLevels == 4)
    var made = VTd.PASIDTableEntry(type: .passThrough, domainID: 1)
    made.secondStageLevels = 4
    #expect(try stored(made) == Self.passThrough)
    let silent = try entry(VTd.PASIDTableEntry.self, from: Self.silent)
    #expect(!silent.isPresent && silent.suppressesFaultReports)
  }

  @Test func `a pointer that the type does not use is not looked at`() throws {
    var entry = VTd.PASIDTableEntry(type: .passThrough, domainID: 1)
    entry.secondStageTable = PhysicalAddress(0xf_ffff_ffff_f000)
    entry.firstStageTable = PhysicalAddress(0xf_ffff_ffff_f000)
    let narrow = limits(hostAddressWidth: 39)
    #expect(entry.reservedViolations(narrow).map(\.bits) == [39...63, 167...191])
    #expect(entry.withoutUnusedPointers.reservedViolations(narrow).isEmpty)
    entry.translationType = .secondStage
    #expect(entry.withoutUnusedPointers.reservedViolations(narrow).map(\.bits) == [39...63])
    entry.translationType = .firstStage
    #expect(entry.withoutUnusedPointers.reservedViolations(narrow).map(\.bits) == [167...191])
    entry.translationType = .nested
    #expect(entry.withoutUnusedPointers == entry)
  }

  @Test(arguments: [0, 1, 2, 3, 4, 5, 6, 7] as [UInt8])
  func `a unit without the type does not support it`(code: UInt8) {
    var entry = VTd.PASIDTableEntry(type: .init(rawValue: code), domainID: 1)
    entry.secondStageLevels = 4
    #expect(VTd.Limits.permissive.supports(entry) == (1...4 ~= code))
    var bare = VTd.Limits.permissive
    bare.features = [.scalableMode]
    bare.hasPassThrough = false
    #expect(!bare.supports(entry))
    let own: [UInt8: VTd.Features] = [1: .firstStage, 2: .secondStage, 3: .nesting]
    if let feature = own[code] {
      bare.features.insert(feature)
      #expect(bare.supports(entry))
    }
  }

  @Test func `widths count where the type uses them`() {
    var limits = VTd.Limits.permissive
    limits.features.remove(.fiveLevelFirstStage)
    limits.supportedWidths = 0b00100
    limits.maximumGuestAddressWidth = 48
    var entry = VTd.PASIDTableEntry(type: .firstStage, domainID: 1)
    entry.secondStageLevels = 2
    #expect(limits.supports(entry), "AW is ignored")
    entry.firstStageLevels = 5
    #expect(!limits.supports(entry), "FSPM without FS5LP")
    entry.firstStageLevels = 6
    #expect(!VTd.Limits.permissive.supports(entry), "FSPM 2")
    entry.translationType = .secondStage
    #expect(!limits.supports(entry), "AW 0")
    entry.secondStageLevels = 4
    #expect(limits.supports(entry))
    entry.secondStageLevels = 3
    #expect(!limits.supports(entry), "AW 1 is not in SAGAW")
    entry.translationType = .nested
    entry.secondStageLevels = 4
    entry.firstStageLevels = 4
    entry.firstStageTable = PhysicalAddress(0xffff_ffff_f000)
    #expect(limits.supports(entry))
    entry.firstStageTable = PhysicalAddress(0x1_0000_0000_0000)
    #expect(!limits.supports(entry), "beyond the second stage")
  }
}
