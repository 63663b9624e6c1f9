import IOMMUFormats
import IOMMUTestSupport

/// A kernel with an AMD-Vi unit, its device table and its page tables, as drivers of several ages have them.
///
/// | device | driver | group | attached to | its entry |
/// |---|---|---|---|---|
/// | 00:00.2 | none | none | nothing | blocked |
/// | 00:03.0 | e1000e | 1 | DMA, id 3, three levels | the same |
/// | 00:04.0 | nvme | 2 | identity, id 2 | passes |
/// | 00:05.0 | ahci | 3 | nothing | blocked |
/// | 00:06.0 | e1000 | 4 | DMA, id 4, four levels; sends as 00:06.1 too | the same |
///
/// 00:03.0 has page 0x80 at its own table's place, and a window of PCI buses from 0x10 to 0x1f.
package final class AMDSystem {
  /// How the driver keeps its tables.
  package enum Age: CaseIterable, Sendable {
    /// One device table for all.
    case before60
    /// A device table for each PCI segment; tables of the driver's own.
    case linux61
    /// The mode of the tables is said, and devices have GCR3 tables of their own.
    case linux612
    /// Tables are those of the kernel's common code.
    case linux72
  }

  package let system: TinySystem
  package let age: Age
  package private(set) var unit: UInt64 = 0
  package private(set) var segment: UInt64 = 0
  /// `struct protection_domain`: DMA of 00:03.0, identity, DMA of 00:06.0.
  package private(set) var domains: [UInt64] = []
  /// `struct pci_dev`, in the order of the table.
  package private(set) var devices: [UInt64] = []
  /// `struct iommu_dev_data`, of the last four.
  package private(set) var data: [UInt64] = []

  /// 256 entries, those of bus 0.
  package static let deviceTable = TinyKernel.text + 0x40_0000
  package static let deviceTableByteCount: UInt64 = 0x2000
  package static let registerBase: UInt64 = 0xfed8_0000
  /// The uppermost table of 00:03.0; below it are the next two pages.
  package static let root = TinyKernel.text + 0x41_0000
  /// The same of 00:06.0, with three below.
  package static let otherRoot = TinyKernel.text + 0x42_0000
  /// As QEMU's unit has them: six levels of host tables, guest tables.
  package static let features: UInt64 = 0x29d3

  /// Where something of the kernel's lies.
  package func physical(_ address: UInt64) -> UInt64 { system.kernel.physical(address) }

  /// The address of the `iommu_domain` in one of the driver's.
  package func domain(_ number: Int) -> UInt64 {
    domains[number] + system.offset("protection_domain.domain")
  }

  /// - Parameters:
  ///   - age: The driver's.
  ///   - memory: Memory that holds the kernel; its own where there is none.
  ///   - base: Where the kernel is in it.
  package init(_ age: Age, in memory: FlatMemory? = nil, at base: UInt64 = 0) {
    self.age = age
    system = TinySystem(in: memory, at: base)
    defineTypes()
    makeUnit()
    makeTables()
    makeDomains()
    makeDevices()
  }

  // MARK: Types

  private func defineTypes() {
    system.define("iommu_device", [("list", "list_head"), ("ops", "8")])
    system.define(
      "amd_iommu_pci_seg",
      [
        ("list", "list_head"), ("id", "2"), ("last_bdf", "2"), ("dev_table_size", "4"),
        ("dev_table", "8"), ("old_dev_tbl_cpy", "8"), ("alias_table", "8"),
      ])
    let segment = age == .before60 ? [] : [("pci_seg", "*amd_iommu_pci_seg")]
    system.define(
      "amd_iommu",
      [
        ("list", "list_head"), ("index", "4"), ("mmio_phys", "8"), ("cap", "4"), ("features", "8"),
        ("devid", "2"),
      ] + segment + [("cmd_buf", "8"), ("iommu", "iommu_device")])
    let cookieType = age == .linux72 ? [("cookie_type", "4")] : []
    system.define(
      "iommu_domain", [("type", "4")] + cookieType + [("ops", "8"), ("iova_cookie", "8")])
    defineDomain()
    system.define(
      "gcr3_tbl_info", [("gcr3_tbl", "8"), ("glx", "4"), ("pasid_cnt", "4"), ("domid", "2")])
    let own = [Age.linux612, .linux72].contains(age) ? [("gcr3_info", "gcr3_tbl_info")] : []
    system.define(
      "iommu_dev_data",
      [("list", "list_head"), ("domain", "*protection_domain")] + own
        + [("dev", "8"), ("devid", "2")])
    system.define(
      "iommu_group",
      [("devices", "list_head"), ("id", "4"), ("default_domain", "8"), ("domain", "8")])
    system.define("dev_iommu", [("iommu_dev", "*iommu_device"), ("priv", "8")])
    system.define("device_driver", [("name", "*")])
    system.define("kobject", [("name", "*")])
    system.define(
      "device",
      [
        ("kobj", "kobject"), ("driver", "*device_driver"), ("dma_mask", "8"),
        ("coherent_dma_mask", "8"), ("iommu_group", "*iommu_group"), ("iommu", "*dev_iommu"),
      ])
    system.define("group_device", [("list", "list_head"), ("dev", "*device")])
    system.define(
      "pci_dev",
      [
        ("bus_list", "list_head"), ("devfn", "4"), ("vendor", "2"), ("device", "2"),
        ("class", "4"), ("dma_alias_mask", "8"), ("dev", "device"),
      ])
    system.define("pci_sysdata", [("domain", "4")])
    system.define(
      "pci_bus",
      [
        ("node", "list_head"), ("children", "list_head"), ("devices", "list_head"),
        ("sysdata", "8"), ("number", "1"),
      ])
    system.define("rb_root", [("rb_node", "8")])
    system.define("iova_domain", [("rbroot", "rb_root"), ("granule", "8"), ("rcaches", "8")])
    let kind = age == .linux72 ? [] : [("type", "4")]
    system.define(
      "iommu_dma_cookie",
      kind + [
        ("iovad", "iova_domain"), ("fq", "8"), ("fq_flush_start_cnt", "8"),
        ("fq_flush_finish_cnt", "8"),
      ])
    system.define("iova", [("node", "rb_node"), ("pfn_hi", "8"), ("pfn_lo", "8")])
  }

  private func defineDomain() {
    guard age != .linux72 else {
      system.define("pt_common", [("top_of_table", "8"), ("max_oasz_lg2", "1")])
      system.define("pt_amdv1", [("common", "pt_common")])
      system.define("pt_x86_64", [("common", "pt_common")])
      system.define("pt_iommu_amdv1", [("amdpt", "pt_amdv1")])
      system.define("pt_iommu_x86_64", [("x86_64_pt", "pt_x86_64")])
      system.define(
        "protection_domain",
        [
          ("domain", "iommu_domain"), ("amdv1", "pt_iommu_amdv1"), ("amdv2", "pt_iommu_x86_64"),
          ("dev_list", "list_head"), ("id", "2"), ("pd_mode", "4"),
        ])
      return
    }
    system.define("amd_io_pgtable", [("mode", "4"), ("root", "8"), ("pgd", "8")])
    system.define(
      "protection_domain",
      [
        ("dev_list", "list_head"), ("domain", "iommu_domain"), ("iop", "amd_io_pgtable"),
        ("id", "2"),
      ] + (age == .linux612 ? [("pd_mode", "4")] : [("flags", "8")]))
  }

  // MARK: Structures

  private var deviceOfUnit: UInt64 { unit + system.offset("amd_iommu.iommu") }

  private func makeUnit() {
    let operations = system.variable("amd_iommu_ops")
    unit = system.make(
      "amd_iommu",
      [
        "index": 0, "mmio_phys": Self.registerBase, "cap": 0x1f03_000f, "features": Self.features,
        "devid": 2, "cmd_buf": TinyKernel.text + 0x43_0000,
      ])
    system.set("iommu_device", deviceOfUnit, "ops", operations)
    // Devices send by their own numbers, but 00:06.0.
    let aliases = system.variable("aliases", byteCount: 512)
    for number in 0..<256 as Range<UInt64> {
      system.kernel.put(little(number == 0x30 ? 0x31 : number, 2), at: aliases + 2 * number)
    }
    if age == .before60 {
      _ = system.variable("amd_iommu_dev_table", [Self.deviceTable])
      _ = system.variable("amd_iommu_last_bdf", [0xff])
      _ = system.variable("amd_iommu_alias_table", [aliases])
      _ = system.variable("old_dev_tbl_cpy", [0])
    } else {
      segment = system.make(
        "amd_iommu_pci_seg",
        [
          "id": 0, "last_bdf": 0xff, "dev_table_size": Self.deviceTableByteCount,
          "dev_table": Self.deviceTable, "alias_table": aliases,
        ])
      system.set("amd_iommu", unit, "pci_seg", segment)
    }
    system.chain(system.variable("amd_iommu_list", byteCount: 16), [unit])
    system.chain(system.variable("iommu_device_list", byteCount: 16), [deviceOfUnit])
  }

  private func makeTables() {
    // V and TV: nothing passes.
    for number in 0..<256 as Range<UInt64> { setEntry(number, 3, 0) }
    setEntry(0x18, Self.entry(levels: 3, root: physical(Self.root)), 3)
    setEntry(0x20, 0x6000_0000_0000_0003, 2)
    for number in [0x30, 0x31] as [UInt64] {
      setEntry(number, Self.entry(levels: 4, root: physical(Self.otherRoot)), 4)
    }
    for (root, levels) in [(Self.root, 3), (Self.otherRoot, 4)] as [(UInt64, UInt64)] {
      for level in 0..<(levels - 1) {
        // PR, next level, IR and IW.
        let next = physical(root + (level + 1) << 12)
        system.kernel.put(
          words: [next | 1 | (levels - 1 - level) << 9 | 3 << 61], at: root + level << 12)
      }
      system.kernel.put(
        words: [physical(root) | 1 | 3 << 61], at: root + (levels - 1) << 12 + 0x80 * 8)
    }
  }

  /// The first word of an entry that has a host table, IR and IW set.
  package static func entry(levels: UInt64, root: UInt64) -> UInt64 {
    0x6000_0000_0000_0003 | levels << 9 | root
  }

  /// Puts an entry into the device table.
  package func setEntry(_ number: UInt64, _ low: UInt64, _ high: UInt64) {
    system.kernel.put(words: [low, high, 0, 0], at: Self.deviceTable + 32 * number)
  }

  private func makeDomains() {
    for (id, type, root, levels) in [
      (3, 3, Self.root, 3), (2, 4, 0, 0), (4, 3, Self.otherRoot, 4),
    ] as [(UInt64, UInt64, UInt64, UInt64)] {
      let domain = system.make("protection_domain", ["id": id])
      domains.append(domain)
      system.set(
        "iommu_domain", domain + system.offset("protection_domain.domain"), "type", type)
      guard root != 0 else { continue }
      setTable(domains.count - 1, root: root, levels: levels)
      if age == .linux612 || age == .linux72 {
        system.set("protection_domain", domain, "pd_mode", 1)
      }
    }
    makeAllocator()
  }

  /// Puts the uppermost table where the driver of this age has it.
  package func setTable(_ number: Int, root: UInt64, levels: UInt64) {
    let domain = domains[number]
    guard age != .linux72 else {
      let table = domain + system.offset("protection_domain.amdv1")
      system.set("pt_common", table, "top_of_table", root | (levels - 1))
      return
    }
    let tables = domain + system.offset("protection_domain.iop")
    system.set("amd_io_pgtable", tables, "mode", levels)
    system.set("amd_io_pgtable", tables, "root", root)
  }

  /// Makes the tables of a domain those of version 2, whose uppermost one has four levels.
  package func setGuestTable(_ number: Int, root: UInt64) {
    let domain = domains[number]
    switch age {
    case .linux72:
      system.set("protection_domain", domain, "pd_mode", 2)
      let table = domain + system.offset("protection_domain.amdv2")
      system.set("pt_common", table, "top_of_table", root | 3)
      return
    case .linux612: system.set("protection_domain", domain, "pd_mode", 2)
    case .before60, .linux61: system.set("protection_domain", domain, "flags", 8)
    }
    _ = system.variable("amd_iommu_gpt_level", [4])
    let tables = domain + system.offset("protection_domain.iop")
    system.set("amd_io_pgtable", tables, "mode", 0)
    system.set("amd_io_pgtable", tables, "root", 0)
    system.set("amd_io_pgtable", tables, "pgd", root)
  }

  private func makeAllocator() {
    let nodes = [(0x10, 0x1f), (0x80, 0x80)].map { first, last in
      system.make("iova", ["pfn_lo": first, "pfn_hi": last])
    }
    system.set("rb_node", nodes[0], "rb_right", nodes[1])
    let cookie = system.make("iommu_dma_cookie")
    let iovad = cookie + system.offset("iommu_dma_cookie.iovad")
    system.set("rb_root", iovad, "rb_node", nodes[0])
    system.set("iova_domain", iovad, "granule", 4096)
    system.set("iommu_domain", domain(0), "iova_cookie", cookie)
    if age == .linux72 { system.set("iommu_domain", domain(0), "cookie_type", 1) }
  }

  private func makeDevices() {
    let mask = system.variable("mask_of_devices", [0xffff_ffff_ffff])
    let bus = system.make("pci_bus", ["sysdata": system.make("pci_sysdata")])
    system.chain(system.variable("pci_root_buses", byteCount: 16), [bus])
    system.chain(bus + system.offset("pci_bus.children"), [])
    for (number, driver, group, domain) in [
      (2, nil, nil, nil), (0x18, "e1000e", 1, 0), (0x20, "nvme", 2, 1), (0x28, "ahci", 3, nil),
      (0x30, "e1000", 4, 2),
    ] as [(UInt64, String?, UInt64?, Int?)] {
      let device = system.make("pci_dev", ["devfn": number, "vendor": 0x1022, "device": 0x1000])
      devices.append(device)
      guard let group, let driver else { continue }
      let part = device + system.offset("pci_dev.dev")
      let address = domain.map { self.domain($0) } ?? 0
      let own = system.make(
        "iommu_group", ["id": group, "default_domain": address, "domain": address])
      let info = system.make(
        "iommu_dev_data", ["devid": number, "domain": domain.map { domains[$0] } ?? 0])
      data.append(info)
      system.set("device", part, "iommu_group", own)
      system.set("device", part, "dma_mask", mask)
      system.set("device", part, "coherent_dma_mask", 0xffff_ffff)
      system.set(
        "device", part, "iommu",
        system.make("dev_iommu", ["iommu_dev": deviceOfUnit, "priv": info])
      )
      system.set(
        "device", part, "driver", system.make("device_driver", ["name": system.text(driver)]))
      let member = system.make("group_device", ["dev": part])
      system.chain(own + system.offset("iommu_group.devices"), [member])
    }
    system.chain(bus + system.offset("pci_bus.devices"), devices)
  }

  /// The map of addresses: RAM, the window that 00:03.0's allocator leaves out, and what is kept for a crash.
  package func makeResources(crashKernel: ClosedRange<UInt64>) {
    let root = system.defineResources()
    let crash = system.resource(crashKernel.lowerBound, crashKernel.upperBound, "Crash kernel")
    let ram = system.resource(
      0x2_0000, crashKernel.upperBound, "System RAM", child: crash)
    let window = system.resource(0x1_0000, 0x1_ffff, "PCI Bus 0000:00", sibling: ram)
    system.set("resource", root, "child", window)
  }

  // MARK: Dumps

  /// An ELF core of all memory, with the VMCOREINFO of this kernel as its note.
  package func dump() -> [UInt8] {
    let memory = system.kernel.memory
    let count = Int(memory.storedPageCount * PageCount.pageByteCount)
    let all = memory.bytes(at: PhysicalAddress(0), count: count) ?? []
    return TinyELF([
      .note("VMCOREINFO", system.kernel.lines), TinyELF.Load(physical: 0, data: all),
    ]).bytes
  }

  /// Puts the kernel's VMCOREINFO at the beginning of a page, where a search finds it.
  package func putInfo() {
    system.kernel.put(Array(system.kernel.lines.utf8) + [0], at: TinyKernel.text + 0x50_0000)
  }
}
