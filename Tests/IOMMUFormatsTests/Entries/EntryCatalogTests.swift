import FoundationEssentials
import IOMMUFormats
import IOMMUTestSupport
import Testing

@Suite struct EntryCatalogTests {
  /// The names that people have typed since there is a list of them.
  static let names = [
    "tce", "tar", "config-rw", "stuff", "gatt", "gart-control", "gart-base", "gart-table",
    "gart-cache", "root", "context", "sm-root", "sm-context", "pasid-dir", "pasid", "ss-pml5e",
    "ss-pml4e", "ss-pdpe", "ss-pde", "ss-pte", "fs-pml5e", "fs-pml4e", "fs-pdpe", "fs-pde",
    "fs-pte", "cap", "ecap", "gsts", "rtaddr", "table-address", "config", "bus-range", "gart",
    "gart-entry", "re", "root-entry", "ce", "ctx", "context-entry", "scalable-root", "sm-ctx",
    "scalable-context", "pasid-directory", "pde", "pasid-entry", "pe", "slpml5e", "slpml4e",
    "slpdpe", "slpde", "slpte", "flpml5e", "flpml4e", "flpdpe", "flpde", "flpte", "cap-reg",
    "capability", "ecap-reg", "extended-capability", "gsts-reg", "global-status", "rtaddr-reg",
    "root-table-address",
  ]

  @Test(arguments: names)
  func `a name of old finds its entry in any case`(name: String) {
    #expect(EntryCatalog.kind(named: name) != nil)
    #expect(
      EntryCatalog.kind(named: name.uppercased())?.name == EntryCatalog.kind(named: name)?.name)
  }

  @Test func `no name is taken twice`() {
    let names = EntryCatalog.all.flatMap { [$0.name] + $0.aliases }
    var seen: Set<String> = []
    for name in names where !seen.insert(name).inserted { Issue.record("\(name) is taken twice") }
    #expect(names.allSatisfy { $0 == $0.lowercased() && !$0.contains("_") && !$0.contains(" ") })
    #expect(EntryCatalog.all.allSatisfy { !$0.summary.isEmpty && $0.summary.count <= 72 })
  }

  /// The sources are the one list of entries that nobody has to keep.
  @Test func `every entry type of the sources is in the catalog`() throws {
    let folder = Repository.path + "/Sources/IOMMUFormats"
    var declared: [String] = []
    for path in try FileManager.default.subpathsOfDirectory(atPath: folder).sorted()
    where path.hasSuffix(".swift") {
      let bytes = try #require(FileManager.default.contents(atPath: "\(folder)/\(path)"))
      for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
        guard let (head, conformances) = split(line), head.hasPrefix("public struct ") else {
          continue
        }
        let protocols: Set = [
          "WordEntry", "LongModeEntry", "WideEntry", "TableEntry", "InvalidationDescriptor",
          "VTdRegister", "AMDViCommand",
        ]
        if !protocols.isDisjoint(with: conformances) {
          declared.append(String(head.dropFirst("public struct ".count)))
        }
      }
    }
    let listed = EntryCatalog.types.map { "\($0)" }
    #expect(listed.sorted() == declared.sorted())
    #expect(declared.count == 165)
  }

  /// `public struct A: B, C {` in its two halves.
  private func split(_ line: Substring) -> (Substring, [String])? {
    guard let colon = line.firstIndex(of: ":"), line.hasSuffix("{") else { return nil }
    let head = line[..<colon].drop { $0 == " " }
    let names = line[line.index(after: colon)...].dropLast().split(separator: ",")
    return (head, names.map { String($0.drop { $0 == " " }.prefix { $0 != " " }) })
  }

  @Test(arguments: VTd.registerMap.map(\.name))
  func `a VT-d register is found by the manual's name`(name: String) throws {
    let format = VTd.registerMap.first { $0.name == name }?.format
    let typed = String(name.lowercased().map { $0 == "_" ? "-" : $0 })
    for name in [typed, String(typed.dropLast(4))] {
      #expect(try #require(EntryCatalog.kind(named: name)).type == format)
    }
  }

  @Test(arguments: VTd.DescriptorType.allCases)
  func `every descriptor of the invalidation queue has a name`(type: VTd.DescriptorType) {
    #expect(EntryCatalog.all.contains { $0.type == type.format })
  }

  @Test func `an entry comes with the variant that its bits and the circumstances make`() throws {
    struct Seen: EntryVisitor {
      typealias Answer = [Int]
      func visit<Entry: TableEntry>(_ entry: Entry, as variant: Entry.Variant) -> [Int] {
        switch variant {
        case let variant as VTd.SecondStageEntry.Variant:
          [variant.level, variant.isLeaf ? 1 : 0, variant.limits.hostAddressWidth]
        case let variant as VTd.InterruptRemappingEntry.Variant:
          [variant.isPosted ? 1 : 0, variant.usesExtendedMode.map { $0 ? 1 : 0 } ?? -1]
        case let variant as VTd.InterruptFormat: [variant == .remappable ? 1 : 0]
        default: []
        }
      }
    }
    func variant(
      _ name: String, _ words: [UInt64], _ circumstances: EntryCatalog.Circumstances = .init()
    ) throws -> [Int] {
      try #require(EntryCatalog.kind(named: name)).visit(words, under: circumstances, by: Seen())
    }
    var known = EntryCatalog.Circumstances()
    known.vtd.limits.hostAddressWidth = 39
    known.vtd.usesExtendedMode = false
    #expect(try variant("ss-pde", [0x80]) == [2, 1, 52])
    #expect(try variant("ss-pde", [0x03], known) == [2, 0, 39])
    #expect(try variant("ss-pte", [0x03]) == [1, 1, 52])
    #expect(try variant("irte", [0x8001, 0]) == [1, -1])
    #expect(try variant("irte", [0x0001, 0], known) == [0, 0])
    #expect(try variant("ioapic-rte", [1 << 48]) == [1])
    #expect(try variant("ioapic-rte", [0]) == [0])
  }

  /// Names and bits of a variant's fields.
  private struct Fields: EntryVisitor {
    typealias Answer = [String]
    func visit<Entry: TableEntry>(_: Entry, as variant: Entry.Variant) -> [String] {
      Entry.fields(variant).map { "\($0.name)\($0.bits) \($0.use)" }
    }
  }

  @Test(arguments: seeds)
  func `whatever an entry holds, its layout is one of its kind`(seed: UInt64) {
    for kind in EntryCatalog.all {
      let layouts = kind.visitLayouts(by: Fields())
      #expect(Set(layouts.map(\.answer)).count == layouts.count, "\(kind.name): two are alike")
      #expect(layouts.count == 1 || layouts.allSatisfy { !$0.condition.isEmpty }, "\(kind.name)")
      var generator = SeededGenerator(seed: seed)
      let mask = kind.type.bitCount == 32 ? UInt64(UInt32.max) : .max
      for _ in 0..<200 {
        let words = (0..<kind.type.quadwordCount).map { _ in generator.next() & mask }
        let fields = kind.visit(words, by: Fields())
        #expect(layouts.contains { $0.answer == fields }, "\(kind.name) \(words), seed \(seed)")
      }
    }
  }
}
