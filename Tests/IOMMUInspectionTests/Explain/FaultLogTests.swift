import IOMMUFormats
import IOMMUInspection
import IOMMUTestSupport
import IOMMUTranslation
import Testing

/// Reads lines as a log.
func log(_ lines: String...) -> FaultLogReader { log(lines) }

func log(_ lines: [String]) -> FaultLogReader {
  var reader = FaultLogReader()
  for line in lines.flatMap({ $0.split(separator: "\n", omittingEmptySubsequences: false) }) {
    reader.read(line)
  }
  reader.finish()
  return reader
}

@Suite struct FaultLogReaderTests {
  static func vtd(
    _ reason: UInt8?, _ device: String, _ address: UInt64, _ access: Access, pasid: UInt32? = nil
  ) -> FaultRecord {
    FaultRecord(
      source: .vtd(reason.map { VTd.FaultReason(rawValue: $0) }),
      device: try? Notation.device(device), pasid: pasid, address: address, access: access)
  }

  static func interrupt(_ reason: UInt8?, _ device: String, _ index: UInt64) -> FaultRecord {
    FaultRecord(
      source: .vtdInterrupt(reason.map { VTd.FaultReason(rawValue: $0) }),
      device: try? Notation.device(device), address: index, .interruptIndex)
  }

  static func amdvi(
    _ code: UInt8, _ device: String, _ address: UInt64, flags: UInt64?, domain: UInt64 = 0,
    _ kind: FaultRecord.AddressKind = .iova, access: Access? = nil
  ) -> FaultRecord {
    let device = try? Notation.device(device)
    return FaultRecord(
      source: .amdvi(
        AMDVi.Event(
          AMDVi.EventCode(rawValue: code), device: device?.requester ?? Requester(rawValue: 0),
          domain: domain, flags: flags ?? 0, address: address), hasFlags: flags != nil),
      device: device, address: address, kind, access: access)
  }

  /// The same by the event's two quadwords, of a device 03:00.0.
  static func amdvi(
    _ low: UInt64, _ high: UInt64, _ kind: FaultRecord.AddressKind, pasid: UInt32? = nil
  ) -> FaultRecord {
    FaultRecord(
      source: .amdvi(AMDVi.Event(low: low, high: high), hasFlags: true),
      device: PCI.Function(Requester("03:00.0")!), pasid: pasid, address: high, kind)
  }

  /// One line, or more, of every kernel, hypervisor and emulator, with what it says.
  static let forms: [(lines: String, record: FaultRecord)] = [
    // Linux, VT-d: reasons in decimal until 5.13.
    (
      "DMAR:[DMA Write] Request device [00:1d.7] fault addr 7f6d0000 \n"
        + "DMAR:[fault reason 05] PTE Write access is not set",
      vtd(5, "00:1d.7", 0x7f6d_0000, .write)
    ),
    (
      "[  100.000002] dmar: DMAR:[DMA Read] Request device [00:02.0] fault addr 1a45aa9000 \n"
        + "[  100.000002] DMAR:[fault reason 12] non-zero reserved fields in PTE",
      vtd(0x0c, "00:02.0", 0x1a_45aa_9000, .read)
    ),
    (
      "dmar: DMAR:[DMA Read] Request device [00:02.0] fault addr 1a45aa9000 [fault reason 12] x",
      vtd(0x0c, "00:02.0", 0x1a_45aa_9000, .read)
    ),
    (
      "[ 1.0] DMAR: [DMA Write] Request device [01:00.0] fault addr ffff0000 [fault reason 05] PTE",
      vtd(5, "01:00.0", 0xffff_0000, .write)
    ),
    (
      "DMAR: [DMA Read] Request device [00:02.0] PASID ffffffff fault addr 0 [fault reason 06] PTE",
      vtd(6, "00:02.0", 0, .read)
    ),
    (
      "host kernel: DMAR: [DMA Write NO_PASID] Request device [0x03:0x00.1] fault addr 0xfffc0000 "
        + "[fault reason 0x02] Present bit in context entry is clear",
      vtd(2, "03:00.1", 0xfffc_0000, .write)
    ),
    (
      "DMAR: [DMA Write PASID 0x1a] Request device [e8:01.0] fault addr 0x7f0000001000 "
        + "[fault reason 0x59] SM",
      vtd(0x59, "e8:01.0", 0x7f00_0000_1000, .write, pasid: 0x1a)
    ),
    (
      "DMAR: [DMA Write w/ PASID 5] Request device [e8:01.0] fault addr 1000 [fault reason 71h] SM",
      vtd(0x71, "e8:01.0", 0x1000, .write, pasid: 5)
    ),
    (
      "INTR-REMAP: Request device [[f0:1f.7] fault index 22\n"
        + "INTR-REMAP:[fault reason 34] Present field in the IRTE entry is clear",
      interrupt(0x22, "f0:1f.7", 0x22)
    ),
    (
      "DMAR: [INTR-REMAP] Request device [f0:1f.0] fault index 0x4 [fault reason 0x22] Present",
      interrupt(0x22, "f0:1f.0", 4)
    ),
    (
      "DMAR: VT-d detected Invalidation Time-out Error: SID 5300",
      FaultRecord(source: .vtdQueue(.timeout), device: PCI.Function(Requester("53:00.0")!))
    ),
    (
      "DMAR: VT-d detected Invalidation Queue Error: Reason 3",
      FaultRecord(source: .vtdQueue(.error(3)))
    ),
    (
      "DMAR: VT-d detected Invalidation Completion Error: SID 0",
      FaultRecord(source: .vtdQueue(.completion))
    ),
    // Xen, VT-d: reasons in hexadecimal, without 0x.
    (
      "(XEN) [VT-D]DMAR:[DMA Write] Request device [0000:00:03.0] fault addr 1000\n"
        + "(XEN) [VT-D]DMAR: reason 05 - PTE Write access is not set",
      vtd(5, "00:03.0", 0x1000, .write)
    ),
    (
      "(XEN) [VT-D]DMAR:[DMA Read] Request device [0001:00:1e.6] fault addr 0, iommu reg = "
        + "ffff82c000203000\n(XEN) [VT-D]DMAR: reason 0c - non-zero reserved fields in PTE",
      vtd(0x0c, "0001:00:1e.6", 0, .read)
    ),
    (
      "(XEN) [VT-D]INTR-REMAP: Request device [0000:00:1f.0] fault index 0\n"
        + "(XEN) [VT-D]INTR-REMAP: reason 25 - Blocked a compatibility format interrupt request",
      interrupt(0x25, "00:1f.0", 0)
    ),
    // FreeBSD, VT-d: 1 is a read.
    (
      "DMAR0: ahci0: pci0:31:2 sid fa fault acc 1 adt 0x0 reason 0x6 addr 7f6d0000",
      vtd(6, "00:1f.2", 0x7f6d_0000, .read)
    ),
    (
      "DMAR1: <unknown dev>:pci0:3:0 sid 18 fault acc 0 adt 0x0 reason 0x2 addr 1000",
      vtd(2, "00:03.0", 0x1000, .write)
    ),
    (
      "DMAR1: <unknown dev>:pci240:31:0 sid f0f8 fault acc 0 adt 0x0 reason 0x22 addr 4000000000000",
      interrupt(0x22, "f0:1f.0", 4)
    ),
    ("DMAR0: Invalidation timed out", FaultRecord(source: .vtdQueue(.timeout))),
    // QEMU.
    (
      "236498@1676271757.075075:vtd_dmar_fault sid 0x18 fault 5 addr 0x1000 write 1\n"
        + "2023-01-01T00:00:00.075174Z qemu-system-x86_64: vtd_iommu_translate: detected translation "
        + "failure (dev=00:03:00, iova=0x1000)",
      vtd(5, "00:03.0", 0x1000, .write)
    ),
    (
      "qemu-system-x86_64: vtd_iova_to_slpte: detected slpte permission error (iova=0x7ffde010, "
        + "level=0x3, slpte=0x0, write=0)\n"
        + "qemu-system-x86_64: vtd_iommu_translate: detected translation failure (dev=01:00:00, "
        + "iova=0x7ffde000)",
      vtd(nil, "01:00.0", 0x7ffd_e010, .read)
    ),
    // Linux, AMD-Vi: the device inside the bracket, or before it.
    (
      "AMD IOMMU: Event logged [IO_PAGE_FAULT device=01:00.0 domain=0x000d "
        + "address=0x00000000cff49550 flags=0x0070]",
      amdvi(2, "01:00.0", 0xcff4_9550, flags: 0x70, domain: 0xd, access: .write)
    ),
    (
      "AMD-Vi: Event logged [IO_PAGE_FAULT device=0000:01:00.0 domain=0x000d address=0xcff49550 "
        + "flags=0x0050]",
      amdvi(2, "01:00.0", 0xcff4_9550, flags: 0x50, domain: 0xd, access: .read)
    ),
    (
      "[ 40.1] ath10k_pci 0001:01:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000d "
        + "address=0xcff49550 flags=0x0020]",
      amdvi(2, "0001:01:00.0", 0xcff4_9550, flags: 0x20, domain: 0xd, access: .write)
    ),
    (
      "AMD-Vi: Event logged [IO_PAGE_FAULT device=08:00.0 domain=0x002c address=0xfffffffdf8000000 "
        + "flags=0x0008]",
      amdvi(
        2, "08:00.0", 0xffff_fffd_f800_0000, flags: 8, domain: 0x2c, .interrupt)
    ),
    (
      "kernel: [   13.134460] AMD-Vi: Event logged [\n"
        + "kernel: [   13.137925] INVALID_DEVICE_REQUEST device=00:00.1 address=0x000000fdf8000020 "
        + "flags=0x0a00]",
      amdvi(8, "00:00.1", 0xfd_f800_0020, flags: 0xa00)
    ),
    (
      "AMD-Vi: Event logged [DEV_TAB_HARDWARE_ERROR device=03:00.0 address=0x106000 flags=0x0400]",
      amdvi(3, "03:00.0", 0x10_6000, flags: 0x400, .physical)
    ),
    (
      "AMD-Vi: Event logged [PAGE_TAB_HARDWARE_ERROR device=03:00.0 pasid=0x0005 "
        + "address=0xc0000488 flags=0x0420]",
      amdvi(4, "03:00.0", 0xc000_0488, flags: 0x420, domain: 5, .physical)
    ),
    (
      "AMD-Vi: Event logged [ILLEGAL_COMMAND_ERROR address=0x140060]",
      amdvi(5, "", 0x14_0060, flags: nil, .physical)
    ),
    (
      "AMD-Vi: Event logged [COMMAND_HARDWARE_ERROR address=0x140070 flags=0x0600]",
      amdvi(6, "", 0x14_0070, flags: 0x600, .physical)
    ),
    (
      "iommu ivhd0: AMD-Vi: Event logged [IOTLB_INV_TIMEOUT device=0000:2f:00.0 "
        + "address=0x82a6d3f10]",
      amdvi(7, "2f:00.0", 0x8_2a6d_3f10, flags: nil, .physical)
    ),
    (
      "AMD-Vi: Event logged [RMP_PAGE_FAULT device=0000:03:00.0, vmg_tag=0x0001, gpa=0x1000, "
        + "flags_rmp=0x0002, flags=0x0020]",
      amdvi(0xd020_0001_0002_0300, 0x1000, .guestPhysical)
    ),
    (
      "nvme 0000:03:00.0: AMD-Vi: Event logged [RMP_HW_ERROR vmg_tag=0x0001, spa=0x1000, "
        + "flags=0x0020]",
      amdvi(0xe020_0001_0000_0300, 0x1000, .physical)
    ),
    (
      "iommu ivhd0: AMD-Vi: Event logged [INVALID_PPR_REQUEST device=0000:03:00.0 pasid=0x10005 "
        + "address=0x7f0000001000 flags=0x0025 tag=0x123]",
      amdvi(0x9025_0523_0005_0300, 0x7f00_0000_1000, .guestVirtual, pasid: 0x1_0005)
    ),
    (
      "iommu ivhd0: AMD-Vi: PPR logged [Invalid request format (device=0000:03:00.0 pasid=0x12345 "
        + "address=0x7f0012345000 flags=0x01e4 tag=0x323]",
      FaultRecord(
        source: .amdviPageRequest(
          AMDVi.PageRequestEntry(low: 0x11e4_0723_2345_0300, high: 0x7f00_1234_5000)),
        device: PCI.Function(Requester("03:00.0")!), pasid: 0x1_2345, address: 0x7f00_1234_5000,
        .guestVirtual)
    ),
    (
      "AMD-Vi: Event logged [UNKNOWN event[0] = 0x00000300, event[1] = 0x20200005, event[2] = "
        + "0x12345678, event[3] = 0x00000000]",
      amdvi(2, "03:00.0", 0x1234_5678, flags: 0x20, domain: 5, access: .write)
    ),
    // A counter, and a code that nobody knows: whatever stands where others have a device is none.
    (
      "AMD-Vi: Event logged [UNKNOWN event[0] = 0x00000300, event[1] = 0xa0000000, event[2] = "
        + "0x00045678, event[3] = 0x89abcdef]",
      FaultRecord(
        source: .amdvi(
          AMDVi.Event(low: 0xa000_0000_0000_0300, high: 0x89ab_cdef_0004_5678), hasFlags: true))
    ),
    (
      "AMD-Vi: Event logged [UNKNOWN event[0] = 0x00000300, event[1] = 0xb0000000, event[2] = "
        + "0x00001000, event[3] = 0x00000000]",
      FaultRecord(
        source: .amdvi(AMDVi.Event(low: 0xb000_0000_0000_0300, high: 0x1000), hasFlags: true))
    ),
    // Xen, AMD-Vi.
    (
      "(XEN) AMD-Vi: IO_PAGE_FAULT: 0000:02:00.0 d7 addr 00000000fea00000 flags 0x20 RW",
      amdvi(2, "02:00.0", 0xfea0_0000, flags: 0x20, domain: 7, access: .write)
    ),
    (
      "(XEN) AMD-Vi: IO_PAGE_FAULT: 0000:00:13.1 d0 addr 00000000000eb340 flags 0",
      amdvi(2, "00:13.1", 0xe_b340, flags: 0, access: .read)
    ),
    (
      "(XEN) AMD-Vi: IO_PAGE_FAULT: domain = 0, device id = 0x2600, fault address = "
        + "0xfffffffdf8000000, flags = 0x8",
      amdvi(2, "26:00.0", 0xffff_fffd_f800_0000, flags: 8, .interrupt)
    ),
    (
      "(XEN) AMD-Vi: ILLEGAL_COMMAND_ERROR: 00000000 50000000 00140060 00000000",
      amdvi(5, "", 0x14_0060, flags: 0, .physical)
    ),
    // Linux, SMMUv3.
    (
      """
      arm-smmu-v3 9050000.smmuv3: event 0x10 received:
      arm-smmu-v3 9050000.smmuv3: \t0x0000004000000010
      arm-smmu-v3 9050000.smmuv3: \t0x0000000800000000
      arm-smmu-v3 9050000.smmuv3: \t0x000055aa00000010
      arm-smmu-v3 9050000.smmuv3: \t0x0000000000000000
      """,
      FaultRecord(
        source: .smmuv3(
          SMMUv3.EventRecord(
            words: (0x40_0000_0010, 0x8_0000_0000, 0x55aa_0000_0010, 0))),
        address: 0x55aa_0000_0010, access: .read)
    ),
    (
      """
      arm-smmu-v3 9050000.smmuv3: event 0x10 received:
      arm-smmu-v3 9050000.smmuv3: \t0x0000004000000010
      arm-smmu-v3 9050000.smmuv3: \t0x0000020000000000
      arm-smmu-v3 9050000.smmuv3: \t0x000066bb12345678
      arm-smmu-v3 9050000.smmuv3: \t0x0000000000000000
      arm-smmu-v3 9050000.smmuv3: event: F_TRANSLATION client: 0000:00:08.0 sid: 0x40 ssid: 0x0 \
      iova: 0x66bb12345678 ipa: 0x0
      arm-smmu-v3 9050000.smmuv3: unpriv data write s1 "Input address caused fault" stag: 0x0
      """,
      FaultRecord(
        source: .smmuv3(
          SMMUv3.EventRecord(words: (0x40_0000_0010, 0x200_0000_0000, 0x66bb_1234_5678, 0))),
        device: PCI.Function(Requester("00:08.0")!), address: 0x66bb_1234_5678, access: .write)
    ),
    (
      "arm-smmu-v3 9050000.smmuv3: event: C_BAD_STREAMID client: (unassigned sid) sid: 0x400 "
        + "ssid: 0x0",
      FaultRecord(
        source: .smmuv3(SMMUv3.EventRecord(SMMUv3.EventNumber(rawValue: 2), stream: 0x400)))
    ),
    // Calgary.
    (
      "Dec  1 20:29:13 host kernel: [83704.799017] Calgary: DMA error on Calgary PHB 0x6, "
        + "0x10010000@CSR 0x04000000@PLSSR",
      FaultRecord(source: .calgary(csr: 0x1001_0000, plssr: 0x0400_0000), bus: 6)
    ),
  ]

  @Test(arguments: forms.indices)
  func `a fault is read as each kernel prints it`(index: Int) {
    let (lines, record) = Self.forms[index]
    let reader = log(lines)
    #expect(reader.faults.map(\.record) == [record])
    #expect(reader.unread.isEmpty)
  }

  @Test(arguments: forms.indices)
  func `what mail does to lines makes no difference`(index: Int) {
    let (lines, record) = Self.forms[index]
    // Each line quoted, and broken at a blank at 72 columns at the latest.
    var quoted: [String] = []
    for line in lines.split(separator: "\n") {
      var rest = "> " + line
      while rest.count > 72, let blank = rest.prefix(72).lastIndex(of: " "),
        blank > rest.index(rest.startIndex, offsetBy: 8)
      {
        quoted.append(String(rest[..<blank]))
        rest = String(rest[rest.index(after: blank)...])
      }
      quoted.append(rest)
    }
    let reader = log(quoted)
    #expect(reader.faults.map(\.record) == [record], "\(quoted)")
    #expect(reader.unread.isEmpty)
  }

  @Test(arguments: forms.indices)
  func `quoted-printable, carriage returns and colours make no difference`(index: Int) {
    let (lines, record) = Self.forms[index]
    var encoded: [String] = []
    for line in lines.split(separator: "\n") {
      var rest = line.split(separator: "=", omittingEmptySubsequences: false)
        .joined(separator: "=3D")[...]
      // A soft break after 75 characters, within words too, and never within a sign.
      while rest.count > 75 {
        var cut = rest.index(rest.startIndex, offsetBy: 75)
        while rest[..<cut].suffix(2).contains("=") { cut = rest.index(before: cut) }
        encoded.append(rest[..<cut] + "=\r")
        rest = rest[cut...]
      }
      encoded.append(rest + "\r")
    }
    #expect(log(encoded).faults.map(\.record) == [record], "\(encoded)")
    let colored = lines.split(separator: "\n").map { "\u{1b}[32m\($0)\u{1b}[0m\r" }
    #expect(log(colored).faults.map(\.record) == [record])
  }

  @Test func `every form that is listed for people is read`() {
    #expect(LogReaders.examples.count >= 30)
    for (unit, example) in LogReaders.examples {
      let reader = log(example.text)
      #expect(reader.faults.count == 1, "\(unit), \(example.writer): \(example.text)")
      #expect(reader.unread.isEmpty, "\(example.text)")
    }
  }

  @Test func `lines of others may stand between a fault and its reason`() {
    let reader = log(
      "DMAR:[DMA Write] Request device [00:1d.7] fault addr 7f6d0000 ", "unrelated",
      "DMAR:[fault reason 05] PTE Write access is not set")
    #expect(reader.faults.map(\.record) == [Self.vtd(5, "00:1d.7", 0x7f6d_0000, .write)])
    #expect(reader.faults.map(\.line) == [1])
  }

  @Test func `a fault never has the reason of another`() {
    let reader = log(
      "DMAR: [DMA Write NO_PASID] Request device [00:03.0] fault addr 0x1000 [fault",
      "reason 0x05] PTE Write access is not set",
      "DMAR: [DMA Read NO_PASID] Request device",
      "[00:08.0] fault addr 0x9d000000 [fault reason 0x06] PTE Read access is not set",
      "DMAR: [DMA Read NO_PASID] Request device [00:08.0] fault addr 0x9e000000",
      "DMAR: [DMA Write NO_PASID] Request device [00:03.0] fault addr 0x2000 [fault reason 0x02] x")
    #expect(
      reader.faults.map(\.record) == [
        Self.vtd(5, "00:03.0", 0x1000, .write), Self.vtd(6, "00:08.0", 0x9d00_0000, .read),
        Self.vtd(nil, "00:08.0", 0x9e00_0000, .read), Self.vtd(2, "00:03.0", 0x2000, .write),
      ])
    #expect(reader.faults.map(\.line) == [1, 3, 5, 6])
    #expect(reader.unread.isEmpty)
  }

  @Test func `a reason behind messages that were left out is nobody's`() {
    let reader = log(
      "(XEN) [VT-D]DMAR:[DMA Write] Request device [0000:00:03.0] fault addr 1000",
      "(XEN) printk: 26235 messages suppressed.", "(XEN) [VT-D]DMAR: reason 02 - Present bit")
    #expect(reader.faults.map(\.record) == [Self.vtd(nil, "00:03.0", 0x1000, .write)])
    #expect(reader.unread.map(\.line) == [3])
    #expect(reader.suppressedCount == 26235)
  }

  @Test func `a fault without its reason is one, at the end of the log too`() {
    let noise = log(
      "dmar: DRHD: handling fault status reg 2",
      "dmar: DMAR:[DMA Write] Request device [00:03.0] fault addr 1000 ",
      "usb 1-1: new high-speed USB device number 2", "a", "b", "c", "d", "e")
    #expect(noise.faults.map(\.record) == [Self.vtd(nil, "00:03.0", 0x1000, .write)])
    let end = log("DMAR:[DMA Write] Request device [00:03.0] fault addr 1000")
    #expect(end.faults.map(\.record) == [Self.vtd(nil, "00:03.0", 0x1000, .write)])
  }

  @Test func `a status that no fault follows is told, and one that a fault follows is not`() {
    let line =
      "DMAR: [DMA Write NO_PASID] Request device [00:03.0] fault addr 0x1000 [fault reason 0x05] x"
    let status = FaultRecord(source: .vtdStatus(VTd.FaultStatus(rawValue: 0x40)))
    #expect(
      log("DMAR: DRHD: handling fault status reg 2", line).faults.map(\.record)
        == [Self.vtd(5, "00:03.0", 0x1000, .write)])
    let alone = log(
      "DMAR: DRHD: handling fault status reg 40", "DMAR: DRHD: handling fault status reg 40")
    #expect(alone.faults.map(\.record) == [status])
    #expect(alone.faults.map(\.count) == [2])
  }

  @Test func `Xen tells a status one bit a line, and the fault behind them is what counts`() {
    let reader = log(
      "(XEN) [VT-D]iommu.c:917: iommu_fault_status: Fault Overflow",
      "(XEN) [VT-D]iommu.c:919: iommu_fault_status: Primary Pending Fault",
      "(XEN) [VT-D]iommu.c:799: DMAR:[DMA Write] Request device [00:02.0] fault addr 9d000000, iommu "
        + "reg = fff82c3fff57000", "(XEN) DMAR:[fault reason 05h] PTE Write access is not set")
    #expect(reader.faults.map(\.record) == [Self.vtd(5, "00:02.0", 0x9d00_0000, .write)])
    #expect(reader.unread.isEmpty)
    let alone = log("(XEN) [VT-D]iommu.c:919: iommu_fault_status: Primary Pending Fault")
    #expect(
      alone.faults.map(\.record) == [FaultRecord(source: .vtdStatus(VTd.FaultStatus(rawValue: 2)))])
  }

  @Test func `a line like the one before is the same fault, and a reason like it is not`() {
    let line =
      "DMAR: [DMA Write NO_PASID] Request device [00:03.0] fault addr 0x1000 [fault reason 0x05] x"
    let same = log("[  1.000001] \(line)", "[  1.000002] \(line)", "noise", "[  1.000003] \(line)")
    #expect(same.faults.map(\.count) == [3])
    let reason = "DMAR:[fault reason 05] PTE Write access is not set"
    let split = log("DMAR:[DMA Write] Request device [00:1d.7] fault addr 7f6d0000", reason, reason)
    #expect(split.faults.map(\.count) == [1])
    #expect(split.unread.map(\.line) == [3])
    // The device stands before the words.
    let event = "AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000d address=0xcff49550 flags=0x0020]"
    #expect(
      log("nvme 0000:01:00.0: \(event)", "nvme 0000:02:00.0: \(event)").faults.map(\.record.device)
        == [PCI.Function(Requester("01:00.0")!), PCI.Function(Requester("02:00.0")!)])
  }

  @Test func `marks of web pages and indented rests make no difference`() {
    let reader = log(
      "&gt; &gt; DMAR: [DMA Write NO_PASID] Request device [00:03.0] fault",
      "&gt; &gt; addr 0x1000 [fault reason 0x05] PTE Write access is not set",
      "  DMAR: [DMA Read NO_PASID] Request device [00:08.0] fault",
      "      addr 0x2000 [fault reason",
      "      0x06] PTE Read access is not set")
    #expect(
      reader.faults.map(\.record) == [
        Self.vtd(5, "00:03.0", 0x1000, .write), Self.vtd(6, "00:08.0", 0x2000, .read),
      ])
  }

  @Test func `the same fault is counted, and its first line kept`() {
    let line =
      "DMAR: [DMA Write NO_PASID] Request device [00:03.0] fault addr 0x1000 [fault reason 0x05] x"
    let reader = log(
      "DMAR: DRHD: handling fault status reg 2", line, "noise", line, line,
      "kernel: message repeated 3 times: [ \(line)]", "kernel: last message repeated 5 times")
    #expect(reader.faults.map(\.count) == [11])
    #expect(reader.faults.map(\.line) == [2])
  }

  @Test func `several faults in one line are several`() {
    let line =
      "DMAR: [DMA Write NO_PASID] Request device [00:03.0] fault addr 0x1000 [fault reason 0x05] x "
    let other =
      "DMAR: [DMA Read NO_PASID] Request device [00:08.0] fault addr 0x2000 [fault reason 0x06] x "
    let far = log(line + String(repeating: "y ", count: 40_000) + other)
    for reader in [log(line + other), far] {
      #expect(
        reader.faults.map(\.record) == [
          Self.vtd(5, "00:03.0", 0x1000, .write), Self.vtd(6, "00:08.0", 0x2000, .read),
        ])
      #expect(reader.faults.map(\.line) == [1, 1])
    }
  }

  @Test(arguments: [
    ("[fault reason 05] PTE Write access is not set", "Intel VT-d"),
    ("Request device [", "Intel VT-d"),
    ("DMAR: [DMA Read] Request device [zz] fault addr 1000", "Intel VT-d"),
    ("DMAR: [DMA Read] Request device [00:02.0] fault addr  [fault reason 06]", "Intel VT-d"),
    ("DMAR: [DMA Read] Request device [00:02.0] fault addr 1 [fault reason 999]", "Intel VT-d"),
    ("DMAR: [DMA Read PASID 0xfffffff] Request device [00:02.0] fault addr 1 [", "Intel VT-d"),
    ("AMD-Vi: Event logged [", "AMD-Vi"), ("AMD-Vi: Event logged [NEW_THING x=1]", "AMD-Vi"),
    ("AMD-Vi: Event logged [IO_PAGE_FAULT device=00:01.0 domain=0x1", "AMD-Vi"),
    ("AMD-Vi: Completion-Wait loop timed out", "AMD-Vi"),
    ("DMA error on Calgary PHB 0x6", "IBM Calgary"),
    ("DMA error on Calgary PHB 0x6, @CSR @PLSSR", "IBM Calgary"),
    ("DMA error on Calgary PHB 0xfff, 0x1@CSR 0x1@PLSSR", "IBM Calgary"),
    ("arm-smmu-v3 arm-smmu-v3.0.auto: event 0x10 received:", "Arm SMMUv3"),
    ("arm-smmu-v3 arm-smmu-v3.0.auto: EVTQ overflow detected -- events lost", "Arm SMMUv3"),
    (
      "arm-smmu 5000000.iommu: Unhandled context fault: fsr=0x402, iova=0xffffffb000, fsynr=0x0, "
        + "cbfrsynra=0xc01, cb=3", "Arm SMMU"
    ),
    ("(XEN) smmu: /iommu@51400000: Unhandled context fault: fsr=0x408, iova=0x86000a60", "SMMU"),
    (
      "apple-dart 231304000.iommu: translation fault: status:0x80000004 stream:1 code:0x1 (no TTBR) "
        + "at 0x1000", "Apple DART"
    ),
    (
      "riscv-iommu 3010000.iommu: Fault 13 devid: 0x8 iotval: 1000 iotval2: 0", "RISC-V IOMMU"
    ),
    ("DMAR: IOMMU: dmar1: Page request without PASID", "Intel VT-d"),
    ("virtio_iommu virtio0: page fault from EP 8 at 0x1000 [RW]", "virtio IOMMU"),
    ("AMD-Vi: IOMMU Event log restarting", "AMD-Vi"),
    ("12@1.000001:amdvi_page_fault error: page fault accessing 0x1000", "QEMU's AMD-Vi unit"),
    ("12@1.000001:smmuv3_record_event F_TRANSLATION sid=0x8", "QEMU's SMMUv3 unit"),
    ("DMAR: Dump dmar2 table entries for IOVA 0x1111be000", "Intel VT-d"),
  ])
  func `a fault that is not understood is named with its line`(line: String, unit: String) {
    let reader = log("noise", line, "x", "y")
    #expect(reader.faults.isEmpty)
    #expect(reader.unread.map(\.line) == [2])
    #expect(reader.unread.map(\.unit) == [unit])
  }

  @Test(arguments: [
    "", "iommu: Default domain type: Translated",
    "iommu: DMA domain TLB invalidation policy: lazy mode",
    "DMAR: DRHD base: 0x000000fed90000 flags: 0x0", "DMAR: RMRR base: 0x0000007b000000 end: 0x7f",
    "DMAR-IR: Enabled IRQ remapping in x2apic mode", "AMD-Vi: Interrupt remapping enabled",
    "pci 0000:00:00.2: AMD-Vi: IOMMU performance counters supported", "segfault at 0 ip 0",
    "Command line: intel_iommu=on default_hugepagesz=1G", "x86/fpu: general protection fault",
    "DMA32    [mem 0x0000000001000000-0x00000000ffffffff]", "arm-smmu-v3: probing hardware",
    "event 0x1 of something else", "traps: dart[1234] general protection fault ip:1",
    "DMAR0: <Intel DMAR> on acpi0", "iommu: report_iommu_fault+0x10", "RIP: iommu_page_fault+0x1",
    "amd_iommu: no page_fault_handler",
    "net_ratelimit: 9 callbacks suppressed",
    "DMAR: Intel(R) Virtualization Technology for Directed I/O", "\u{fffd}\u{0}[\u{1f4a5}]",
  ])
  func `what is no fault is passed over`(line: String) {
    let reader = log(line, line)
    #expect(reader.faults.isEmpty)
    #expect(reader.unread.isEmpty)
  }

  @Test func `the time before a message is the log's own`() {
    let line =
      "DMAR: [DMA Write NO_PASID] Request device [00:03.0] fault addr 0x1000 [fault reason 0x05]"
    #expect(
      log("[  301.000002] \(line)").faults.first?.time
        == LogTime(.kernel, microseconds: 301_000_002))
    #expect(
      log("236498@1676271757.075075:vtd_dmar_fault sid 0x18 fault 5 addr 0x1000 write 1").faults
        .first?
        .time == LogTime(.epoch, microseconds: 1_676_271_757_075_075))
    #expect(log("Jan 1 00:00:01 host kernel: \(line)").faults.first?.time == nil)
  }

  /// A log of any length and form: nothing traps, and what is kept is bounded.
  @Test func `more faults than anybody reads are counted`() {
    var reader = FaultLogReader()
    for number in 0..<(FaultLogReader.limit + 25) {
      reader.read(
        "DMAR: [DMA Read NO_PASID] Request device [00:02.0] fault addr \(hexadecimal(UInt64(number)))"
          + " [fault reason 0x06] x")
    }
    reader.finish()
    #expect(reader.faults.count == FaultLogReader.limit)
    #expect(reader.omittedCount == 25)
  }

  @Test func `no line traps, whatever it is made of`() {
    var generator = SeededGenerator(seed: 11)
    let pieces =
      LogReaders.examples.map(\.example.text) + Self.forms.map(\.lines)
      + [
        "=", "=3D", "\u{0}", "[", "]", "@", "0x", "1.000001", "\u{1b}[",
        "message repeated 99999999999 times",
      ]
    var reader = FaultLogReader()
    for _ in 0..<4_000 {
      var line: [UInt8] = []
      for _ in 0..<(generator.next() % 4) {
        let piece = Array(pieces[Int(generator.next() % UInt64(pieces.count))].utf8)
        let start = Int(generator.next() % UInt64(piece.count + 1))
        let end = start + Int(generator.next() % UInt64(piece.count - start + 1))
        line += piece[start..<end].map {
          generator.next() % 64 == 0 ? UInt8(generator.next() & 0xff) : $0
        }
      }
      reader.read(utf8: line)
    }
    reader.finish()
    for fault in reader.faults {
      var screen = ""
      FaultExplanation(fault).write(to: &screen)
      #expect(!screen.isEmpty)
    }
  }
}

@Suite struct FaultExplainerTests {
  func explain(_ line: String) throws -> FaultExplanation {
    let small = try SmallMachine()
    let explainer = FaultExplainer(small.machine, in: small.memory)
    return explainer.explain(try #require(log(line).faults.first))
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
        line 1: 00:03.0 wrote IOVA 0x14000
          means       VT-d fault 0x5: write without write permission, or no mapping
          now         the same: faults 0x5: write without write permission, or no
                      mapping
          stopped by  SS-PTE [0x14] at 0x350a0, raw 0x0000000000000000: not present
          should be   the buffer's page here, with W: 0x…002
          note        4 KiB past the end of 0x12000..<0x13000 -w: a device that runs
                      over its buffer looks like this

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

  @Test func `a number that the device has is never said to be none of its own`() throws {
    for device in ["00:03.0", "00:03.1"] {
      let explanation = try explain(vtd("Read", device, "0x10000", "0x06"))
      #expect(explanation.now!.hasPrefix("allowed"))
      #expect(
        explanation.hints.contains { $0.hasPrefix("mapped rw in") || $0.hasPrefix("mapped ") })
      #expect(!explanation.hints.contains { $0.contains("but not for this device") })
    }
  }

  @Test func `entries that a kernel printed are walked as a dump's`() throws {
    // Intel VT-d 9.1, 9.3, 9.8: a context table, 4 levels, a page table entry of zero.
    let lines = [
      "DMAR: [DMA Read NO_PASID] Request device [00:0d.0] fault addr 0xfffe1000 [fault reason 0x06] x",
      "DMAR: Dump dmar2 table entries for IOVA 0xfffe1000",
      "DMAR: root entry: 0x0000000105a66001",
      "DMAR: context entry: hi 0x0000000000000502, low 0x0000000105a6a001",
      "DMAR: pte level: 4, pte value: 0x0000000105a8c003",
      "DMAR: pte level: 3, pte value: 0x0000000105a8d003",
      "DMAR: pte level: 2, pte value: 0x0000000105a8e003",
      "DMAR: pte level: 1, pte value: 0x0000000000000000",
    ]
    func logged(_ lines: [String]) throws -> FaultExplanation {
      FaultExplanation(try #require(log(lines).faults.first))
    }
    let whole = try logged(lines)
    let steps = try #require(whole.loggedWalk).steps
    #expect(
      steps.map { "\($0.titleText): \($0.entry.meaning)" } == [
        "root entry [0x0]: context table 0x105a66000",
        "context entry [0x68]: second-stage table 0x105a6a000, 4 levels, domain 5",
        "SS-PML4E [0x0]: table 0x105a8c000, read and write",
        "SS-PDPE [0x3]: table 0x105a8d000, read and write",
        "SS-PDE [0x1ff]: table 0x105a8e000, read and write", "SS-PTE [0x1e1]: not present",
      ])
    #expect(whole.loggedWalk?.end == "faults 0x6: read without read permission, or no mapping")
    #expect(whole.comparison == ["the fault that was logged"])
    // A line that is missing is not bridged; an end that is missing is none.
    let torn = try logged(lines.filter { !$0.contains("level: 3") })
    #expect(torn.loggedWalk?.end == "unknown: entries between these are not in the log")
    #expect(torn.loggedWalk?.steps.count == 3)
    let cut = try logged(Array(lines.dropLast(2)))
    #expect(cut.loggedWalk?.end == "unknown: the next entry is not in the log")
    #expect(cut.comparison == [])
    // Entries of another number are of another fault.
    let other = log(lines.map { $0 == lines[1] ? $0.dropLast(4) + "5000" : $0 })
    #expect(other.faults.map(\.tables.isEmpty) == [true])
    #expect(other.unread.map(\.line) == [2])
  }

  @Test func `entries that Xen printed are walked too`() throws {
    let reader = log(
      "(XEN) [VT-D]DMAR:[DMA Read] Request device [0000:00:02.0] fault addr ea0c4f000, iommu reg = ffff",
      "(XEN) [VT-D]DMAR: reason 06 - PTE Read access is not set",
      "(XEN) print_vtd_entries: iommu #0 dev 0000:00:02.0 gmfn ea0c4f",
      "(XEN)     root_entry[00] = 46e129001", "(XEN)     context[10] = 2_46e128001",
      "(XEN)     l4[000] = 46e11b003", "(XEN)     l3[03a] = 0", "(XEN)     l3[03a] not present")
    let explanation = FaultExplanation(try #require(reader.faults.first))
    let walk = try #require(explanation.loggedWalk)
    #expect(walk.steps.map(\.titleText).last == "SS-PDPE [0x3a]")
    #expect(walk.end == "faults 0x6: read without read permission, or no mapping")
  }

  @Test func `words that a kernel printed belong to faults of their unit`() throws {
    let reader = log(
      "AMD-Vi: Event logged [ILLEGAL_DEV_TABLE_ENTRY device=02:00.0 address=0x1000 flags=0x0080]",
      "AMD-Vi: DTE[0]: 6190000000000003", "AMD-Vi: DTE[1]: 00001001049e000b",
      "AMD-Vi: Event logged [ILLEGAL_COMMAND_ERROR address=0x140060]",
      "AMD-Vi: CMD[0]: 00000020", "AMD-Vi: CMD[1]: 20000000", "AMD-Vi: CMD[2]: 00000000",
      "AMD-Vi: CMD[3]: 00000001",
      "DMAR: QI HEAD: Invalidation Wait qw0 = 0x25, qw1 = 0x1000",
      "DMAR: VT-d detected Invalidation Time-out Error: SID 5300",
      "DMAR: QI PRIOR: Device-TLB Invalidation qw0 = 0x5300530000000003, qw1 = 0x7fffffffffffe001")
    let explanations = reader.faults.map { FaultExplanation($0) }
    #expect(
      explanations.map(\.details) == [
        [
          "flags 0x80: RZ (a reserved bit was set)",
          "of the device table entry the log has only DTE[0] 0x6190000000000003, DTE[1] "
            + "0x00001001049e000b",
        ],
        [
          "CMD in the log: 0x00000020 0x20000000 0x00000000 0x00000001, invalidate device entry "
            + "command: reserved 127:64=0x100000000 OpCode=0x2 DeviceID=0x20; reserved bits 127:64 "
            + "are set: 0x100000000"
        ],
        [
          "QI PRIOR in the log: 0x5300530000000003 0x7fffffffffffe001, device-TLB invalidate "
            + "descriptor: asks 53:00.0 to drop translations of "
            + "0x7fffffffffffe000..<0x8000000000000000"
        ],
      ])
    #expect(explanations.map(\.attempt)[2] == "53:00.0 did not answer an invalidation")
  }

  @Test(arguments: FaultLogReaderTests.forms.indices)
  func `an explanation has 80 columns`(index: Int) throws {
    var screen = ""
    FaultExplanation(try #require(log(FaultLogReaderTests.forms[index].lines).faults.first))
      .write(to: &screen)
    for line in screen.split(separator: "\n") { #expect(line.count <= 80, "\(line)") }
  }

  @Test func `tables that allow the request now do not bear the log out`() throws {
    let explanation = try explain(vtd("Read", "00:03.0", "0x10000", "0x06"))
    #expect(!explanation.isBorneOut)
    #expect(explanation.now!.hasPrefix("allowed: the tables lead to 0x50000"))
    #expect(explanation.stoppedBy == nil)
  }

  @Test func `another reason than the logged one means that tables have changed`() throws {
    let explanation = try explain(vtd("Read", "00:06.0", "0x10000", "0x06"))
    #expect(!explanation.isBorneOut)
    #expect(explanation.now!.hasPrefix("another fault than then"))
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
    let reader = log(vtd("Read", "03:00.0", "0x10000", "0x06"))
    let hints = explainer.explain(try #require(reader.faults.first)).hints
    #expect(hints.contains("mapped for 00:03.0 and 00:03.1; whether for this device is not known"))
    #expect(!hints.contains { $0.contains("but not for this device") })
  }

  @Test func `an interrupt fault is explained by the remapping table`() throws {
    let reader = log(
      ["0x10", "0x11", "0x100"].map {
        "DMAR: [INTR-REMAP] Request device [00:1f.0] fault index \($0) [fault reason 0x22] Present"
      })
    func now(_ machine: Machine, _ memory: some PhysicalMemory) -> [String] {
      let explainer = FaultExplainer(machine, in: memory)
      return reader.faults.map { explainer.explain($0).now ?? "" }
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
    #expect(explanation.attempt == "0001:00:03.0 wrote IOVA 0x14000")
    #expect(
      explanation.now!.hasPrefix("unknown: 0001:00:03.0: no unit is known to serve PCI segment 0x1")
    )
    #expect(explanation.hints.isEmpty)
  }

  @Test func `a Calgary record is explained by the bus's table`() throws {
    let explanation = try explain(
      "Calgary: DMA error on Calgary PHB 0x1, 0x10010000@CSR 0x04000000@PLSSR")
    #expect(explanation.now == "TCE table 0x8000, 64 KiB for bus:01: 2 runs, 12 KiB")
    #expect(explanation.attempt.hasPrefix("DMA of agent 1 below bus 01 was refused"))
  }
}
