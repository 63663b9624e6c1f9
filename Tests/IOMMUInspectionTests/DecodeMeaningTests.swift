import IOMMUFormats
import IOMMUInspection
import Testing

/// What descriptors, fault records and interrupt entries say in one line.
@Suite struct DecodeMeaningTests {
  @Test(
    arguments: [
      // Interrupt entries of the manual's three kinds.
      (
        "irte", [0x0000_0200_0031_0001, 0x0004_00fa],
        "vector 0x31 to destination 0x200 (without EIME: APIC id 0x2), fixed, edge, physical, "
          + "from 00:1f.2"
      ),
      (
        "irte", [0x0001_0203_00ec_003d, 0x0008_0507],
        "vector 0xec to destination 0x10203, lowest priority, level, logical, redirection hint, "
          + "from buses 05 to 07"
      ),
      (
        "irte", [0x2345_6780_0055_c001, 0x1_0004_0018],
        "posts vector 0x55 in the descriptor at 0x123456780, urgent, from 00:03.0"
      ),
      ("irte", [2, 0], "not present, faults not recorded"),
      (
        "irte", [0x0000_0000_0020_0061, 0],
        "vector 0x20 to destination 0x0, undefined delivery mode, edge, physical, from anybody"
      ),
      (
        "irte", [0x0000_0000_0020_0081, 0x0005_0018],
        "vector 0x20 to destination 0x0, NMI, edge, physical, from 00:03.0, whatever bit 2 of the "
          + "function"
      ),
      (
        "posted-descriptor", [1 << 0x31, 1 << 0x15, 0, 0, 0x0000_0300_00f2_0001, 0, 0, 0],
        "vectors 0x31 and 0x55 wait, tells destination 0x300 by vector 0xf2, has told"
      ),
      (
        "posted-descriptor", [0, 0, 0, 0, 0x0000_0100_00f2_0002, 0, 0, 0],
        "no interrupt waits, tells destination 0x100 by vector 0xf2, of urgent ones only"
      ),
      (
        "interrupt-address", [0xfee0_02f8],
        "entry 0x17 of the remapping table, and the subhandle in the data further"
      ),
      ("interrupt-address", [0xfee0_1000], "APIC id 0x1, physical, not remapped"),
      (
        "irta", [0x0100_080f],
        "interrupt remapping table 0x1000000, 65536 entries, destinations of 32 bits"
      ),
      (
        "irta", [0x0190_000f],
        "interrupt remapping table 0x1900000, 65536 entries, destinations of 8 bits"
      ),
      // The invalidation queue.
      ("qi-context", [0x11, 0], "drops context entries: all"),
      ("qi-context", [0x5_0021, 0], "drops context entries: those of domain 5"),
      (
        "qi-context", [0x0003_0020_0005_0031, 0],
        "drops context entries: those of domain 5 for 00:04.0, whatever the function"
      ),
      ("qi-iotlb", [0xd2, 0], "drops translations: all"),
      ("qi-iotlb", [0x1234_0022, 0], "drops translations: those of domain 4660"),
      (
        "qi-iotlb", [0x5_0032, 0x1234_5040],
        "drops translations: those of domain 5 for 0x12345000..<0x12346000, leaf entries alone have "
          + "changed"
      ),
      (
        "qi-iotlb", [0x5_0032, 0x4000_0012],
        "drops translations: those of domain 5 for 0x40000000..<0x80000000"
      ),
      ("qi-iotlb", [0x02, 0], "drops translations: nothing: reserved granularity"),
      (
        "qi-device-tlb", [0x0300_0300_0000_0003, 0x7fff_ffff_ffff_f001],
        "asks 03:00.0 to drop translations of all pages"
      ),
      ("qi-interrupt", [4, 0], "drops interrupt entries: all"),
      ("qi-interrupt", [0x0000_0007_1000_0014, 0], "drops interrupt entries: 0x4..<0x8"),
      (
        "qi-wait", [0xdead_beef_0000_0065, 0x30_0000],
        "when all before it is done: stores 0xdeadbeef at 0x300000, holds back what comes after it"
      ),
      ("qi-wait", [0x15, 0], "when all before it is done: raises an interrupt"),
      (
        "qi-wait", [0x1_0000_00a5, 0x30_0000],
        "when all before it is done: stores 0x1 at 0x300000, drains page requests"
      ),
      (
        "qi-pasid", [0x0001_2345_0001_0017, 0],
        "drops PASID entries: that of PASID 74565 in domain 1"
      ),
      ("qi-pasid", [0x37, 0], "drops PASID entries: all"),
      ("qi-pasid-iotlb", [0x5_0001_0026, 0], "drops translations: all of PASID 5 in domain 1"),
      (
        "qi-pasid-iotlb", [0x5_0001_0036, 0x7fff_ffff_e001],
        "drops translations: those of PASID 5 in domain 1 for 0x7fffffffe000..<0x800000000000"
      ),
      (
        "qi-pasid-device-tlb", [0x5_0300_0048, 0x1000],
        "asks 03:00.0 to drop translations of 0x1000..<0x2000 for PASID 5"
      ),
      (
        "qi-page-response", [0x5_0300_1019, 0xaa8],
        "answers page requests of 03:00.0/5, group 341: invalid request"
      ),
      ("qi-permissions", [0x1a, 0], "drops host permissions: all"),
      (
        "qi-iotlb", [0x11, 0],
        "not this descriptor: its type is that of the context-cache invalidate descriptor, "
          + "'qi-context'"
      ),
      ("qi-wait", [0xf, 0], "not this descriptor: a type that does not exist"),
      (
        "page-request", [0x0020_0005_0300_0101, 0x7f00_0000_1aaf],
        "03:00.0/5 wants to read and write 0x7f0000001000, privileged, group 341, its last"
      ),
      // Faults.
      (
        "frcd", [0x1234_5000, 0xc000_0001_0000_0020],
        "00:04.0 read 0x12345000: fault 0x1, the bus has no context table: root entry not present"
      ),
      (
        "frcd", [0x1234_5000, 0x8000_0005_0000_0020],
        "00:04.0 wrote 0x12345000: fault 0x5, write without write permission, or no mapping"
      ),
      (
        "frcd", [0x8000_0000_0000, 0xc123_4585_b000_3aff],
        "3a:1f.7/74565 read and wrote 0x800000000000, privileged: fault 0x85, write without write "
          + "permission"
      ),
      (
        "frcd", [0x17_0000_0000_0000, 0x8000_0022_0000_00fa],
        "interrupt of 00:1f.2, entry 0x17: fault 0x22, interrupt remapping entry not present"
      ),
      ("frcd", [0, 0], "no fault"),
      ("fsts", [0x202], "a fault waits in record 2"),
      (
        "fsts", [0x13],
        "a fault waits in record 0, a fault found no free record, the invalidation queue has "
          + "stopped at an error"
      ),
      ("fsts", [0], "nothing waits"),
      ("fectl", [0x8000_0000], "messages are held back"),
      ("pectl", [0x4000_0000], "messages are sent, one waits"),
      // Registers of the queues.
      ("iqa", [0x40_0000], "invalidation queue 0x400000, 4 KiB, 256 descriptors of 16 bytes"),
      ("iqa", [0x40_0801], "invalidation queue 0x400000, 8 KiB, 256 descriptors of 32 bytes"),
      ("iqt", [0x30], "software writes next at byte 0x30 of the queue"),
      ("iqh", [0x60], "hardware fetches next at byte 0x60 of the queue"),
      (
        "iqercd", [0x0300_0018_0000_0003],
        "error 3: a descriptor of a type that does not exist, no answer from 00:03.0, a wrong answer from 03:00.0"
      ),
      ("iqercd", [0], "no error"),
      ("ics", [1], "a wait descriptor has asked for an interrupt"),
      ("pqa", [0x50_0004], "page request queue 0x500000, 64 KiB"),
      ("prs", [3], "page requests wait, one found the queue full"),
      ("ccmd", [0xa000_0000_0000_0000], "drops context entries: all"),
      ("ccmd", [0xe000_0000_0020_0005], "drops context entries: those of domain 5 for 00:04.0"),
      ("ccmd", [0x4800_0000_0000_0005], "done: all"),
      (
        "iotlb", [0xb000_0005_0000_0000],
        "drops translations: those of domain 5 for the pages of IVA_REG"
      ),
      ("iotlb", [0x3600_0005_0000_0000], "done: those of domain 5 for the pages of IVA_REG"),
      ("iva", [0x1234_5040], "0x12345000..<0x12346000, leaf entries alone have changed"),
      ("iva", [0xffff_ffff_ffff_f000], "0xfffffffffffff000 and above"),
      ("pmen", [0x8000_0000], "protected memory is off, and is to be on"),
      ("ver", [0x40], "version 4.0 of the architecture"),
    ] as [(String, [UInt64], String)])
  func `an entry says what hardware does because of it`(
    name: String, words: [UInt64], meaning: String
  ) throws {
    #expect(try EntryCatalog.Kind(named: name).describe(words).meaning == meaning)
  }

  /// Rows of an interrupt remapping table that Linux wrote, with what the kernel says of them.
  @Test(
    arguments: [
      (0x0000_0000_0022_0009, 0x0004_ff00, 0x22, 0x0, "ff:00.0"),
      (0x0000_0100_0024_0009, 0x0004_ff00, 0x24, 0x100, "ff:00.0"),
      (0x0000_0100_0021_0009, 0x0004_0028, 0x21, 0x100, "00:05.0"),
      (0x0000_0000_0021_0009, 0x0004_0038, 0x21, 0x0, "00:07.0"),
      (0x0000_0000_0024_0009, 0x0004_00fa, 0x24, 0x0, "00:1f.2"),
      (0x0000_0100_0023_0009, 0x0004_0030, 0x23, 0x100, "00:06.0"),
      (0x0000_0000_0024_0009, 0x0004_0048, 0x24, 0x0, "00:09.0"),
    ] as [(UInt64, UInt64, UInt64, UInt64, String)])
  func `an entry of Linux says vector, destination and who may send it`(
    low: UInt64, high: UInt64, vector: UInt64, destination: UInt64, source: String
  ) throws {
    let kind = try EntryCatalog.Kind(named: "irte")
    let entry = try kind.describe([low, high])
    func value(_ name: String) -> UInt64? { entry.fields.first { $0.name == name }?.value }
    #expect(value("V") == vector)
    #expect(value("DST") == destination)
    #expect(value("DLM") == 0)
    #expect(value("RH") == 1)
    #expect(entry.isWellFormed)
    #expect(entry.meaning.hasSuffix("fixed, edge, physical, redirection hint, from \(source)"))
    // The table's register has EIME clear: bits 47:40 are an APIC id.
    var circumstances = EntryCatalog.Circumstances()
    circumstances.vtd.usesExtendedMode = false
    let known = try kind.describe([low, high], under: circumstances)
    #expect(
      known.meaning
        == "vector \(hexadecimal(vector)) to APIC id \(destination == 0x100 ? "0x1" : "0x0"), "
        + "fixed, edge, physical, redirection hint, from \(source)")
    #expect(known.fields.contains { $0.name == "DST" && $0.bits == "47:40" })
  }

  @Test func `bits of a wide destination are reserved without EIME`() throws {
    var circumstances = EntryCatalog.Circumstances()
    circumstances.vtd.usesExtendedMode = false
    let entry = try EntryCatalog.Kind(named: "irte")
      .describe([0x0001_0203_00ec_003d, 0x0008_0507], under: circumstances)
    #expect(
      entry.violations == ["reserved bits 39:32 are set: 0x3", "reserved bits 63:48 are set: 0x1"])
  }

  /// Registers without words of their own are their fields.
  @Test(arguments: ["savior-l2", "mtrrdef", "pci-ats", "agp-size", "dmar-scope"])
  func `an entry without words is its fields`(name: String) throws {
    let kind = try EntryCatalog.Kind(named: name)
    let entry = try kind.describe(Array(repeating: 0, count: kind.wordCount))
    #expect(entry.meaning.isEmpty)
    var screen = ""
    entry.write(to: &screen)
    #expect(!screen.hasSuffix("\n\n"))
    #expect(entry.fields.count == kind.type.fieldCount)
  }
}

extension TableEntry {
  /// Fields of an entry whose bits always mean the same.
  fileprivate static var fieldCount: Int { fields(exampleVariants[0]).count }
}
