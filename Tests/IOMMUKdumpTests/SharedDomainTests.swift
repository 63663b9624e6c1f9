import IOMMUFormats
import IOMMUKdump
import IOMMUTranslation
import Testing

/// Devices that units do not tell apart, and devices that have one domain.
@Suite struct SharedDomainTests {
  static let crashKernel = PhysicalAddress(0x100_0000)..<PhysicalAddress(0x900_0000)
  static let bridge = Requester("01:00.0")!
  static let behindBridge = ["01:01.0", "01:02.0"].map {
    Device(name: $0, requester: Requester($0)!, alias: bridge)
  }
  static let functions = ["02:00.0", "02:00.1"].map {
    Device(name: $0, requester: Requester($0)!, group: Requester("02:00.0"))
  }

  static func kernel(
    _ mode: TranslationMode, _ devices: [Device],
    amdvi: AMDViConfiguration = AMDViConfiguration()
  ) throws -> PrimaryKernel {
    try PrimaryKernel(
      MachineConfiguration(
        mode: mode,
        map: MemoryMap(ram: MemoryMap.ram(byteCount: 8 << 30), crashKernel: [crashKernel]),
        devices: devices, amdvi: amdvi))
  }

  /// Where a write of a device ends.
  static func physical(_ kernel: PrimaryKernel, _ device: Device, _ iova: IOVA) -> PhysicalAddress?
  {
    var bus = kernel.makeBus()
    return bus.write([1], by: device, at: iova).hits[0].physical?.lowerBound
  }

  @Test(arguments: [TranslationMode.vtd, .amdvi], [behindBridge, functions])
  func `they draw numbers from one space, and reach each other's`(
    mode: TranslationMode, devices: [Device]
  ) throws {
    let kernel = try Self.kernel(mode, devices)
    let buffers = try devices.map {
      try kernel.mapNewBuffer(byteCount: 4096, for: $0, direction: .bidirectional)
    }
    #expect(buffers.map(\.iova) == [IOVA(0xffff_f000), IOVA(0xffff_e000)])
    for device in devices {
      for buffer in buffers {
        #expect(Self.physical(kernel, device, buffer.iova) == buffer.target.lowerBound)
      }
    }
  }

  @Test(arguments: [TranslationMode.vtd, .amdvi])
  func `either number of a device leads to its domain, and no other does`(
    mode: TranslationMode
  ) throws {
    let device = Self.behindBridge[0]
    var other = device
    other.alias = nil
    let kernel = try Self.kernel(mode, [device])
    let buffer = try kernel.mapNewBuffer(byteCount: 4096, for: device, direction: .bidirectional)
    // A kernel writes an entry for either number: firmware may be wrong about the bridge.
    #expect(Self.physical(kernel, device, buffer.iova) == buffer.target.lowerBound)
    #expect(Self.physical(kernel, other, buffer.iova) == buffer.target.lowerBound)
    var stranger = device
    stranger.alias = Requester("01:03.0")
    #expect(Self.physical(kernel, stranger, buffer.iova) == nil)
  }

  @Test(arguments: [TranslationMode.vtd, .amdvi], [behindBridge, functions])
  func `the domain goes with the last of them`(
    mode: TranslationMode, devices: [Device]
  ) throws {
    let kernel = try Self.kernel(mode, devices)
    let buffers = try devices.map {
      try kernel.mapNewBuffer(byteCount: 4096, for: $0, direction: .bidirectional)
    }
    kernel.unbind(devices[0])
    #expect(Self.physical(kernel, devices[1], buffers[1].iova) == buffers[1].target.lowerBound)
    #expect(Self.physical(kernel, devices[1], buffers[0].iova) == nil)
    #expect(kernel.freedTables.isEmpty)
    kernel.unbind(devices[1])
    #expect(Self.physical(kernel, devices[1], buffers[1].iova) == nil)
    #expect(!kernel.freedTables.isEmpty)
    // And may come again.
    let again = try kernel.mapNewBuffer(
      byteCount: 4096, for: devices[0], direction: .bidirectional)
    #expect(again.iova == IOVA(0xffff_f000))
    #expect(Self.physical(kernel, devices[0], again.iova) == again.target.lowerBound)
  }

  @Test(arguments: [TranslationMode.vtd, .amdvi])
  func `the Rule is kept once in a domain, for all who have it`(mode: TranslationMode) throws {
    let kernel = try Self.kernel(mode, Self.behindBridge + Self.functions)
    let report = try kernel.applyRule()
    #expect(
      report.tables.map(\.table)
        == [.requester(PCI.Function(Self.bridge)), .requester(PCI.Function(Requester("02:00.0")!))])
    #expect(
      report.tables.map(\.sharers) == [[], [.requester(PCI.Function(Requester("02:00.1")!))]])
    for device in Self.behindBridge + Self.functions {
      #expect(Self.physical(kernel, device, IOVA(0x8ff_f000)) == PhysicalAddress(0x8ff_f000))
    }
    #expect(try kernel.applyRule().writtenEntryCount == 0)
  }

  @Test func `a domain that grows is found by all who have it`() throws {
    let kernel = try Self.kernel(.amdvi, Self.functions)
    let buffers = try Self.functions.map {
      try kernel.mapNewBuffer(byteCount: 4096, for: $0, direction: .bidirectional)
    }
    // Three levels reach 512 GiB.
    let page = PhysicalAddress(0x1_0000_0000)
    _ = try kernel.map(
      page: page, at: IOVA(1 << 40), for: Self.functions[0], direction: .bidirectional)
    for device in Self.functions {
      #expect(Self.physical(kernel, device, IOVA(1 << 40)) == page)
      #expect(Self.physical(kernel, device, buffers[1].iova) == buffers[1].target.lowerBound)
    }
  }

  @Test func `Linux 2.6.27 writes AMD's entries of a device and of its bridge`() throws {
    let kernel = try Self.kernel(
      .amdvi, Self.behindBridge,
      amdvi: AMDViConfiguration(kernel: .linux2_6_27(isolatesDevices: true)))
    let buffers = try Self.behindBridge.map {
      try kernel.mapNewBuffer(byteCount: 4096, for: $0, direction: .bidirectional)
    }
    // From the bottom of one aperture, whose first page is never given out.
    #expect(buffers.map(\.iova) == [IOVA(0x1000), IOVA(0x2000)])
    for (device, buffer) in zip(Self.behindBridge, buffers) {
      #expect(Self.physical(kernel, device, buffer.iova) == buffer.target.lowerBound)
    }
  }

  @Test func `firmware's table names the bridge that speaks for a device`() throws {
    let kernel = try Self.kernel(.amdvi, Self.behindBridge)
    let platform = try #require(kernel.amdviPlatform)
    let table = try AMDVi.IVRS(parsing: platform.ivrsTable)
    let units = table.blocks.filter { $0.type.isUnit }
    #expect(units.count == 2)
    for unit in units {
      let aliases = unit.spans.filter { $0.source != nil }
      #expect(aliases.map(\.devices) == [0x108...0x108, 0x110...0x110])
      #expect(aliases.allSatisfy { $0.source == Requester("01:00.0") })
    }
  }

  @Test func `devices of one slot lie where such devices do`() {
    let slots: [DeviceSlot] = [
      .alone(.raid), .behindBridge([.usb, .gpu]), .functions([.igb, .igb]),
    ]
    let devices = slots.devices
    #expect(
      devices.map { "\($0.device.requester)" }
        == ["01:00.0", "02:01.0", "02:02.0", "04:00.0", "04:00.1"])
    #expect(
      devices.map { $0.device.alias.map { "\($0)" } } == [nil, "02:00.0", "02:00.0", nil, nil])
    #expect(
      devices.map { $0.device.group.map { "\($0)" } } == [nil, nil, nil, "04:00.0", "04:00.0"])
    // Conventional PCI has no ATS, and what is behind a bridge is not in the root complex.
    #expect(devices[2].sources == [.graphics])
    #expect(!devices[1].isIntegrated)
  }
}
