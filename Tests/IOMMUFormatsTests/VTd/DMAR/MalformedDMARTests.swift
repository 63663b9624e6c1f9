import IOMMUFormats
import Testing

@Suite struct MalformedDMARTests {
  typealias ParsingError = VTd.DMAR.ParsingError

  /// The complete table with some bytes changed and, as a rule, the checksum put right.
  static func changed(
    _ changes: [(offset: Int, bytes: [UInt8])], rightChecksum: Bool = true
  ) -> [UInt8] {
    var bytes = DMARTests.complete
    for change in changes {
      bytes.replaceSubrange(
        change.offset..<(change.offset + change.bytes.count), with: change.bytes)
    }
    if rightChecksum { bytes[9] = bytes[9] &- bytes.reduce(0, &+) }
    return bytes
  }

  static func error(_ bytes: [UInt8]) -> ParsingError? {
    do {
      _ = try VTd.DMAR(parsing: bytes)
      return nil
    } catch {
      return error
    }
  }

  static let cases: [(bytes: [UInt8], error: ParsingError, text: String)] = [
    (
      changed([(9, [0xfb])], rightChecksum: false), .table(.checksum(stated: 0xfb, right: 0xfa)),
      "at byte 0x9: checksum 0xfb, and 0xfa would make the sum of all bytes zero; copy the table "
        + "again, or ignore the checksum"
    ),
    (
      changed([(50, [0, 0])]),
      .structureTooShort(offset: 48, .hardwareUnit, stated: 0, least: 16),
      "at byte 0x30: DRHD with a length of 0 bytes, and it has at least 16; the firmware or the "
        + "copy is broken"
    ),
    (
      changed([(106, [23, 0])]),
      .structureTooShort(offset: 104, .reservedMemory, stated: 23, least: 24),
      "at byte 0x68: RMRR with a length of 23 bytes, and it has at least 24; the firmware or the "
        + "copy is broken"
    ),
    (
      changed([(206, [0x77, 0x77, 3, 0])]),
      .structureTooShort(
        offset: 206, VTd.DMAR.StructureType(rawValue: 0x7777), stated: 3, least: 4),
      "at byte 0xce: type 30583 with a length of 3 bytes, and it has at least 4; the firmware or "
        + "the copy is broken"
    ),
    (
      changed([(208, [17, 0])]),
      .structureTooLong(offset: 206, .integratedProperties, stated: 17, left: 16),
      "at byte 0xce: SIDP with a length of 17 bytes, and the table has 16 left; the firmware or "
        + "the copy is broken"
    ),
    (
      changed([(154, [38, 0])]),
      .structureLength(offset: 152, .hardwareAffinity, stated: 38, expected: 20),
      "at byte 0x98: RHSA with a length of 38 bytes, and it has 20; the firmware or the copy is "
        + "broken"
    ),
    (
      changed([(208, [13, 0])]), .scopeCutOff(offset: 214, byteCount: 5),
      "at byte 0xd6: 5 bytes where a device scope of at least 8 should start; the structure's "
        + "length is wrong"
    ),
    (
      changed([(215, [6])]), .scopeLength(offset: 214, stated: 6),
      "at byte 0xd6: device scope with a length of 6 bytes, and it has 6 and 2 for each step of "
        + "its path; the firmware or the copy is broken"
    ),
    (changed([(65, [9])]), .scopeLength(offset: 64, stated: 9), ""),
    (changed([(65, [0])]), .scopeLength(offset: 64, stated: 0), ""),
    (
      changed([(65, [10])]), .scopeTooLong(offset: 64, stated: 10, left: 8),
      "at byte 0x40: device scope with a length of 10 bytes, and its structure has 8 left; the "
        + "firmware or the copy is broken"
    ),
    (
      changed([(208, [14, 0])]), .scopeCutOff(offset: 214, byteCount: 6), ""
    ),
    (
      changed([(4, [0xdf])]), .table(.length(stated: 0xdf, available: 222)),
      "at byte 0x4: a length of 223 bytes, and only 222 are there; the table is cut off, copy it "
        + "again"
    ),
    (
      changed([(4, [35])]), .table(.length(stated: 35, available: 222)),
      "at byte 0x4: a length of 35 bytes is less than the header's 36; the table is damaged, copy "
        + "it again"
    ),
    (
      changed([(4, [0xff, 0xff, 0xff, 0xff])]),
      .table(.length(stated: 0xffff_ffff, available: 222)), ""
    ),
    (
      changed([(0, Array("DMRA".utf8))]),
      .table(.signature(expected: "DMAR", found: Array("DMRA".utf8))),
      "at byte 0x0: signature 'DMRA' instead of 'DMAR'; give the binary table, as in "
        + "/sys/firmware/acpi/tables/DMAR"
    ),
    (
      [], .table(.tooShort(signature: "DMAR", byteCount: 0)),
      "0 bytes are no DMAR table: its header has 36 bytes; the file is cut off, or of another kind"
    ),
  ]

  @Test(arguments: cases)
  func `a malformed table is an error with its offset`(
    bytes: [UInt8], error: ParsingError, text: String
  ) {
    #expect(Self.error(bytes) == error)
    if !text.isEmpty { #expect(error.description == text) }
  }

  @Test func `a header without room for the structures is cut off`() {
    var bytes = Array(DMARTests.complete[..<40])
    bytes[4] = 40
    bytes[9] = bytes[9] &- bytes.reduce(0, &+)
    #expect(Self.error(bytes) == .headerCutOff(byteCount: 40))
    #expect(ParsingError.headerCutOff(byteCount: 40).description.contains("header's 48"))
  }

  @Test func `one to three bytes at the end are no structure`() {
    for extra in 1...3 {
      var bytes = DMARTests.complete + [UInt8](repeating: 0, count: extra)
      bytes[4] = UInt8(222 + extra)
      bytes[9] = bytes[9] &- bytes.reduce(0, &+)
      #expect(Self.error(bytes) == .structureCutOff(offset: 222, byteCount: extra))
    }
  }

  @Test func `the checksum can be ignored`() throws {
    let bytes = Self.changed([(9, [0xfb])], rightChecksum: false)
    let table = try VTd.DMAR(parsing: bytes, ignoringChecksum: true)
    #expect(table == DMARTests.built)
  }

  @Test func `every prefix of a table is an error`() {
    for count in 0..<222 {
      #expect(Self.error(Array(DMARTests.complete[..<count])) != nil, "\(count) bytes")
    }
  }

  // MARK: What is there of a table that is cut off

  /// How many scopes of each structure a table has that ends after some bytes, what was not read, and what
  /// there is of the structure with the cut.
  @Test(
    arguments: [
      (63, [], 48, nil),
      (64, [0], 64, [16, 24]),
      (71, [0], 64, [23, 24]),
      (72, [1], 72, nil),
      (87, [1], 72, nil),
      (96, [1, 1], 96, [24, 32]),
      (103, [1, 1], 96, [31, 32]),
      (104, [1, 2], 104, nil),
      (135, [1, 2, 0], 128, [31, 32]),
      (171, [1, 2, 1, 1], 152, nil),
      // Half a name is none.
      (187, [1, 2, 1, 1, 0], 172, nil),
      (205, [1, 2, 1, 1, 0, 0, 0], 198, [15, 16]),
      (221, [1, 2, 1, 1, 0, 0, 1, 0], 214, [15, 16]),
    ] as [(Int, [Int], Int, [Int]?)])
  func `a cut takes no scope that is all there`(
    count: Int, scopes: [Int], unread: Int, cut: [Int]?
  ) throws {
    let reading = try VTd.DMAR.Reading(Array(DMARTests.complete[..<count]))
    #expect(reading.table.structures.map(\.scopes.count) == scopes)
    #expect(reading.damage == .table(.length(stated: 222, available: count)))
    #expect(reading.unread == unread..<222)
    #expect(reading.cutStructure.map { [$0.available, $0.stated] } == cut)
    // What is missing may be in the other part.
    #expect(reading.findings == [])
  }

  @Test func `what a table without an end may name is no finding`() throws {
    // A RHSA names a second unit, and the SIDP a second device.
    var bytes = Self.changed([(160, [0, 0x20]), (214, [5]), (218, [2])])
    #expect(try VTd.DMAR(parsing: bytes).findings.count == 2)
    bytes[4] = 230
    #expect(try VTd.DMAR.Reading(bytes).findings == [])
  }

  @Test func `a structure of a later revision is there as far as it goes`() throws {
    let bytes = Self.changed([(206, [0x77, 0x77])])
    let reading = try VTd.DMAR.Reading(Array(bytes[..<220]))
    #expect(reading.table.structures.last?.byteCount == 14)
    #expect(reading.cutStructure.map { [$0.available, $0.stated] } == [14, 16])
  }

  // MARK: What can be read and should not be there

  static let findings: [(bytes: [UInt8], texts: [String])] = [
    (changed([(8, [0])]), ["at byte 0x8: revision 0, and the first is 1"]),
    (changed([(37, [0x02])]), ["at byte 0x25: X2APIC_OPT_OUT without INTR_REMAP"]),
    (changed([(37, [0x0d])]), ["at byte 0x25: reserved bits of the header are not zero"]),
    (changed([(47, [1])]), ["at byte 0x25: reserved bits of the header are not zero"]),
    (
      changed([(56, [0, 0, 0, 0])]),
      ["at byte 0x30: DRHD: registers at address 0"]
    ),
    (
      changed([(53, [1]), (56, [0, 0x10])]),
      ["at byte 0x30: DRHD: registers at 0xfed91000, no multiple of their 8192 bytes"]
    ),
    (
      changed([(52, [1])]),
      [
        "at byte 0x40: device scope: type 1 (endpoint) in a DRHD with INCLUDE_PCI_ALL, which has every "
          + "PCI device that no other unit lists, and lists none itself",
        "at byte 0x48: DRHD: follows the INCLUDE_PCI_ALL unit of segment 0, which must be the last",
      ]
    ),
    (changed([(53, [0x10])]), ["at byte 0x30: DRHD: reserved bits 44 to 47 are not zero"]),
    (
      changed([(112, [0, 1])]),
      ["at byte 0x68: RMRR: memory 0x8b000100 to 0x8f7fffff is not one or more whole pages"]
    ),
    (
      changed([(120, [0xff, 0xff, 0xff, 0x8a])]),
      ["at byte 0x68: RMRR: memory 0x8b000000 to 0x8affffff is not one or more whole pages"]
    ),
    (
      changed([(120, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])]),
      [
        "at byte 0x68: RMRR: memory 0x8b000000 to 0xffffffffffffffff is not one or more whole pages"
      ]
    ),
    (changed([(140, [1])]), ["at byte 0x88: ATSR: device scopes beside ALL_PORTS"]),
    // A bridge belongs in a unit that has some devices, and not in one that has all others.
    (changed([(64, [2])]), []),
    (
      changed([(88, [2]), (92, [0])]),
      [
        "at byte 0x58: device scope: type 2 (sub-hierarchy) in a DRHD with INCLUDE_PCI_ALL, which has "
          + "every PCI device that no other unit lists, and lists none itself"
      ]
    ),
    (
      changed([(128, [3])]),
      [
        "at byte 0x80: device scope: type 3 (I/O APIC) in an RMRR, which lists users of its memory only"
      ]
    ),
    (
      changed([(144, [1])]),
      [
        "at byte 0x90: device scope: type 1 (endpoint) in an ATSR, which lists root ports (type 2) only"
      ]
    ),
    (
      changed([(160, [0, 0x20])]),
      ["at byte 0x98: RHSA: names a unit at 0xfed92000, and no DRHD does"]
    ),
    (changed([(189, [0x31])]), ["at byte 0xac: ANDD: no zero ends the name"]),
    (changed([(180, [0x41])]), ["at byte 0xac: ANDD: 'A_SB.I2C0' is no absolute name"]),
    (
      changed([(198, [2])]),
      [
        "at byte 0xc6: device scope: type 2 (sub-hierarchy) in a SATC, which lists endpoints (type 1) "
          + "only"
      ]
    ),
    (
      changed([(214, [4])]),
      [
        "at byte 0xd6: device scope: type 4 (HPET) in a SIDP, which lists endpoints (type 1) and ACPI "
          + "devices (type 5) only"
      ]
    ),
    (changed([(200, [1])]), ["at byte 0xc6: device scope: flags outside SIDP"]),
    (changed([(214, [5]), (218, [1])]), []),
    (
      changed([(214, [5]), (218, [2])]),
      ["at byte 0xd6: device scope: names ACPI device 2, and no ANDD does"]
    ),
    (
      changed([(216, [0x22])]),
      ["at byte 0xd6: device scope: reserved bits or numbers out of range"]
    ),
    (changed([(220, [32])]), ["at byte 0xd6: device scope: reserved bits or numbers out of range"]),
    (changed([(68, [1])]), ["at byte 0x40: device scope: an enumeration id at a PCI device"]),
    (
      changed([(64, [9])]),
      ["at byte 0x40: device scope: type 9, and the manual has 1 to 5"]
    ),
    (changed([(142, [1])]), ["at byte 0x0: segment 1 has no DRHD"]),
  ]

  @Test(arguments: findings)
  func `what firmware should not write is told`(bytes: [UInt8], texts: [String]) throws {
    let table = try VTd.DMAR(parsing: bytes)
    #expect(table.findings.map(\.description) == texts)
    #expect(table.bytes == bytes)
  }

  @Test func `structures out of order and two units for all are told`() {
    var table = DMARTests.built
    table.structures.swapAt(0, 3)
    table.structures.append(
      .hardwareUnit(.init(base: PhysicalAddress(0xfed9_2000), includesAllPCI: true)))
    #expect(
      table.findings.map(\.description) == [
        "at byte 0x40: DRHD: after ATSR; structures ascend by type",
        "at byte 0x80: DRHD: after RMRR; structures ascend by type",
        "at byte 0x80: DRHD: follows the INCLUDE_PCI_ALL unit of segment 0, which must be the last",
        "at byte 0xde: DRHD: after SIDP; structures ascend by type",
        "at byte 0xde: DRHD: follows the INCLUDE_PCI_ALL unit of segment 0, which must be the last",
      ])
  }

  // MARK: Any bytes

  @Test(arguments: seeds)
  func `any bytes are a table or an error`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    var tables = 0
    for _ in 0..<4000 {
      var bytes = DMARTests.complete
      switch Int.random(in: 0..<4, using: &generator) {
      case 0:
        bytes = (0..<Int.random(in: 0..<300, using: &generator)).map { _ in
          UInt8.random(in: 0...255, using: &generator)
        }
      case 1: bytes.removeLast(Int.random(in: 0..<bytes.count, using: &generator))
      case 2: bytes += bytes.shuffled(using: &generator)
      default: break
      }
      for _ in 0..<Int.random(in: 0..<6, using: &generator) where !bytes.isEmpty {
        let place = Int.random(in: 0..<bytes.count, using: &generator)
        bytes[place] = UInt8.random(in: 0...255, using: &generator)
      }
      // Half of them get so far that structures are read.
      if Bool.random(using: &generator), bytes.count >= 36 {
        bytes.replaceSubrange(
          0..<8,
          with: Array("DMAR".utf8) + [UInt8(bytes.count & 0xff)] + [
            UInt8(bytes.count >> 8), 0, 0,
          ])
      }
      do {
        let table = try VTd.DMAR(parsing: bytes, ignoringChecksum: true)
        tables += 1
        // Checksum apart, the bytes come again.
        var again = table.bytes
        let count = again.count
        again[9] = bytes[9]
        #expect(again == Array(bytes[..<count]))
        _ = table.findings
        #expect(try VTd.DMAR(parsing: table.bytes) == table)
      } catch {
        #expect(error.description.contains(";"), "every error names a way out")
      }
    }
    #expect(tables > 200, "the test reads tables too")
  }
}
