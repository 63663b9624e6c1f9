import IOMMUFormats
import Testing

@Suite struct FaultReasonTests {
  /// Legacy reasons whose record FPD suppresses.
  static let qualified: Set<UInt8> = [
    0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x0b, 0x0c, 0x0d, 0x0e,
  ]
  static let unqualified: Set<UInt8> = [
    0x01, 0x08, 0x09, 0x0a, 0x20, 0x21, 0x23, 0x25, 0x29, 0x2a, 0x2b, 0x30, 0x31, 0x32, 0x33, 0x34,
  ]

  @Test func `FPD suppresses qualified faults alone`() {
    for number in Self.qualified { #expect(VTd.FaultReason(rawValue: number).isQualified) }
    for number in Self.unqualified { #expect(!VTd.FaultReason(rawValue: number).isQualified) }
  }

  @Test func `the numbers are the manual's`() {
    let numbers: [(VTd.FaultReason, UInt8)] = [
      (.rootEntryNotPresent, 0x01), (.contextEntryNotPresent, 0x02), (.contextEntryInvalid, 0x03),
      (.addressBeyondWidth, 0x04), (.writeNotPermitted, 0x05), (.readNotPermitted, 0x06),
      (.tableUnreadable, 0x07), (.rootTableUnreadable, 0x08), (.contextTableUnreadable, 0x09),
      (.rootEntryReserved, 0x0a), (.contextEntryReserved, 0x0b),
      (.secondStageEntryReserved, 0x0c), (.interruptAddressReached, 0x0e),
      (.malformedInterruptRequest, 0x29), (.invalidTableMode, 0x30), (.abortDMAMode, 0x33),
    ]
    for (reason, number) in numbers { #expect(reason.rawValue == number) }
  }

  @Test func `every number has a meaning in words`() {
    for number in UInt8.min...UInt8.max {
      #expect(!VTd.FaultReason(rawValue: number).meaning.isEmpty)
    }
    #expect(VTd.FaultReason(rawValue: 0x7a).meaning == "fault reason 0x7a")
  }
}
