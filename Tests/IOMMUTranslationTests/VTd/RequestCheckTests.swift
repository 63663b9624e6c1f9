import IOMMUFormats
import IOMMUTranslation
import Testing

/// What the tables above the page tables allow which kind of request.
@Suite struct RequestCheckTests {
  static let none: UInt64 = 0b1
  static let dte: UInt64 = 0b101
  static let paside: UInt64 = 0b1001
  static let pre: UInt64 = 0b10101

  struct Row: Sendable, CustomTestStringConvertible {
    var what: String
    var context: UInt64
    var request: VTd.Request
    var fault: UInt8?
    var testDescription: String { what }
  }

  static func request(
    _ kind: VTd.Request.Kind = .untranslated, pasid: UInt32? = nil, isPrivileged: Bool = false,
    isExecute: Bool = false
  ) -> VTd.Request {
    VTd.Request(
      device, IOVA(0x5000), kind: kind, pasid: pasid.map { PASID($0) }, isPrivileged: isPrivileged,
      isExecute: isExecute)
  }

  static let rows: [Row] = [
    Row(what: "plain", context: none, request: request()),
    Row(what: "PASID", context: paside, request: request(pasid: 5)),
    Row(what: "PASID without PASIDE", context: none, request: request(pasid: 5), fault: 0x45),
    Row(
      what: "translation without DTE", context: none,
      request: request(.translation(noWrite: false)), fault: 0x44),
    Row(
      what: "translated without DTE", context: none, request: request(.translated), fault: 0x44),
    Row(what: "translation", context: dte, request: request(.translation(noWrite: false))),
    Row(
      what: "translation with PASID, no PASIDE", context: dte,
      request: request(.translation(noWrite: true), pasid: 5), fault: 0x45),
    Row(what: "translated", context: dte, request: request(.translated)),
    Row(
      what: "translated with PASID, no EPTR", context: dte | paside,
      request: request(.translated, pasid: 5), fault: 0x49),
    Row(
      what: "translated with PASID", context: dte | paside | 0b100_0000,
      request: request(.translated, pasid: 5)),
    Row(what: "page request without PRE", context: dte, request: request(.page), fault: 0x47),
    Row(what: "page request", context: pre, request: request(.page)),
    Row(
      what: "page request with PASID, no PASIDE", context: pre,
      request: request(.page, pasid: 5), fault: 0x45),
    Row(
      what: "the PASID of requests without one", context: paside, request: request(pasid: 0),
      fault: 0x48),
    Row(
      what: "PASID beyond the directory", context: paside, request: request(pasid: 8192),
      fault: 0x46),
    Row(
      what: "widest PASID, beyond the directory", context: paside,
      request: request(pasid: 0x1_ffff), fault: 0x46),
    Row(what: "PASID without entry", context: paside, request: request(pasid: 6), fault: 0x59),
    Row(
      what: "PASID without table", context: paside, request: request(pasid: 64), fault: 0x51),
    Row(
      what: "execute", context: paside, request: request(pasid: 5, isExecute: true), fault: 0x5c),
    Row(
      what: "supervisor without SRE", context: paside,
      request: request(pasid: 5, isPrivileged: true), fault: 0x5d),
    Row(
      what: "page request of a supervisor", context: pre | paside,
      request: request(.page, pasid: 5, isPrivileged: true)),
  ]

  /// The device's tables: pass-through for requests without PASID and for PASID 5.
  static func tables(_ context: UInt64) throws -> ScalableTables {
    let tables = try ScalableTables(context: context)
    tables.set([1 | 4 << 6, 5])
    tables.set([1 | 4 << 6, 5], pasid: 5)
    return tables
  }

  static let limits: VTd.Limits = {
    var limits = VTd.Limits.modern
    limits.pasidBits = 17
    return limits
  }()

  @Test(arguments: rows)
  func `a request is admitted or meets the manual's fault`(row: Row) throws {
    let tables = try Self.tables(row.context)
    var observer = Unobserved()
    let result = tables.resolver(Self.limits).resolve(
      row.request, in: tables.memory, observer: &observer)
    switch result {
    case .success: #expect(row.fault == nil)
    case .failure(let fault):
      #expect(fault.reason.rawValue == row.fault)
      #expect(fault.isRecorded)
    }
    // FPD silences every one of them, and lets nothing through.
    let silent = try Self.tables(row.context | 2)
    if case .failure(let fault) = silent.resolver(Self.limits).resolve(
      row.request, in: silent.memory, observer: &observer)
    {
      #expect(fault.reason.rawValue == row.fault)
      #expect(!fault.isRecorded)
    } else {
      #expect(row.fault == nil)
    }
  }

  /// Counts the entries that are read.
  struct ReadCounter: WalkObserver {
    var count = 0
    mutating func read<Entry: TableEntry>(
      _: Entry, at _: PhysicalAddress, in _: TablePlace, index _: UInt64,
      as _: @autoclosure () -> Entry.Variant
    ) { count += 1 }
  }

  @Test(
    arguments: [none, paside, paside | 2, dte | paside, pre, 0],
    [VTd.Request.Kind.untranslated, .translation(noWrite: false), .translated, .page])
  func `a PASID that is too wide ends before any table, whatever the context entry says`(
    context: UInt64, kind: VTd.Request.Kind
  ) throws {
    let tables = try Self.tables(context)
    // PSS = 16: PASIDs have 17 bits.
    for pasid: UInt32 in [0x2_0000, 0x2_0005, 0xf_ffff] {
      var observer = ReadCounter()
      let result = tables.resolver(Self.limits).resolve(
        Self.request(kind, pasid: pasid), in: tables.memory, observer: &observer)
      #expect(throws: VTd.RequestFault(.init(rawValue: 0x89))) { try result.get() }
      #expect(observer.count == 0)
    }
  }

  @Test func `a unit without PASIDs does not judge how wide one is`() throws {
    let tables = try Self.tables(Self.none)
    var limits = Self.limits.without(.pasids)
    limits.pasidBits = 1
    #expect(tables.translate(Self.request(pasid: 5), limits) == .recorded(0x45))
  }

  @Test func `RID_PRIV makes requests without PASID supervisor requests`() throws {
    let tables = try ScalableTables(requesterPASID: 1 << 20)
    tables.set([1 | 4 << 6, 5])
    #expect(tables.translate(0x5000) == .recorded(0x5d))
    tables.set([1 | 4 << 6, 5, 1])
    #expect(tables.translate(0x5000) == .to(0x5000))
  }

  @Test func `RID_PASID names the entry of requests without PASID`() throws {
    let tables = try ScalableTables(context: Self.paside, requesterPASID: 7)
    tables.set([1 | 4 << 6, 5], pasid: 7)
    #expect(tables.translate(0x5000) == .to(0x5000))
    #expect(tables.translate(0x5000, pasid: 7) == .recorded(0x48))
    #expect(tables.translate(0x5000, pasid: 0) == .recorded(0x59))
  }

  @Test func `from major version 8 on an execute request ends before any table`() throws {
    let tables = try Self.tables(Self.paside)
    var limits = VTd.Limits.modern
    let request = Self.request(pasid: 5, isExecute: true)
    #expect(tables.translate(request, limits) == .recorded(0x5c))
    limits.features.insert(.executeRequests)
    #expect(tables.translate(request, limits) == .to(0x5000))
    limits.majorVersion = 8
    #expect(tables.translate(request, limits) == .recorded(0x34))
  }

  @Test func `in legacy mode PASIDs and page requests have faults of their own`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    storeContext(table: 0x11_0000, widthCode: 2, in: memory)
    let resolver = scalableResolver(.modern, rootTableAddress: 0x10_0000)
    func fault(_ request: VTd.Request) -> UInt8? {
      var observer = Unobserved()
      if case .failure(let fault) = resolver.resolve(request, in: memory, observer: &observer) {
        return fault.reason.rawValue
      }
      return nil
    }
    #expect(fault(Self.request()) == nil)
    #expect(fault(Self.request(pasid: 5)) == 0x31)
    #expect(fault(Self.request(.page)) == 0x32)
    #expect(fault(Self.request(.page, pasid: 5)) == 0x32)
    #expect(fault(Self.request(.translated)) == 0x0d)
    #expect(fault(Self.request(.translation(noWrite: false))) == 0x0d)
    // TT 01 allows both, TT 10 neither.
    memory.store(0x11_0005, at: 0x10_1200)
    #expect(fault(Self.request(.translated)) == nil)
    #expect(fault(Self.request(.translation(noWrite: false))) == nil)
    memory.store(0x9, at: 0x10_1200)
    #expect(fault(Self.request(.translated)) == 0x0d)
  }

  @Test func `a translated request passes up to the host address width`() throws {
    let tables = try ScalableTables(context: Self.dte)
    tables.set([0x20_0000 | 1 | 2 << 2 | 2 << 6, 5])
    func answer(_ address: UInt64) -> Translation {
      tables.translate(VTd.Request(device, IOVA(address), .write, kind: .translated))
    }
    #expect(answer(0x1234_5678) == .to(0x1234_5678))
    #expect(answer(0x3fff_ffff_ffff) == .to(0x3fff_ffff_ffff))
    #expect(answer(0x4000_0000_0000) == .recorded(0x83))
    #expect(answer(0xfee0_0000) == .recorded(0x87))

    let memory = try FlatMemory(byteCount: 4 << 20)
    storeContext(table: 0x11_0004, widthCode: 2, in: memory)
    let legacy = scalableResolver(.modern, rootTableAddress: 0x10_0000)
    func legacyAnswer(_ address: UInt64) -> Translation {
      var observer = Unobserved()
      return legacy.translate(
        VTd.Request(device, IOVA(address), kind: .translated), in: memory, marker: NoMarks(),
        observer: &observer)
    }
    #expect(legacyAnswer(0x1234_5678) == .to(0x1234_5678))
    #expect(legacyAnswer(0x4000_0000_0000) == .recorded(0x04))
    #expect(legacyAnswer(0xfee0_0000) == .recorded(0x0e))
  }

  @Test func `atomic operations need both permissions, zero-length reads either`() throws {
    let tables = try ScalableTables()
    tables.set([0x20_0000 | 1 | 2 << 2 | 2 << 6, 5])
    var builder = TableBuilder(in: tables.memory, root: 0x20_0000, levels: 4)
    builder.set(0x30_0001, for: 0x1000, level: 1)
    builder.set(0x30_1002, for: 0x2000, level: 1)
    builder.set(0x30_2003, for: 0x3000, level: 1)
    #expect(tables.translate(0x1000, .atomic) == .recorded(0x85))
    #expect(tables.translate(0x2000, .atomic) == .recorded(0x86))
    #expect(tables.translate(0x3000, .atomic) == .to(0x30_2000))
    #expect(tables.translate(0x1000, .zeroLengthRead) == .to(0x30_0000))
    #expect(tables.translate(0x2000, .zeroLengthRead) == .to(0x30_1000))
    #expect(
      tables.translate(0x2000, .zeroLengthRead, on: .modern.without(.zeroLengthReads))
        == .recorded(0x86))
    // Entries that together allow nothing are as good as none.
    tables.memory.store(
      tables.quadword(at: builder.place(of: 0x1000, level: 2)) & ~1,
      at: builder.place(of: 0x1000, level: 2))
    #expect(tables.translate(0x1000, .read) == .recorded(0x79))
    #expect(tables.translate(0x1000, .zeroLengthRead) == .recorded(0x79))
  }
}
