import IOMMUFormats
import Testing

/// Fault records as bytes: V50 to V54.
@Suite struct FaultRecordTests {
  @Test func `V50: a read, root entry not present`() {
    let record = VTd.FaultRecord(
      reason: VTd.FaultReason(rawValue: 1), requester: Requester("00:04.0")!,
      information: 0x1234_5678, kind: .read)
    #expect(record.bytes == hexdump("0050341200000000 20000000010000c0"))
  }

  @Test func `V51: a write without permission`() {
    let record = VTd.FaultRecord(
      reason: VTd.FaultReason(rawValue: 5), requester: Requester("00:04.0")!,
      information: 0x1234_5678, kind: .write)
    #expect(record.bytes == hexdump("0050341200000000 2000000005000080"))
  }

  @Test func `V52: an atomic operation of a supervisor with PASID`() {
    var record = VTd.FaultRecord(
      reason: VTd.FaultReason(rawValue: 0x85), requester: Requester("3a:1f.7")!,
      information: 0x8000_0000_0000, kind: .atomic)
    record.setPASID(0x12345, isPrivileged: true, isExecute: false)
    #expect(record.bytes == hexdump("0000000000800000 ff3a00b0854523c1"))
    #expect(record.pasid == 0x12345 && record.isPrivileged && !record.isExecute)
    #expect(record.kind == .atomic && record.reason.rawValue == 0x85 && record.isValid)
  }

  @Test func `V53: a page request`() {
    let record = VTd.FaultRecord(
      reason: VTd.FaultReason(rawValue: 0x47), requester: Requester("03:00.0")!,
      information: 0x1000, kind: .pageRequest)
    // The vector has a PASID of 5, of user privilege.
    var withPASID = record
    withPASID.setPASID(5, isPrivileged: false, isExecute: false)
    #expect(withPASID.bytes == hexdump("0010000000000000 0003009047050080"))
    #expect(record.pasid == nil && record.kind == .pageRequest)
  }

  @Test func `V54: an interrupt, entry not present`() {
    let record = VTd.FaultRecord(
      reason: VTd.FaultReason(rawValue: 0x22), requester: Requester("00:1f.2")!,
      information: 0x17 << 48, kind: .write)
    #expect(record.bytes == hexdump("0000000000001700 fa00000022000080"))
    #expect(record.requester == Requester("00:1f.2") && record.addressType == .untranslated)
  }

  @Test func `a translated request says so`() {
    let record = VTd.FaultRecord(
      reason: VTd.FaultReason(rawValue: 0x0d), requester: Requester(rawValue: 0),
      information: 0, kind: .write, addressType: .translated)
    #expect(record.high == 0xa000_000d_0000_0000)
    #expect(record.addressType == .translated)
  }
}
