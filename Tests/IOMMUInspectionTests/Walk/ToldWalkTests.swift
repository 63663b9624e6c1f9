import FoundationEssentials
import IOMMUFormats
import IOMMUInspection
import IOMMUTestSupport
import IOMMUTranslation
import Testing

@Suite struct ToldWalkTests {
  func told(
    _ requester: String, _ iova: UInt64, _ access: Access = .read, ram: UInt64? = nil
  ) throws -> ToldWalk {
    let small = try SmallMachine()
    var machine = small.machine
    if let ram { machine.ram = [addresses(0..<ram)] }
    return ToldWalk(
      Requester(requester)!, IOVA(iova), access: access, machine: machine, in: small.memory)
  }

  @Test func `every entry on the way to a page is told, with its place and its bits`() throws {
    var screen = ""
    try told("00:03.0", 0x11234, .write).write(to: &screen)
    #expect(
      screen == """
        00:03.0 writes IOVA 0x11234: second-stage table 0x33000, 3 levels, 39-bit IOVAs

        1  root entry [0x0] at 0x30000
           raw      0x0000000000031001 0x0000000000000000
           fields   CTP=0x31000 P=0x1
           meaning  context table 0x31000

        2  context entry [0x18] at 0x31180
           raw      0x0000000000033001 0x0000000000000501
           fields   DID=0x5 AW=0x1 SSPTPTR=0x33000 TT=0x0 FPD=0x0 P=0x1
           meaning  second-stage table 0x33000, 3 levels, domain 5

        3  SS-PDPE [0x0] at 0x33000
           raw      0x0000000000034003
           fields   ADDR=0x34000 A=0x0 PS=0x0 W=0x1 R=0x1
           meaning  table 0x34000, read and write

        4  SS-PDE [0x0] at 0x34000
           raw      0x0000000000035003
           fields   ADDR=0x35000 A=0x0 PS=0x0 W=0x1 R=0x1
           meaning  table 0x35000, read and write

        5  SS-PTE [0x11] at 0x35088
           raw      0x0000000000051003
           fields   ADDR=0x51000 SNP=0x0 D=0x0 A=0x0 IPAT=0x0 EMT=0x0 W=0x1 R=0x1
           meaning  page 0x51000, read and write

        00:03.0 writes 0x51234, 3532 bytes to the end of the page

        """)
  }

  @Test func `a fault has the manual's number and says what stopped the walk`() throws {
    let walk = try told("00:03.0", 0x12000, .read)
    #expect(walk.endText == "faults 0x6: read without read permission, or no mapping")
    #expect(walk.steps.last?.entry.meaning == "page 0x52000, write only")
    #expect(!walk.reachesMemory)
  }

  @Test func `a reserved bit is named in the entry that has it`() throws {
    let walk = try told("00:03.0", 0x40_0000, .write)
    #expect(walk.endText.hasPrefix("faults 0xc: "))
    #expect(walk.steps.last?.entry.violations == ["reserved bits 20:12 are set: 0x1"])
  }

  @Test(arguments: [
    // root entry absent; context entry absent; reserved bits in the context entry
    ("05:00.0", "faults 0x1: ", 1), ("00:06.0", "faults 0x2: ", 2), ("00:05.0", "faults 0xb: ", 2),
  ])
  func `a device without a table ends where the table is looked for`(
    requester: String, text: String, steps: Int
  ) throws {
    let walk = try told(requester, 0x1000)
    #expect(walk.endText.hasPrefix(text))
    #expect(walk.steps.count == steps)
    #expect(walk.route == "blocked before any page table")
  }

  @Test func `a pass-through device reads no page table`() throws {
    let walk = try told("00:04.0", 0x1234)
    #expect(walk.steps.count == 2)
    #expect(walk.endText == "reads 0x1234, 3532 bytes to the end of the page")
  }

  @Test func `a table outside the dump is no fault but a page that is missing`() throws {
    let small = try SmallMachine()
    small.memory.store(0x70_0000_0003 as UInt64, at: PhysicalAddress(0x33008))
    let walk = ToldWalk(
      Requester("00:03.0")!, IOVA(0x4000_0000), access: .read, machine: small.machine,
      in: LackingMemory(small.memory))
    #expect(walk.isUnknown)
    #expect(
      walk.end
        == .notInDump(
          PhysicalAddress(0x70_0000_0000), .vtd(.tableUnreadable, isRecorded: true), .absent))
    #expect(walk.endText.hasPrefix("ends unknown: 0x7000000000 is not in this dump"))
    #expect(walk.endText.contains("faults 0x7: "))
  }

  @Test func `a table outside the machine's RAM is a fault, whatever the dump holds`() throws {
    let small = try SmallMachine()
    small.memory.store(0x70_0000_0003 as UInt64, at: PhysicalAddress(0x33008))
    var machine = small.machine
    machine.ram = [addresses(0..<0x10_0000)]
    let walk = ToldWalk(
      Requester("00:03.0")!, IOVA(0x4000_0000), access: .read, machine: machine, in: small.memory)
    #expect(walk.end == .fault(.vtd(.tableUnreadable, isRecorded: true)))
  }

  @Test func `the interrupt range is no memory`() throws {
    #expect(try told("00:03.0", 0xfee0_1000, .write).end == .interruptMessage)
    #expect(try told("00:03.0", 0xfee0_1000, .read).endText.hasPrefix("faults 0x29: "))
  }

  @Test func `a TCE is told by its index in its page`() throws {
    let walk = try told("01:05.0", 0x10_1008)
    #expect(walk.steps.map(\.titleText) == ["TCE [0x101]"])
    #expect(walk.steps[0].fieldsText == "RPN=0x12346000 W=0x1 R=0x1")
    #expect(walk.endText == "reads 0x12346008, 4088 bytes to the end of the page")
  }

  @Test func `JSON has the steps and the end`() throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    let text = String(decoding: try encoder.encode(try told("00:03.0", 0x12000)), as: UTF8.self)
    #expect(
      text.contains(
        #""fault":{"meaning":"read without read permission, or no mapping","reason":"0x6"}"#))
    #expect(text.contains(#""iova":"0x12000","requester":"00:03.0""#))
    #expect(text.contains(#""address":"0x35090""#))
  }
}
