import IOMMUFormats
import Testing

@Suite struct IORTTests {
  /// What QEMU writes for its machine `virt` with an SMMUv3, from its own tests
  /// (`tests/data/acpi/aarch64/virt/IORT`).
  static let qemu = IVRSTests.hexadecimalBytes(
    """
    494f5254ec0000000357424f43485320425850432020202001000000425850430100000003000000
    30000000000000000018000100000000000000000000000001000000000000000458000401000000
    0100000044000000000005090000000001000000000000000000000000000000000000006a000000
    6b0000006d0000006c000000000000000000000000000000ffff0000000000003000000000000000
    024c0003020000000200000024000000010000000000000300000000000000004000000000000000
    ff00000000000000480000000000000000010000fffe0000000100003000000000000000
    """)

  static func table(_ nodes: [[UInt8]], count: UInt8? = nil) -> [UInt8] {
    ACPI.TableHeader(
      revision: 5, oemID: "EXAMPL", oemTableID: "TABLE", creatorID: "TEST"
    ).table(
      signature: "IORT",
      body: [count ?? UInt8(nodes.count), 0, 0, 0, 48, 0, 0, 0, 0, 0, 0, 0] + nodes.flatMap { $0 })
  }

  @Test func `QEMU's table has three nodes that lead to each other`() throws {
    let table = try ACPI.IORT(parsing: Self.qemu)
    #expect(table.damage == [])
    #expect(table.findings == [])
    #expect(table.nodes.map(\.offset) == [48, 72, 160])
    #expect(table.nodes.map(\.type) == [.itsGroup, .smmuV3, .rootComplex])
    #expect(table.nodes[0].serviceIDs == [0])
    let smmu = table.nodes[1]
    #expect(smmu.base == PhysicalAddress(0x905_0000))
    #expect(smmu.flagNames == ["COHACC Override"])
    #expect(smmu.modelName == "SMMUv3")
    #expect(smmu.mappings.map(\.outputOffset) == [48])
    #expect(smmu.mappings[0].inputEnd == 0xffff)
    let root = table.nodes[2]
    #expect(root.segment == 0)
    #expect(root.flagNames == ["CPM", "DACS"])
    #expect(root.mappings.map(\.offset) == [196, 216])
    #expect(root.mappings.map(\.inputBase) == [0, 0x100])
    #expect(root.mappings.map(\.inputEnd) == [0xff, 0xffff])
    #expect(root.mappings.map(\.outputBase) == [0, 0x100])
    #expect(root.mappings.map(\.outputOffset) == [72, 48])
  }

  /// Nodes by themselves, as the manual lays them out.
  @Test func `nodes of every other type are read`() throws {
    let component = IVRSTests.hexadecimalBytes(
      "0130000000000000000000000000000021000000000000000000000024"
        + "5c5f53422e47505530" + "00000000000000000000")
    let smmu = IVRSTests.hexadecimalBytes(
      "0364000000000000000000000000000000006801000000000000010000000000"
        + "03000000020000003c000000020000004c00000001000000" + "5c000000"
        + "0701000000000000" + "0501000001000000" + "8c01000000000000" + "8d01000001000000"
        + "9301000000000000")
    let counters = IVRSTests.hexadecimalBytes(
      "0528000100000000000000000000000000000a10000000002c000000" + "30000000" + "00000b1000000000")
    let reserved = IVRSTests.hexadecimalBytes(
      "0630000100000000000000000000000015000000010000001c000000"
        + "000000b000000000" + "0000010000000000" + "00000000")
    let table = try ACPI.IORT(parsing: Self.table([component, smmu, counters, reserved]))
    #expect(table.damage == [])
    #expect(table.findings == [])
    #expect(table.nodes.map(\.type) == [.namedComponent, .smmu, .counters, .reservedMemory])
    #expect(table.nodes[0].componentName == "\\_SB.GPU0")
    #expect(table.nodes[0].flagNames == ["Stall supported"])
    #expect(table.nodes[1].modelName == "Arm MMU-500")
    #expect(table.nodes[1].flagNames == ["Coherent page table walk"])
    #expect(
      table.nodes[1].interrupts.map { "\($0.kind) \($0.number) \($0.isEdgeTriggered)" } == [
        "NSgIrpt 263 false", "NSgCfgIrpt 261 true", "context 396 false", "context 397 true",
        "PMU 403 false",
      ])
    #expect(table.nodes[2].watchedOffset == 48)
    #expect(table.nodes[3].flagNames == ["Remapping Permitted"])
    #expect(
      table.nodes[3].regions.map(\.memory)
        == [PhysicalAddress(0xb000_0000)..<PhysicalAddress(0xb001_0000)])
  }

  @Test(
    arguments: [
      (
        "00180001000000000000000000000000", 1,
        "ITS group, node 1 of 1, with a length of 24 bytes, and"
      ),
      (
        "00100001000000000000000000000000", 1,
        "ITS group, node 1 of 1, with a length of 16 bytes, and"
      ),
      ("07100000000000000000000000000000", 2, "the table ends where node 2 of 2 should start"),
    ])
  func `what keeps the rest from being read is told`(node: String, count: UInt8, text: String)
    throws
  {
    let table = try ACPI.IORT(
      parsing: Self.table([IVRSTests.hexadecimalBytes(node)], count: count))
    #expect(try #require(table.damage.first).text.hasPrefix(text))
  }

  @Test func `a mapping that leads nowhere, and arrays without room, are findings`() throws {
    var bytes = Self.qemu
    // The root complex's second mapping, and the count of the SMMU's.
    bytes[228] = 0x31
    bytes[80] = 2
    let table = try ACPI.IORT(parsing: bytes, ignoringChecksum: true)
    #expect(
      table.findings.map(\.description) == [
        "at byte 0x48: SMMUv3: ID mappings past the node's end",
        "at byte 0xd8: root complex: leads to byte 0x31, where no node starts",
      ])
  }

  /// Which mappings of each node a table has that ends after some bytes.
  @Test(
    arguments: [
      (67, []),
      (68, [[]]),
      (136, [[], []]),
      (159, [[], []]),
      (160, [[], [140]]),
      (192, [[], [140]]),
      (193, [[], [140], []]),
      (215, [[], [140], []]),
      (216, [[], [140], [196]]),
      (235, [[], [140], [196]]),
    ] as [(Int, [[Int]])])
  func `a cut takes no mapping that is all there`(count: Int, mappings: [[Int]]) throws {
    let table = try ACPI.IORT(parsing: Array(Self.qemu.prefix(count)))
    #expect(table.nodes.map { $0.mappings.map(\.offset) } == mappings)
    #expect(table.damage.map(\.offset) == [4])
    #expect(table.findings == [])
  }

  @Test func `what is cut off of a node is not said to be zero`() throws {
    // The root complex without its PASIDs, which begin at byte 33; a name without its end.
    let root = try #require(ACPI.IORT(parsing: Array(Self.qemu.prefix(194))).nodes.last)
    #expect(root.isCut)
    #expect(root.statedByteCount == 76)
    #expect(!root.fields.contains { "\($0.name)" == "Maximum PASID width" })
    let component = IVRSTests.hexadecimalBytes(
      "0130000000000000000000000000000021000000000000000000000024"
        + "5c5f53422e47505530" + "00000000000000000000")
    let bytes = Self.table([component])
    #expect(try ACPI.IORT(parsing: Array(bytes.prefix(84))).nodes.first?.componentName == nil)
    #expect(
      try ACPI.IORT(parsing: Array(bytes.prefix(88))).nodes.first?.componentName == "\\_SB.GPU0")
  }

  @Test(arguments: seeds)
  func `no bytes trap the reader`(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    for _ in 0..<500 {
      var bytes = Self.qemu
      for _ in 0..<Int.random(in: 1...12, using: &generator) {
        bytes[Int.random(in: 8..<bytes.count, using: &generator)] = .random(
          in: 0...255, using: &generator)
      }
      let count = Int.random(in: 0...bytes.count, using: &generator)
      guard let table = try? ACPI.IORT(parsing: Array(bytes.prefix(count)), ignoringChecksum: true)
      else { continue }
      _ = table.findings
      for node in table.nodes {
        _ = (node.interrupts, node.componentName, node.modelName, node.serviceIDs)
        #expect(node.offset + node.bytes.count <= count)
      }
    }
  }
}
