import IOMMUFormats
import IOMMUTranslation
import Testing

@Suite struct PackedTranslationTests {
  @Test func `an address is the word itself`() {
    #expect(PackedTranslation(.to(0xf_ffff_ffff_ffff)).rawValue == 0xf_ffff_ffff_ffff)
    #expect(PackedTranslation(rawValue: 0x1234).physical == PhysicalAddress(0x1234))
    #expect(PackedTranslation(rawValue: 0x1234).translation == .to(0x1234))
  }

  @Test func `every fault comes back as it was`() {
    var faults: [Fault] = [.beyondDeviceMask]
    for number in UInt8.min...UInt8.max {
      for isRecorded in [false, true] {
        faults.append(.vtd(VTd.FaultReason(rawValue: number), isRecorded: isRecorded))
      }
    }
    faults += Calgary.FaultReason.allCases.map { .calgary($0) }
    faults += GART.FaultReason.allCases.map { .gart($0) }
    faults += AMDVi.FaultReason.allCases.flatMap { reason in
      [false, true].map { .amdvi(reason, isRecorded: $0) }
    }
    let packed = faults.map { PackedTranslation(.fault($0)) }
    #expect(packed.map(\.translation) == faults.map { .fault($0) })
    #expect(Set(packed).count == faults.count)
    #expect(packed.allSatisfy { !$0.isMapped && $0.physical == nil })
  }

  @Test func `an interrupt message is neither an address nor a fault`() {
    let packed = PackedTranslation(.interruptMessage)
    #expect(!packed.isMapped)
    #expect(packed.translation == .interruptMessage)
  }

  @Test func `an address that no machine has does not fit, and says so`() {
    let packed = PackedTranslation(.to(1 << 52))
    #expect(packed == .addressTooWide)
    #expect(packed.translation == nil)
    #expect(!packed.isMapped)
  }

  @Test(arguments: [.max, 1 << 63, 0x8000_0000_0000_ff00, 0x8000_0000_0000_04ff] as [UInt64])
  func `a word that is no answer has no translation`(word: UInt64) {
    #expect(PackedTranslation(rawValue: word).translation == nil)
  }
}
