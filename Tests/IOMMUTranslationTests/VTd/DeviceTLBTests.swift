import IOMMUFormats
import IOMMUTranslation
import Testing

/// Translation requests (PCIe ATS) and what they are answered.
@Suite struct DeviceTLBTests {
  static func completion(
    _ tables: ScalableTables, _ address: UInt64, noWrite: Bool = false, pasid: UInt32? = nil,
    isPrivileged: Bool = false, limits: VTd.Limits = .modern
  ) -> TranslationCompletion {
    var observer = Unobserved()
    return tables.resolver(limits).completion(
      of: VTd.Request(
        device, IOVA(address), kind: .translation(noWrite: noWrite), pasid: pasid.map { PASID($0) },
        isPrivileged: isPrivileged),
      in: tables.memory, marker: AtomicMarks(in: tables.memory), observer: &observer)
  }

  static func success(
    _ page: UInt64, sizeLog2: Int = 12, _ permissions: Permissions, untranslatedOnly: Bool = false
  ) -> TranslationCompletion {
    .success(
      DeviceTranslation(
        page: PhysicalAddress(page), sizeLog2: sizeLog2, permissions: permissions,
        isUntranslatedOnly: untranslatedOnly))
  }

  /// Second-stage tables at 0x200000 with DTE, PASIDE and SSADE.
  static func secondStage() throws -> (ScalableTables, TableBuilder) {
    let tables = try ScalableTables(context: 0b1101)
    tables.set([0x20_0000 | 1 | 2 << 2 | 2 << 6 | 1 << 9, 5 | 1 << 23])
    return (tables, TableBuilder(in: tables.memory, root: 0x20_0000, levels: 4))
  }

  @Test func `a translation is the page and what may be done there`() throws {
    var (tables, builder) = try Self.secondStage()
    builder.set(0x30_0003, for: 0x1000, level: 1)
    builder.set(0x30_1001, for: 0x2000, level: 1)
    builder.set(0x30_2002, for: 0x3000, level: 1)
    builder.set(0x4000_0083, for: 0x4000_0000, level: 2)
    #expect(Self.completion(tables, 0x1234) == Self.success(0x30_0000, .readWrite))
    #expect(Self.completion(tables, 0x1234, noWrite: true) == Self.success(0x30_0000, .read))
    #expect(
      Self.completion(tables, 0x1234, noWrite: true, limits: .modern.without(.noWriteFlag))
        == Self.success(0x30_0000, .readWrite))
    #expect(Self.completion(tables, 0x2000) == Self.success(0x30_1000, .read))
    #expect(Self.completion(tables, 0x3000) == Self.success(0x30_2000, .write))
    #expect(
      Self.completion(tables, 0x4012_3456) == Self.success(0x4000_0000, sizeLog2: 21, .readWrite))
  }

  @Test func `a request that may write marks the page dirty`() throws {
    var (tables, builder) = try Self.secondStage()
    builder.set(0x30_0003, for: 0x1000, level: 1)
    let leaf = builder.place(of: 0x1000, level: 1)
    _ = Self.completion(tables, 0x1000, noWrite: true)
    #expect(tables.quadword(at: leaf) == 0x30_0103)
    _ = Self.completion(tables, 0x1000)
    #expect(tables.quadword(at: leaf) == 0x30_0303)
  }

  @Test func `what is not there is a success that allows nothing`() throws {
    var (tables, builder) = try Self.secondStage()
    builder.set(0x30_0003, for: 0x1000, level: 1)
    #expect(Self.completion(tables, 0x2000) == Self.success(0, []))
    #expect(Self.completion(tables, 1 << 48) == Self.success(0, []))
    #expect(Self.completion(tables, 0x1000, pasid: 9) == Self.success(0, []), "no PASID entry")
  }

  @Test func `tables that are broken abort, and what is not allowed is unsupported`() throws {
    var (tables, builder) = try Self.secondStage()
    builder.set(0x30_0003 | 1 << 51, for: 0x1000, level: 1)
    builder.set(0xfee0_0003, for: 0x2000, level: 1)
    // A large page that touches the interrupt range is not answered, wherever the address lies.
    builder.set(0xfee0_0083, for: 0x4000_0000, level: 2)
    #expect(
      Self.completion(tables, 0x1000)
        == .failure(VTd.RequestFault(.scalableSecondStageEntryReserved), .completerAbort))
    for address: UInt64 in [0x2000, 0x401f_0000] {
      #expect(
        Self.completion(tables, address)
          == .failure(VTd.RequestFault(.scalableInterruptAddressReached), .completerAbort))
    }
    tables.memory.store(0x12_0001, at: 0x10_1400)
    #expect(
      Self.completion(tables, 0x1000)
        == .failure(VTd.RequestFault(.deviceTLBNotEnabled), .unsupportedRequest))
    tables.memory.store(0x12_0003, at: 0x10_1400)
    #expect(
      Self.completion(tables, 0x1000)
        == .failure(VTd.RequestFault(.deviceTLBNotEnabled, isReported: false), .unsupportedRequest))
  }

  @Test func `the interrupt range without PASID is written untranslated`() throws {
    let (tables, _) = try Self.secondStage()
    #expect(
      Self.completion(tables, 0xfee0_1234)
        == Self.success(0xfee0_1000, .write, untranslatedOnly: true))
    #expect(Self.completion(tables, 0xfee0_1234, noWrite: true) == Self.success(0xfee0_1000, []))
  }

  @Test func `pass-through, first stage and nested tables answer too`() throws {
    let tables = try ScalableTables(context: 0b1101, byteCount: 16 << 20)
    tables.set([1 | 4 << 6, 5])
    #expect(Self.completion(tables, 0x1234_5678) == Self.success(0x1234_5000, .readWrite))
    #expect(Self.completion(tables, 1 << 46) == Self.success(0, []))
    tables.set([1 | 1 << 6, 5 | 1 << 23, 0x20_0000], pasid: 1)
    var first = TableBuilder(in: tables.memory, root: 0x20_0000, levels: 4, pointerFlags: 7)
    first.set(0x30_0005, for: 0x1000, level: 1)
    first.set(0x30_1003, for: 0x2000, level: 1)
    #expect(Self.completion(tables, 0x1000, pasid: 1) == Self.success(0x30_0000, .read))
    #expect(
      Self.completion(tables, 0x2000, pasid: 1) == Self.success(0x30_1000, []), "not for users")
    #expect(Self.completion(tables, 1 << 63, pasid: 1) == Self.success(0, []))
    // The same tables as a guest's: guest addresses are host addresses, but not to be written.
    tables.set([0x60_0000 | 1 | 2 << 2 | 3 << 6, 6 | 1 << 23, 0x20_0000], pasid: 2)
    var second = TableBuilder(in: tables.memory, root: 0x60_0000, levels: 4)
    second.set(0x61_0003, for: 0x20_0000, level: 2)
    for page in 0..<16 as Range<UInt64> {
      tables.memory.store(0x20_0003 + page * 4096, at: 0x61_0000 + page * 8)
    }
    tables.memory.store(0x50_0001, at: 0x61_0000 + 0x100 * 8)
    #expect(Self.completion(tables, 0x1000, pasid: 2) == Self.success(0x50_0000, .read))
  }

  /// The answer to each reason, by the manual's table: UR, CA, success without and with access.
  @Test func `each reason has its answer`() {
    func numbers(_ wanted: VTd.FaultReason.TranslationResponse) -> [UInt8] {
      (UInt8.min...UInt8.max).filter {
        VTd.FaultReason(rawValue: $0).translationResponse == wanted
      }
    }
    #expect(
      numbers(.unsupportedRequest) == [
        0x01, 0x02, 0x0d, 0x31, 0x33, 0x34, 0x39, 0x41, 0x44, 0x45, 0x46, 0x48, 0x89,
      ])
    #expect(
      numbers(.completerAbort) == [
        0x03, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0e, 0x30, 0x38, 0x3a, 0x40, 0x42, 0x43, 0x50,
        0x52, 0x58, 0x5a, 0x5b, 0x78, 0x7a, 0x7b, 0x7c, 0x7d, 0x87,
      ])
    #expect(
      numbers(.noAccess) == [
        0x04, 0x51, 0x59, 0x5c, 0x5d, 0x70, 0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77, 0x79, 0x80,
        0x81, 0x83, 0x84, 0x90, 0x91,
      ])
    #expect(numbers(.remainingAccess) == [0x05, 0x06, 0x85, 0x86])
    #expect(VTd.FaultReason.firstStageUpdateFailed.isRecordedForTranslationRequests)
    #expect(!VTd.FaultReason.secondStageEntryNotPresent.isRecordedForTranslationRequests)
    #expect(VTd.FaultReason.pasidTableUnreadable.isRecordedForTranslationRequests)
  }
}
