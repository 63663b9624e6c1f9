import IOMMUFormats
import IOMMUInspection
import IOMMUTestSupport
import IOMMUTranslation
import Testing

@Suite struct FaultLogReaderTests {
  func faults(_ lines: String...) -> [LoggedFault] {
    var reader = FaultLogReader()
    for line in lines { reader.read(line) }
    return reader.faults
  }

  func vtd(
    _ reason: UInt8, _ requester: String, _ iova: UInt64, _ access: Access, pasid: UInt32? = nil
  ) -> FaultRecord {
    FaultRecord(
      source: .vtd(VTd.FaultReason(rawValue: reason)),
      device: Requester(requester).map { PCI.Function($0) },
      pasid: pasid, iova: IOVA(iova), access: access)
  }

  /// One line of every generation of the VT-d driver; reasons in decimal until 5.13.
  @Test(
    arguments: [
      (
        "dmar: DMAR:[DMA Read] Request device [00:02.0] fault addr 1a45aa9000 [fault reason 12] x",
        0x0c, "00:02.0", 0x1a_45aa_9000, Access.read, nil
      ),
      (
        "[ 1.0] DMAR: [DMA Write] Request device [01:00.0] fault addr ffff0000 [fault reason 05] PTE",
        0x05, "01:00.0", 0xffff_0000, .write, nil
      ),
      (
        "DMAR: [DMA Read] Request device [00:02.0] PASID ffffffff fault addr 0 [fault reason 06] PTE",
        0x06, "00:02.0", 0, .read, nil
      ),
      (
        "host kernel: DMAR: [DMA Write NO_PASID] Request device [0x03:0x00.1] fault addr 0xfffc0000 "
          + "[fault reason 0x02] Present bit in context entry is clear",
        0x02, "03:00.1", 0xfffc_0000, .write, nil
      ),
      (
        "> DMAR: [DMA Read NO_PASID] Request device [00:16.7] fault addr 0xdceff000 "
          + "[fault reason 0x71] SM: Present bit",
        0x71, "00:16.7", 0xdcef_f000, .read, nil
      ),
      (
        "DMAR: [DMA Write PASID 0x1a] Request device [e8:01.0] fault addr 0x7f0000001000 "
          + "[fault reason 0x59] SM",
        0x59, "e8:01.0", 0x7f00_0000_1000, .write, 0x1a
      ),
      (
        "DMAR: [DMA Write w/ PASID 5] Request device [e8:01.0] fault addr 1000 [fault reason 71h] SM",
        0x71, "e8:01.0", 0x1000, .write, 5
      ),
    ] as [(String, UInt8, String, UInt64, Access, UInt32?)])
  func `a VT-d fault is read as each kernel prints it`(
    line: String, reason: UInt8, requester: String, iova: UInt64, access: Access, pasid: UInt32?
  ) {
    let found = faults(line)
    #expect(found.map(\.record) == [vtd(reason, requester, iova, access, pasid: pasid)])
  }

  @Test func `kernels of 2008 put the reason on a line of its own`() {
    let found = faults(
      "DMAR:[DMA Write] Request device [00:1d.7] fault addr 7f6d0000 ", "unrelated",
      "DMAR:[fault reason 05] PTE Write access is not set")
    #expect(found.map(\.record) == [vtd(5, "00:1d.7", 0x7f6d_0000, .write)])
    #expect(found.map(\.line) == [1])
  }

  @Test func `the same fault is counted, and its first line kept`() {
    let line =
      "DMAR: [DMA Write NO_PASID] Request device [00:03.0] fault addr 0x1000 [fault reason 0x05] x"
    let found = faults("DMAR: DRHD: handling fault status reg 2", line, "noise", line, line)
    #expect(found.map(\.count) == [3])
    #expect(found.map(\.line) == [2])
  }

  @Test func `an interrupt fault has an index instead of an address`() {
    let found = faults(
      "DMAR: [INTR-REMAP] Request device [f0:1f.0] fault index 0x4 [fault reason 0x22] Present")
    #expect(
      found.map(\.record) == [
        FaultRecord(
          source: .vtdInterrupt(VTd.FaultReason(rawValue: 0x22)),
          device: PCI.Function(Requester("f0:1f.0")!),
          iova: IOVA(4))
      ])
  }

  @Test(arguments: [
    "AMD IOMMU: Event logged [IO_PAGE_FAULT device=01:00.0 domain=0x000d address=0x00000000cff49550 "
      + "flags=0x0070]",
    "AMD-Vi: Event logged [IO_PAGE_FAULT device=0000:01:00.0 domain=0x000d address=0xcff49550 "
      + "flags=0x0070]",
    "[ 40.1] ath10k_pci 0000:01:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000d "
      + "address=0xcff49550 flags=0x0070]",
  ])
  func `an AMD-Vi page fault is read as each kernel prints it`(line: String) {
    #expect(
      faults(line).map(\.record) == [
        FaultRecord(
          source: .amdvi(event: "IO_PAGE_FAULT", flags: [.isPresent, .isWrite, .isPermission]),
          device: PCI.Function(Requester("01:00.0")!), iova: IOVA(0xcff4_9550), access: .write)
      ])
  }

  @Test func `an AMD-Vi event may begin on the next line, and may be no page fault`() {
    let found = faults(
      "kernel: [   13.134460] AMD-Vi: Event logged [",
      "kernel: [   13.137925] INVALID_DEVICE_REQUEST device=00:00.1 address=0x000000fdf8000020 "
        + "flags=0x0a00]")
    #expect(
      found.map(\.record) == [
        FaultRecord(
          source: .amdvi(
            event: "INVALID_DEVICE_REQUEST", flags: AMDViFlags(rawValue: 0xa00)),
          device: PCI.Function(Requester("00:00.1")!), iova: IOVA(0xfd_f800_0020))
      ])
  }

  @Test func `the flags of a page fault say why`() {
    #expect(AMDViFlags(rawValue: 0x20).meaning == "page not present")
    #expect(AMDViFlags(rawValue: 0x70).meaning == "page without this permission")
    #expect(AMDViFlags(rawValue: 0x90).meaning == "reserved bit set in an entry on the way")
    #expect(AMDViFlags(rawValue: 0x08).meaning == "interrupt that is not remapped")
    #expect(AMDViFlags(rawValue: 0x10).meaning == "level or page size that no entry may have")
  }

  @Test func `a Calgary record has a bus and two registers`() {
    let found = faults(
      "Dec  1 20:29:13 minecraft kernel: [83704.799017] Calgary: DMA error on Calgary PHB 0x6, "
        + "0x10010000@CSR 0x04000000@PLSSR")
    #expect(
      found.map(\.record) == [
        FaultRecord(source: .calgary(csr: 0x1001_0000, plssr: 0x0400_0000), bus: 6)
      ])
  }

  @Test(arguments: [
    "", "DMAR: DRHD: handling fault status reg 3", "Request device [", "Request device [zz] fault",
    "DMAR: [DMA Read] Request device [00:02.0] fault addr  [fault reason 06]",
    "DMAR: [DMA Read] Request device [00:02.0] fault addr 1000 [fault reason 999]",
    "AMD-Vi: Event logged []", "AMD-Vi: Event logged [=", "DMA error on Calgary PHB 0x6",
    "DMA error on Calgary PHB 0x6, @CSR @PLSSR",
    "DMA error on Calgary PHB 0xfff, 0x1@CSR 0x1@PLSSR",
    "[fault reason 05]", "\u{fffd}\u{0}Request device [\u{1f4a5}]",
  ])
  func `what is no whole fault is passed over`(line: String) {
    #expect(faults(line).isEmpty)
  }

  @Test(arguments: [
    ("0001:00:03.0", 1 as UInt32), ("10000:e1:00.0", 0x1_0000), ("0000:00:03.0", 0), ("00:03.0", 0),
  ])
  func `the segment is kept`(device: String, segment: UInt32) {
    let vtd = faults(
      "DMAR: [DMA Read NO_PASID] Request device [\(device)] fault addr 0x1000 [fault reason 0x06] x"
    )
    let amdvi = faults(
      "AMD-Vi: Event logged [IO_PAGE_FAULT device=\(device) domain=0x000a address=0x1000 flags=0x0]"
    )
    let newer = faults(
      "nvme \(device): AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000a address=0x1000 flags=0x0]")
    for found in [vtd, amdvi, newer] {
      #expect(found.map { $0.record.device?.segment } == [segment])
    }
  }
}

@Suite struct FaultExplainerTests {
  func explain(_ line: String) throws -> FaultExplanation {
    let small = try SmallMachine()
    var reader = FaultLogReader()
    reader.read(line)
    let explainer = FaultExplainer(small.machine, in: small.memory)
    return explainer.explain(try #require(reader.faults.first))
  }

  func vtd(_ verb: String, _ device: String, _ iova: String, _ reason: String) -> String {
    "DMAR: [DMA \(verb) NO_PASID] Request device [\(device)] fault addr \(iova) "
      + "[fault reason \(reason)] words of the kernel"
  }

  @Test func `a page that was never mapped is named with the entry that should name it`() throws {
    let explanation = try explain(vtd("Write", "00:03.0", "0x14000", "0x05"))
    #expect(explanation.isBorneOut)
    var screen = ""
    explanation.write(to: &screen)
    #expect(
      screen == """
        line 1: 00:03.0 wrote IOVA 0x14000; VT-d fault 0x5: write without write permission, or no \
        mapping
          now         the same: faults 0x5: write without write permission, or no mapping
          stopped by  SS-PTE [0x14] at 0x350a0, raw 0x0000000000000000: not present
          should be   the buffer's page here, with W: 0x…002
          note        4 KiB past the end of 0x12000..<0x13000 -w: a device that runs over its buffer \
        looks like this

        """)
  }

  @Test func `a missing permission is shown set`() throws {
    let explanation = try explain(vtd("Read", "00:03.0", "0x12000", "0x06"))
    #expect(
      explanation.remedy
        == "SS-PTE [0x12] at 0x35090 with R: 0x0000000000052003, if the buffer was mapped for this "
        + "direction")
  }

  @Test func `reserved bits are shown cleared`() throws {
    let explanation = try explain(vtd("Read", "00:03.0", "0x400000", "0x0c"))
    #expect(explanation.remedy == "the same entry without reserved bits: 0x0000000000600083")
  }

  @Test func `tables that allow the request now do not bear the log out`() throws {
    let explanation = try explain(vtd("Read", "00:03.0", "0x10000", "0x06"))
    #expect(!explanation.isBorneOut)
    #expect(explanation.now.hasPrefix("allowed: the tables lead to 0x50000"))
    #expect(explanation.stoppedBy == nil)
  }

  @Test func `another reason than the logged one means that tables have changed`() throws {
    let explanation = try explain(vtd("Read", "00:06.0", "0x10000", "0x06"))
    #expect(!explanation.isBorneOut)
    #expect(explanation.now.hasPrefix("another fault than then"))
    #expect(explanation.remedy?.hasPrefix("a context entry at 0x31300 with P") == true)
  }

  @Test func `a number that only another device has is said to be that`() throws {
    let explanation = try explain(vtd("Read", "03:00.0", "0x10000", "0x06"))
    #expect(explanation.hints.contains("the device's table maps nothing at all"))
    #expect(
      explanation.hints.contains("mapped for 00:03.0 and 00:03.1, but not for this device"))
  }

  @Test func `of a device whose table the dump lacks it is not said that a number is not mapped`()
    throws
  {
    let small = try SmallMachine()
    // The table of 03:00.0, of level 4.
    let explainer = FaultExplainer(
      small.machine, in: LackingMemory(small.memory, without: [0x36000]))
    var reader = FaultLogReader()
    reader.read(vtd("Read", "03:00.0", "0x10000", "0x06"))
    let hints = explainer.explain(try #require(reader.faults.first)).hints
    #expect(hints.contains("mapped for 00:03.0 and 00:03.1; whether for this device is not known"))
    #expect(!hints.contains { $0.contains("but not for this device") })
  }

  @Test func `an interrupt fault is explained by the remapping table`() throws {
    var reader = FaultLogReader()
    for index in ["0x10", "0x11", "0x100"] {
      reader.read(
        "DMAR: [INTR-REMAP] Request device [00:1f.0] fault index \(index) [fault reason 0x22] Present"
      )
    }
    func now(_ machine: Machine, _ memory: some PhysicalMemory) -> [String] {
      let explainer = FaultExplainer(machine, in: memory)
      return reader.faults.map { explainer.explain($0).now }
    }
    let machine = InterruptReportTests.machine()
    let memory = try InterruptReportTests.memory()
    #expect(
      now(machine, memory) == [
        "interrupt entry 0x10: posts vector 0x33 in the descriptor at 0x200040, urgent, from 00:1f.0",
        "interrupt entry 0x11: not present",
        "the table of the Intel VT-d unit at 0xfed90000 has 256 entries",
      ])
    #expect(
      now(machine, LackingMemory(memory, without: [0x10_0000]))[0]
        == "unknown: the interrupt remapping table at 0x100000 is not in this dump")
    #expect(
      now(InterruptReportTests.machine(table: nil), memory)[0]
        == "unknown: no interrupt remapping table is known")
  }

  @Test func `a device of another segment is told with it, and nothing is claimed of it`() throws {
    let explanation = try explain(vtd("Write", "0001:00:03.0", "0x14000", "0x05"))
    #expect(!explanation.isBorneOut)
    #expect(explanation.walk == nil)
    #expect(explanation.attempt.hasPrefix("0001:00:03.0 wrote IOVA 0x14000; VT-d fault 0x5"))
    #expect(
      explanation.now.hasPrefix("unknown: 0001:00:03.0: no unit is known to serve PCI segment 0x1"))
    #expect(explanation.hints.isEmpty)
  }

  @Test func `a Calgary record is explained by the bus's table`() throws {
    let explanation = try explain(
      "Calgary: DMA error on Calgary PHB 0x1, 0x10010000@CSR 0x04000000@PLSSR")
    #expect(explanation.now == "TCE table 0x8000, 64 KiB for bus:01: 2 runs, 12 KiB")
    #expect(explanation.attempt.hasPrefix("DMA of agent 1 below bus 01 was refused"))
  }
}
