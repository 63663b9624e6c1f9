import IOMMUFormats
import IOMMUImages
import Testing

@testable import IOMMULinux

/// A unit of AMD-Vi, its devices and domains, as drivers of four ages have them.
@Suite struct AMDViStateTests {
  private static func function(_ number: UInt16) -> PCI.Function {
    PCI.Function(Requester(rawValue: number))
  }

  @Test(arguments: AMDSystem.Age.allCases)
  func `units, devices and domains`(_ age: AMDSystem.Age) throws {
    let made = AMDSystem(age)
    let state = try IOMMUState(try made.system.opened())
    #expect(state.problems == [] && state.listsAllUnits)
    let unit = try #require(state.units.first)
    #expect(state.units.count == 1 && unit.kind == .amdvi && unit.name == "ivhd0")
    #expect(unit.address == made.unit && unit.segment == 0)
    #expect(unit.registerBase == PhysicalAddress(0xfed8_0000))
    #expect(unit.table == PhysicalAddress(0x40_0000) && unit.tableByteCount == 0x2000)
    #expect(unit.extendedCapability == 0x29d3 && unit.queue == PhysicalAddress(0x43_0000))
    #expect(unit.requester == Requester(rawValue: 2) && unit.hasCopiedTables == false)

    #expect(
      state.devices.map(\.name) == [
        "0000:00:00.2", "0000:00:03.0", "0000:00:04.0", "0000:00:05.0", "0000:00:06.0",
      ])
    #expect(state.devices.map(\.driver) == [nil, "e1000e", "nvme", "ahci", "e1000"])
    #expect(state.devices.map(\.group) == [nil, 1, 2, 3, 4])
    #expect(state.devices.dropFirst().allSatisfy { $0.unit == made.unit })
    #expect(state.devices.map(\.requester) == state.devices.map(\.function))
    #expect(state.devices.map(\.aliases) == [[], [], [], [], [Self.function(0x31)]])
    #expect(
      state.devices.map(\.attachment) == [
        .unknown, .domain(made.domain(0)), .domain(made.domain(1)), .none,
        .domain(made.domain(2)),
      ])
    #expect(state.devices.allSatisfy { $0.ownDomainID == nil })

    let domains = try (0..<3).map { try #require(state.domain(at: made.domain($0))) }
    #expect(domains.map(\.typeName) == ["DMA", "identity", "DMA"])
    #expect(domains.map(\.ids) == [3, 2, 4].map { [.init(unit: made.unit, id: $0)] })
    #expect(domains.map(\.root) == [PhysicalAddress(0x41_0000), nil, PhysicalAddress(0x42_0000)])
    #expect(domains.map(\.levels) == [3, nil, 4])
    #expect(domains.map(\.isFirstStage) == [false, nil, false])
    #expect(domains[0].iova?.ranges == [0x10...0x1f, 0x80...0x80] && domains[2].iova == nil)
  }

  /// Tables of version 2 are a processor's, and the device has a domain id of its own.
  @Test(arguments: AMDSystem.Age.allCases)
  func `tables of version 2`(_ age: AMDSystem.Age) throws {
    let made = AMDSystem(age)
    made.setGuestTable(0, root: TinyKernel.text + 0x44_0000)
    let hasOwnID = age == .linux612 || age == .linux72
    if hasOwnID {
      let info = made.data[0] + made.system.offset("iommu_dev_data.gcr3_info")
      made.system.set("gcr3_tbl_info", info, "gcr3_tbl", TinyKernel.text + 0x45_0000)
      made.system.set("gcr3_tbl_info", info, "domid", 9)
    }
    let state = try IOMMUState(try made.system.opened())
    #expect(state.problems == [])
    let domain = try #require(state.domain(at: made.domain(0)))
    #expect(domain.root == PhysicalAddress(0x44_0000) && domain.levels == 4)
    #expect(domain.isFirstStage == true && domain.ids == [.init(unit: made.unit, id: 3)])
    #expect(state.devices[1].ownDomainID == (hasOwnID ? 9 : nil))
    #expect(state.devices[4].ownDomainID == nil)
  }

  /// Functions that a device's requests may carry as well: a bit for each of its bus.
  @Test func `aliases that the bus knows`() throws {
    let made = AMDSystem(.linux61)
    let mask = made.system.variable("mask", [0, 0, 0, 1 << 63 | 1])
    made.system.set("pci_dev", made.devices[4], "dma_alias_mask", mask)
    let state = try IOMMUState(try made.system.opened())
    #expect(state.devices[4].aliases == [0x31, 0xc0, 0xff].map(Self.function))
  }

  @Test func `a table of earlier kernels that was taken over`() throws {
    let made = AMDSystem(.linux61)
    made.system.set(
      "amd_iommu_pci_seg", made.segment, "old_dev_tbl_cpy", AMDSystem.deviceTable)
    #expect(try IOMMUState(try made.system.opened()).units[0].hasCopiedTables == true)
  }

  @Test func `what is damaged is told, and all else is read`() throws {
    let made = AMDSystem(.linux61)
    made.system.set("amd_iommu_pci_seg", made.segment, "dev_table", 0xffff_8880_0000_0000)
    made.system.set("amd_iommu_pci_seg", made.segment, "alias_table", 0x1234_5000)
    made.setTable(0, root: 0x1234, levels: 7)
    let state = try IOMMUState(try made.system.opened())
    #expect(state.units[0].table == nil && state.units[0].tableByteCount == 0x2000)
    #expect(state.devices.count == 5 && state.devices[1].driver == "e1000e")
    let domain = try #require(state.domain(at: made.domain(0)))
    #expect(domain.root == nil && domain.levels == nil && domain.iova?.ranges.count == 2)
    let told = state.problems.joined(separator: "\n")
    for text in [
      "the AMD-Vi unit at 0xfed80000, device table: the kernel maps nothing at 0xffff888000000000",
      "alias of 0000:00:03.0: the kernel maps nothing at 0x12345030",
      "page table: the kernel maps nothing at 0x1234", "page tables of 7 levels",
    ] {
      #expect(told.contains(text), "\(text)\n\(told)")
    }
  }

  @Test func `a page that was left out costs what lies on it`() throws {
    for page in stride(from: 0x80_0000, to: 0x80_6000, by: 0x1000) as StrideTo<UInt64> {
      let made = AMDSystem(.linux61)
      guard let state = try? IOMMUState(try made.system.opened(without: [page])) else {
        Issue.record("nothing is read without \(hexadecimal(page))")
        continue
      }
      #expect(!state.problems.isEmpty || state.devices.count == 5)
      for unit in state.units where unit.table != nil {
        #expect(unit.table == PhysicalAddress(0x40_0000))
      }
    }
  }
}
