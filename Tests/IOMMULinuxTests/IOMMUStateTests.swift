import IOMMUFormats
import IOMMUImages
import Testing

@testable import IOMMULinux

/// A unit, a bus with two devices, their groups and domains, as drivers of three ages have them.
@Suite struct IOMMUStateTests {
  private final class Machine {
    let system = TinySystem()
    var unit: UInt64 = 0
    var drhd: UInt64 = 0
    var devices: [UInt64] = []
    var groups: [UInt64] = []
    var domains: [UInt64] = []
    var info: [UInt64] = []
    var cookie: UInt64 = 0
    var queue: UInt64 = 0
    var nodes: [UInt64] = []

    /// The address of the `iommu_domain` in a driver's domain.
    func domain(_ number: Int) -> UInt64 { domains[number] + system.offset("dmar_domain.domain") }

    init() {
      defineTypes()
      makeUnit()
      makeDomains()
      makeDevices()
    }

    private func defineTypes() {
      system.define(
        "intel_iommu",
        [
          ("reg_phys", "8"), ("cap", "8"), ("ecap", "8"), ("name", "[13]1"), ("domain_ids", "8"),
          ("copied_tables", "8"), ("root_entry", "8"), ("iommu", "8"),
        ])
      system.define(
        "dmar_drhd_unit",
        [
          ("list", "list_head"), ("reg_base_addr", "8"), ("segment", "2"),
          ("iommu", "*intel_iommu"),
        ])
      system.define("iommu_device", [("list", "list_head"), ("ops", "8")])
      system.define("iommu_domain", [("type", "4"), ("ops", "8"), ("iova_cookie", "8")])
      system.define("xarray", [("xa_flags", "8"), ("xa_head", "8")])
      system.define(
        "dmar_domain",
        [
          ("iommu_array", "xarray"), ("pgd", "8"), ("agaw", "4"), ("flags", "4"),
          ("domain", "iommu_domain"),
        ])
      system.define("iommu_domain_info", [("iommu", "8"), ("refcnt", "4"), ("did", "2")])
      system.define(
        "iommu_group",
        [
          ("devices", "list_head"), ("id", "4"), ("default_domain", "8"), ("domain", "8"),
        ])
      system.define("dev_iommu", [("iommu_dev", "*iommu_device"), ("priv", "8")])
      system.define("device_driver", [("name", "*")])
      system.define("kobject", [("name", "*")])
      system.define(
        "device",
        [
          ("kobj", "kobject"), ("driver", "*device_driver"), ("dma_mask", "8"),
          ("coherent_dma_mask", "8"),
          ("iommu_group", "*iommu_group"), ("iommu", "*dev_iommu"),
        ])
      system.define("group_device", [("list", "list_head"), ("dev", "*device")])
      system.define(
        "pci_dev",
        [
          ("bus_list", "list_head"), ("devfn", "4"), ("vendor", "2"), ("device", "2"),
          ("class", "4"),
          ("dev", "device"),
        ])
      system.define("pci_sysdata", [("domain", "4")])
      system.define(
        "pci_bus",
        [
          ("node", "list_head"), ("children", "list_head"), ("devices", "list_head"),
          ("sysdata", "8"),
          ("number", "1"),
        ])
      system.define(
        "device_domain_info",
        [
          ("segment", "4"), ("bus", "1"), ("devfn", "1"), ("iommu", "8"),
          ("domain", "*dmar_domain"),
        ])
      system.define("rb_root", [("rb_node", "8")])
      system.define("iova_domain", [("rbroot", "rb_root"), ("granule", "8"), ("rcaches", "8")])
      system.define(
        "iommu_dma_cookie",
        [
          ("type", "4"), ("iovad", "iova_domain"), ("fq", "8"), ("fq_flush_start_cnt", "8"),
          ("fq_flush_finish_cnt", "8"),
        ])
      system.define("iova", [("node", "rb_node"), ("pfn_hi", "8"), ("pfn_lo", "8")])
      system.define("iova_magazine", [("size", "8"), ("pfns", "[4]8")])
      system.define("iova_cpu_rcache", [("loaded", "*iova_magazine"), ("prev", "*iova_magazine")])
      system.define(
        "iova_rcache",
        [
          ("depot_size", "8"), ("depot", "[3]8"), ("cpu_rcaches", "8"),
        ])
      system.define("iova_fq_entry", [("iova_pfn", "8"), ("pages", "8"), ("counter", "8")])
      system.define("iova_fq", [("entries", "[4]iova_fq_entry"), ("head", "4"), ("tail", "4")])
    }

    private func makeUnit() {
      let operations = system.variable("intel_iommu_ops")
      let bits = system.variable("bits", [0b1101])
      unit = system.make(
        "intel_iommu",
        [
          "reg_phys": 0xfed9_0000, "cap": 0xd200_8c22_2f06_00, "ecap": 0xf0_0f4a,
          "domain_ids": bits,
          "root_entry": TinyKernel.text + 0x7_0000,
        ])
      system.kernel.put(Array("dmar0\0".utf8), at: unit + system.offset("intel_iommu.name"))
      drhd = system.make("dmar_drhd_unit", ["reg_base_addr": 0xfed9_0000, "iommu": unit])
      system.chain(system.variable("dmar_drhd_units", byteCount: 16), [drhd])
      let device = system.make("iommu_device", ["ops": operations])
      system.chain(system.variable("iommu_device_list", byteCount: 16), [device])
      deviceOfUnit = device
    }

    private var deviceOfUnit: UInt64 = 0

    private func makeDomains() {
      for number in 0..<2 as Range<UInt64> {
        let id = system.make("iommu_domain_info", ["iommu": unit, "refcnt": 1, "did": 3 + number])
        let domain = system.make(
          "dmar_domain",
          [
            "pgd": TinyKernel.text + 0x7_1000 + number << 12, "agaw": 2,
          ])
        system.set("xarray", domain, "xa_head", id)
        system.set(
          "iommu_domain", domain + system.offset("dmar_domain.domain"), "type", 11 - 8 * number)
        domains.append(domain)
      }
      makeAllocator()
    }

    /// Ranges 0x10 to 0x1f, 0x40 to 0x41 and 0x80, of which the second is kept, and the third waits.
    private func makeAllocator() {
      nodes = [(0x10, 0x1f), (0x40, 0x41), (0x80, 0x80), (.max, .max)].map { first, last in
        system.make("iova", ["pfn_lo": first, "pfn_hi": last])
      }
      system.set("rb_node", nodes[1], "rb_left", nodes[0])
      system.set("rb_node", nodes[1], "rb_right", nodes[3])
      system.set("rb_node", nodes[3], "rb_left", nodes[2])
      let magazine = system.make("iova_magazine", ["size": 1])
      system.kernel.put(words: [0x40], at: magazine + system.offset("iova_magazine.pfns"))
      let full = system.make("iova_magazine", ["size": 2])
      system.kernel.put(words: [0x50, 0x60], at: full + system.offset("iova_magazine.pfns"))
      // The processor's own lies 0x100000 behind what the per-cpu pointer says.
      let own = system.make("iova_cpu_rcache", ["loaded": magazine])
      let caches = system.variable("caches", byteCount: 6 * 256)
      let size = UInt64(40)
      system.set("iova_rcache", caches + size, "cpu_rcaches", own - 0x10_0000)
      system.set("iova_rcache", caches + size, "depot_size", 1)
      system.kernel.put(words: [full], at: caches + size + system.offset("iova_rcache.depot"))
      queue = system.make("iova_fq", ["head": 3, "tail": 1])
      let entry = UInt64(24)
      system.kernel.put(words: [0x80, 1, 7], at: queue + 3 * entry)
      system.kernel.put(words: [0x90, 2, 8], at: queue)
      cookie = system.make(
        "iommu_dma_cookie",
        [
          "fq": queue - 0x10_0000, "fq_flush_start_cnt": 9, "fq_flush_finish_cnt": 8,
        ])
      let iovad = cookie + system.offset("iommu_dma_cookie.iovad")
      system.set("rb_root", iovad, "rb_node", nodes[1])
      system.set("iova_domain", iovad, "granule", 4096)
      system.set("iova_domain", iovad, "rcaches", caches)
      system.set("iommu_domain", domain(0), "iova_cookie", cookie)
      _ = system.variable("nr_cpu_ids", [1])
      _ = system.variable("__cpu_possible_mask", [1])
      _ = system.variable("__per_cpu_offset", [0x10_0000])
    }

    private func makeDevices() {
      let bus = system.make("pci_bus", ["sysdata": system.make("pci_sysdata")])
      system.chain(system.variable("pci_root_buses", byteCount: 16), [bus])
      system.chain(bus + system.offset("pci_bus.children"), [])
      let driver = system.make("device_driver", ["name": system.text("e1000e")])
      for number in 0..<2 as Range<UInt64> {
        let group = system.make(
          "iommu_group",
          [
            "id": 4 + number, "default_domain": domain(Int(number)), "domain": domain(Int(number)),
          ])
        let data = system.make(
          "device_domain_info",
          [
            "bus": 0, "devfn": 0x18 + number, "iommu": unit, "domain": number == 0 ? domains[0] : 0,
          ])
        let own = system.make("dev_iommu", ["iommu_dev": deviceOfUnit, "priv": data])
        let device = system.make(
          "pci_dev",
          [
            "devfn": 0x18 + number, "vendor": 0x8086, "device": 0x10d3, "class": 0x2_0000,
          ])
        let part = device + system.offset("pci_dev.dev")
        system.set("device", part, "iommu_group", group)
        system.set("device", part, "iommu", own)
        if number == 0 { system.set("device", part, "driver", driver) }
        let member = system.make("group_device", ["dev": part])
        system.chain(group + system.offset("iommu_group.devices"), [member])
        devices.append(device)
        groups.append(group)
        info.append(data)
      }
      system.chain(bus + system.offset("pci_bus.devices"), devices)
    }

    func state(without leftOut: Set<UInt64> = []) throws -> IOMMUState {
      try IOMMUState(try system.opened(without: leftOut))
    }
  }

  @Test func `units, devices, groups and domains of VT-d`() throws {
    let machine = Machine()
    let state = try machine.state()
    #expect(state.problems == [])
    let unit = try #require(state.units.first)
    #expect(state.units.count == 1 && unit.kind == .vtd && unit.name == "dmar0")
    #expect(
      unit.registerBase == PhysicalAddress(0xfed9_0000) && unit.table == PhysicalAddress(0x7_0000))
    #expect(unit.capability == 0xd2_008c_222f_0600 && unit.extendedCapability == 0xf0_0f4a)
    #expect(unit.domainIDs == [0, 2, 3] && unit.hasCopiedTables == false && unit.queue == nil)

    #expect(state.devices.map(\.name) == ["0000:00:03.0", "0000:00:03.1"])
    #expect(state.devices.map(\.driver) == ["e1000e", nil])
    #expect(state.devices.map(\.group) == [4, 5])
    #expect(state.devices.map(\.unit) == [machine.unit, machine.unit])
    #expect(state.devices.map(\.requester) == state.devices.map(\.function))
    #expect(state.devices[0].attachment == .domain(machine.domain(0)))
    #expect(state.devices[1].attachment == .none)
    #expect(state.devices[0].vendor == 0x8086 && state.devices[0].device == 0x10d3)

    #expect(state.groups.map(\.number) == [4, 5])
    #expect(state.groups.map(\.devices) == [["0000:00:03.0"], ["0000:00:03.1"]])
    #expect(state.domains.map(\.address) == [machine.domain(0), machine.domain(1)])
    #expect(state.domains.map(\.typeName) == ["DMA-FQ", "DMA"])
    #expect(state.domains.map(\.root) == [PhysicalAddress(0x7_1000), PhysicalAddress(0x7_2000)])
    #expect(
      state.domains.map(\.levels) == [4, 4] && state.domains.map(\.isFirstStage) == [false, false])
    #expect(state.domains.map(\.ids) == [3, 4].map { [.init(unit: machine.unit, id: $0)] })
    #expect(state.domain(at: machine.domain(1))?.address == machine.domain(1))
    #expect(state.domain(at: 1) == nil && state.group(5)?.number == 5)
  }

  @Test func `the numbers of an allocator`() throws {
    let state = try Machine().state()
    let iova = try #require(state.domains[0].iova)
    #expect(state.domains[1].iova == nil)
    #expect(iova.granule == 4096 && iova.problems.isEmpty)
    #expect(iova.ranges == [0x10...0x1f, 0x40...0x41, 0x80...0x80])
    #expect(iova.cached.map(\.pages) == [[], [0x40, 0x50, 0x60], [], [], [], []])
    #expect(iova.cached[1].depot == [0x50, 0x60])
    #expect(
      iova.waiting == [
        .init(processor: 0, page: 0x80, count: 1, counter: 7),
        .init(processor: 0, page: 0x90, count: 2, counter: 8),
      ])
    #expect(iova.flushStart == 9 && iova.flushFinish == 8)
  }

  @Test func `what is damaged is told, and all else is read`() throws {
    let machine = Machine()
    let system = machine.system
    // A driver's name that is nowhere, a tree that leads to itself, a queue that cannot be.
    system.set("device", machine.devices[1] + system.offset("pci_dev.dev"), "driver", 0x1234)
    system.set("rb_node", machine.nodes[0], "rb_left", machine.nodes[1])
    system.set("iova_fq", machine.queue, "head", 9)
    system.set("dmar_domain", machine.domains[1], "pgd", 0xffff_8880_0000_0000)
    system.set("xarray", machine.domains[1], "xa_head", 2 | 0xffff_ffff_8200_0000)
    let state = try machine.state()
    #expect(state.devices.count == 2 && state.groups.count == 2 && state.domains.count == 2)
    #expect(state.devices[0].driver == "e1000e" && state.devices[1].driver == nil)
    #expect(state.domains[0].iova?.ranges.count == 3)
    #expect(
      state.domains[1].root == nil && state.domains[1].levels == 4 && state.domains[1].ids.isEmpty)
    let told = state.problems.joined(separator: "\n")
    for text in [
      "driver of 0000:00:03.1: the kernel maps nothing at 0x1234", "has no end",
      "page table: the kernel maps nothing at 0xffff888000000000", "a flush queue of 4 entries",
    ] {
      #expect(told.contains(text), "\(text)\n\(told)")
    }
  }

  @Test func `ranges out of order are told, and are no ranges`() throws {
    let machine = Machine()
    machine.system.set("iova", machine.nodes[2], "pfn_lo", 0x41)
    let iova = try #require(machine.state().domains[0].iova)
    #expect(iova.ranges == [0x10...0x1f, 0x40...0x41])
    #expect(iova.problems == [.damaged("IOVA ranges out of order: 0x41 behind 0x41")])
  }

  @Test func `a page that was left out costs what lies on it`() throws {
    let machine = Machine()
    let whole = try machine.state()
    // Each page of the structures in its turn.
    for page in stride(from: 0x80_0000, to: 0x80_6000, by: 0x1000) as StrideTo<UInt64> {
      let lacking = Machine()
      guard let state = try? lacking.state(without: [page]) else {
        Issue.record("nothing is read without \(hexadecimal(page))")
        continue
      }
      #expect(!state.problems.isEmpty || state.devices.count == whole.devices.count)
      for device in state.devices where device.driver != nil { #expect(device.driver == "e1000e") }
      for unit in state.units where unit.registerBase != nil {
        #expect(unit.registerBase == PhysicalAddress(0xfed9_0000))
      }
    }
  }

  @Test func `a kernel without IOMMUs has none`() throws {
    let system = TinySystem()
    let state = try IOMMUState(try system.opened())
    #expect(state.units.isEmpty && state.devices.isEmpty && state.problems.isEmpty)
  }
}
