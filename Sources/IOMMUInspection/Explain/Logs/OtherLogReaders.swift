import IOMMUFormats
import IOMMUTranslation

/// Reads VT-d faults as FreeBSD logs them. Source: FreeBSD `sys/x86/iommu/intel_fault.c`.
enum FreeBSDLogReader: LogReader {
  static var unit: String { "Intel VT-d of FreeBSD" }

  static var examples: [LogExample] {
    [
      LogExample(
        "FreeBSD",
        "DMAR0: ahci0: pci0:31:2 sid fa fault acc 1 adt 0x0 reason 0x6 addr 7f6d0000"),
      LogExample(
        "FreeBSD",
        "DMAR1: <unknown dev>:pci0:3:0 sid 18 fault acc 0 adt 0x0 reason 0x2 addr 1000"),
      LogExample("FreeBSD", "DMAR0: Invalidation timed out"),
    ]
  }

  static var marks: [StaticString] {
    [
      "DMAR0: ", "DMAR1: ", "DMAR2: ", "DMAR3: ", "DMAR4: ", "DMAR5: ", "DMAR6: ", "DMAR7: ",
      "fault acc ",
    ]
  }

  static func continues(_ message: Substring, at mark: Substring) -> Bool {
    mark.hasPrefix("fault acc ") && message.hasPrefix("DMAR") && !message.contains("fault acc ")
  }

  static func read(_ message: LogMessage) -> LogReading {
    let text = message.text[...]
    if let trouble = trouble(text) { return .fault(FaultRecord(source: .vtdQueue(trouble))) }
    let scanner = LogScanner(text)
    guard text.contains("fault acc ") else {
      // Other messages of the driver, and the head of a fault line.
      return text.contains("pci") && text.utf8.count < 120 ? .begunTable : .nothing
    }
    guard let kind = scanner.decimal(after: "acc "),
      let reason = scanner.hexadecimal(after: "reason ").flatMap({ UInt8(exactly: $0) }),
      let address = scanner.hexadecimal(after: "addr ")
    else { return .begun("a fault line that is cut") }
    guard let sid = scanner.hexadecimal(after: "sid ").flatMap({ UInt16(exactly: $0) }) else {
      return .unread("a fault line without its device")
    }
    let device = PCI.Function(Requester(rawValue: sid))
    let code = VTd.FaultReason(rawValue: reason)
    return .fault(
      code.concernsInterrupts
        ? FaultRecord(
          source: .vtdInterrupt(code), device: device, address: address >> 48, .interruptIndex)
        : FaultRecord(
          source: .vtd(code), device: device, address: address,
          access: kind == 0 ? .write : .read))
  }
}

extension FreeBSDLogReader {
  private static func trouble(_ text: Substring) -> FaultRecord.VTdQueueTrouble? {
    if text.contains("Invalidation timed out") { return .timeout }
    if text.contains("Invalidation completion error") { return .completion }
    return text.contains("Invalidation queue error") ? .error(nil) : nil
  }
}

/// Reads errors of Calgary and CalIOC2 bridges. Source: Linux `arch/x86/kernel/pci-calgary_64.c`.
enum CalgaryLogReader: LogReader {
  static var unit: String { "IBM Calgary" }

  static var examples: [LogExample] {
    [
      LogExample(
        "Linux 2.6.18 to 5.2",
        "Calgary: DMA error on Calgary PHB 0x6, 0x10010000@CSR 0x04000000@PLSSR")
    ]
  }

  static var marks: [StaticString] { ["Calgary: DMA error", "DMA error on Cal"] }

  static func read(_ message: LogMessage) -> LogReading {
    let text = message.text[...]
    func register(_ name: String) -> UInt32? {
      guard let end = text.firstRange(of: "@\(name)")?.lowerBound else { return nil }
      let word = text[..<end].split { $0 == " " || $0 == "," }.last
      return word.flatMap { Notation.printed($0) }.flatMap { UInt32(exactly: $0) }
    }
    guard let bus = LogScanner(text).hexadecimal(after: "PHB ").flatMap({ UInt8(exactly: $0) }),
      let csr = register("CSR"), let plssr = register("PLSSR")
    else { return .begun("an error line that is cut") }
    return .fault(FaultRecord(source: .calgary(csr: csr, plssr: plssr), bus: bus))
  }
}

/// Reads how many messages were left out. What stands behind such a line belongs to none before it.
enum SuppressionLogReader: LogReader {
  static var unit: String { "log" }
  static var examples: [LogExample] { [] }
  static var marks: [StaticString] {
    ["callbacks suppressed", "messages suppressed", "message repeated"]
  }

  /// Who says it: functions of drivers of IOMMUs, and kernels that count all messages in one.
  private static let writers = ["dmar", "amd_iommu", "iommu", "smmu", "printk"]

  static func read(_ message: LogMessage) -> LogReading {
    if message.text.hasPrefix("message repeated") {
      // "last message repeated 3 times"; with the message behind it, that has the number itself.
      guard message.prefix.hasSuffix("last "),
        let count = LogScanner(message.text).decimal(after: "repeated ")
      else { return .nothing }
      return .repeated(Int(clamping: count))
    }
    let words = message.prefix.split(separator: " ")
    guard let count = words.last.flatMap({ Int($0) }), count > 0,
      writers.contains(where: { message.prefix.has($0) })
    else { return .nothing }
    return .suppressed(count)
  }
}

/// Names faults of units whose lines nobody reads.
enum OtherUnitsLogReader: LogReader {
  static var unit: String { "another unit" }
  static var examples: [LogExample] { [] }
  static var marks: [StaticString] {
    [
      "fault", "Fault", "FAULT", "Unknown Stream ID", "unknown Stream ID", "Page request",
      "page request", "PRQ overflow", "GERROR", "Service Failure Mode", "CMDQ error",
      "amdvi_page_fault", "amdvi_dte_get_fail", "smmuv3_record_event",
      "virtio_iommu_report_fault",
    ]
  }

  /// What units are called in lines about them; compared in lower case.
  private static let names: [(mark: String, unit: String)] = [
    ("smmuv3_record", "QEMU's SMMUv3 unit"), ("virtio_iommu_report", "QEMU's virtio IOMMU"),
    ("arm-smmu-v3", "Arm SMMUv3"), ("smmuv3", "Arm SMMUv3"), ("arm-smmu", "Arm SMMU"),
    ("smmu", "SMMU"), ("amd-vi", "AMD-Vi"), ("amd iommu", "AMD-Vi"), ("dmar", "Intel VT-d"),
    ("vt-d", "Intel VT-d"), ("intr-remap", "Intel VT-d"), ("vtd_", "QEMU's VT-d unit"),
    ("amdvi_", "QEMU's AMD-Vi unit"), ("riscv-iommu", "RISC-V IOMMU"),
    ("riscv_iommu", "RISC-V IOMMU"),
    ("virtio_iommu", "virtio IOMMU"), ("virtio-iommu", "virtio IOMMU"), ("viommu", "virtio IOMMU"),
    ("apple-dart", "Apple DART"), ("sysmmu", "Exynos SysMMU"),
    ("ipmmu", "Renesas IPMMU"), ("rk_iommu", "Rockchip IOMMU"), ("mtk-iommu", "MediaTek IOMMU"),
    ("mtk_iommu", "MediaTek IOMMU"), ("sun50i-iommu", "Allwinner IOMMU"),
    ("tegra-mc", "Tegra SMMU"), ("omap-iommu", "OMAP IOMMU"), ("msm_iommu", "Qualcomm IOMMU"),
    ("qcom-iommu", "Qualcomm IOMMU"), ("sprd-iommu", "Spreadtrum IOMMU"),
    ("iommu", "an IOMMU"),
  ]

  static func read(_ message: LogMessage) -> LogReading {
    let text = (message.prefix + message.text).lowercased()
    // The kernel's own options, and what it says of itself at its start.
    if text.has("command line:") || text.has("interrupt remapping") && !text.has("fault") {
      return .nothing
    }
    let mark = message.text.prefix { $0.isLetter }.lowercased()
    guard !["faulty", "faultless", "faulting"].contains(mark),
      let name = names.first(where: { text.hasUnit($0.mark) })
    else {
      return .nothing
    }
    return .unread("a fault of a kind that is not read", unit: name.unit)
  }

}

extension String {
  /// The name of a unit, not within another word: `dart` is none of `standart`.
  fileprivate func hasUnit(_ mark: String) -> Bool {
    guard let range = self[...].firstRange(of: mark) else { return false }
    if range.lowerBound > startIndex, self[index(before: range.lowerBound)].isLetter {
      return false
    }
    return true
  }
}
