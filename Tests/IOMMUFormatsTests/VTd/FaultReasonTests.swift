import IOMMUFormats
import Testing

@Suite struct FaultReasonTests {
  /// Reasons whose record FPD suppresses.
  static let qualified: Set<UInt8> = [
    0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x0b, 0x0c, 0x0d, 0x0e, 0x22, 0x24, 0x26, 0x27, 0x28, 0x41,
    0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x51, 0x52, 0x59, 0x5a, 0x5b, 0x5c, 0x5d, 0x60,
    0x70, 0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x7b, 0x7c, 0x7d, 0x80, 0x81,
    0x83, 0x84, 0x85, 0x86, 0x87, 0x89, 0x90, 0x91, 0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5,
  ]
  static let unqualified: Set<UInt8> = [
    0x01, 0x08, 0x09, 0x0a, 0x20, 0x21, 0x23, 0x25, 0x29, 0x2a, 0x2b, 0x30, 0x31, 0x32, 0x33, 0x34,
    0x38, 0x39, 0x3a, 0x40, 0x50, 0x58,
  ]

  @Test func `FPD suppresses qualified faults alone`() {
    for number in UInt8.min...UInt8.max {
      let reason = VTd.FaultReason(rawValue: number)
      #expect(reason.isQualified == Self.qualified.contains(number), "\(number)")
    }
  }

  @Test func `the reasons named are the manual's and no others`() {
    #expect(
      VTd.FaultReason.named.map(\.rawValue) == Self.qualified.union(Self.unqualified).sorted())
  }

  @Test func `the numbers are the manual's`() {
    let numbers: [(VTd.FaultReason, UInt8)] = [
      (.rootEntryNotPresent, 0x01), (.contextEntryNotPresent, 0x02), (.contextEntryInvalid, 0x03),
      (.addressBeyondWidth, 0x04), (.writeNotPermitted, 0x05), (.readNotPermitted, 0x06),
      (.tableUnreadable, 0x07), (.rootTableUnreadable, 0x08), (.contextTableUnreadable, 0x09),
      (.rootEntryReserved, 0x0a), (.contextEntryReserved, 0x0b),
      (.secondStageEntryReserved, 0x0c), (.requestKindNotAllowed, 0x0d),
      (.interruptAddressReached, 0x0e), (.interruptRequestReserved, 0x20),
      (.interruptIndexBeyondTable, 0x21), (.interruptEntryNotPresent, 0x22),
      (.interruptTableUnreadable, 0x23), (.interruptEntryReserved, 0x24),
      (.compatibilityInterruptBlocked, 0x25), (.interruptSourceRefused, 0x26),
      (.postedDescriptorUnreadable, 0x27), (.postedDescriptorReserved, 0x28),
      (.malformedInterruptRequest, 0x29), (.extendedInterruptModeRequired, 0x2a),
      (.interruptRemappingRequired, 0x2b), (.invalidTableMode, 0x30), (.pasidInLegacyMode, 0x31),
      (.pageRequestInLegacyMode, 0x32), (.abortDMAMode, 0x33), (.executeRequestRefused, 0x34),
      (.scalableRootTableUnreadable, 0x38), (.scalableRootEntryNotPresent, 0x39),
      (.scalableRootEntryReserved, 0x3a), (.scalableContextTableUnreadable, 0x40),
      (.scalableContextEntryNotPresent, 0x41), (.scalableContextEntryReserved, 0x42),
      (.scalableContextEntryInvalid, 0x43), (.deviceTLBNotEnabled, 0x44), (.pasidNotEnabled, 0x45),
      (.pasidBeyondDirectory, 0x46), (.pageRequestNotEnabled, 0x47),
      (.pasidIsRequesterPASID, 0x48), (.translatedPASIDNotEnabled, 0x49),
      (.pasidDirectoryUnreadable, 0x50), (.pasidDirectoryEntryNotPresent, 0x51),
      (.pasidDirectoryEntryReserved, 0x52), (.pasidTableUnreadable, 0x58),
      (.pasidEntryNotPresent, 0x59), (.pasidEntryReserved, 0x5a), (.pasidEntryInvalid, 0x5b),
      (.executeNotSupported, 0x5c), (.supervisorNotEnabled, 0x5d),
      (.addressBeyondPermissionTable, 0x60), (.firstStageTableUnreadable, 0x70),
      (.firstStageEntryNotPresent, 0x71), (.firstStageEntryReserved, 0x72),
      (.firstStageRootUnreadable, 0x73), (.guestAddressBeyondWidth, 0x74),
      (.firstStageRootNotPermitted, 0x75), (.firstStageTableNotPermitted, 0x76),
      (.firstStageUpdateNotPermitted, 0x77), (.secondStageTableUnreadable, 0x78),
      (.secondStageEntryNotPresent, 0x79), (.scalableSecondStageEntryReserved, 0x7a),
      (.secondStageRootUnreadable, 0x7b), (.secondStageUpdateNotSnooped, 0x7c),
      (.secondStageUpdateFailed, 0x7d), (.addressNotCanonical, 0x80), (.userNotPermitted, 0x81),
      (.hostAddressBeyondWidth, 0x83), (.scalableAddressBeyondWidth, 0x84),
      (.scalableWriteNotPermitted, 0x85), (.scalableReadNotPermitted, 0x86),
      (.scalableInterruptAddressReached, 0x87), (.pasidBeyondSupportedBits, 0x89),
      (.firstStageUpdateNotSnooped, 0x90), (.firstStageUpdateFailed, 0x91),
      (.permissionTableUnreadable, 0xa0), (.permissionEntryReserved, 0xa1),
      (.permissionRootUnreadable, 0xa2), (.permissionTableNoAccess, 0xa3),
      (.permissionTableNoWrite, 0xa4), (.permissionTableNoRead, 0xa5),
    ]
    for (reason, number) in numbers { #expect(reason.rawValue == number) }
    #expect(Set(numbers.map(\.1)) == Self.qualified.union(Self.unqualified))
  }

  @Test func `every number has a meaning in words`() {
    for number in UInt8.min...UInt8.max {
      #expect(!VTd.FaultReason(rawValue: number).meaning.isEmpty)
    }
    #expect(
      VTd.FaultReason(rawValue: 0x7a).meaning == "reserved bit set in a second-stage entry")
    #expect(VTd.FaultReason(rawValue: 0xee).meaning == "fault reason 0xee")
  }
}
