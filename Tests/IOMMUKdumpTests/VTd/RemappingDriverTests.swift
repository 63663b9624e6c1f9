import IOMMUFormats
import IOMMUHardware
import IOMMUKdump
import IOMMUTranslation
import Testing

/// The primary kernel and its unit: found through DMAR, programmed through registers, invalidated.
@Suite struct RemappingDriverTests {
  static let disk = Device.usual[0]

  static func kernel(
    hasQueue: Bool, caches: CacheConfiguration = .everything
  ) throws -> PrimaryKernel {
    let ram = try MemoryMap.ram(byteCount: 1 << 30)
    let map = try MemoryMap(
      ram: ram, crashKernel: [try MemoryMap.place(crashKernelOf: 64 << 20, in: ram)])
    return try PrimaryKernel(
      MachineConfiguration(
        mode: .vtd, map: map,
        vtd: VTdConfiguration(hasInvalidationQueue: hasQueue, caches: caches)))
  }

  @Test func `firmware's table names one unit for all devices`() throws {
    let platform = try #require(try Self.kernel(hasQueue: false).platform)
    let table = try VTd.DMAR(parsing: platform.dmarTable)
    #expect(table.findings == [])
    #expect(table.platform.hostAddressWidth == 52)
    #expect(table.hardwareUnits.map(\.base) == [PhysicalAddress(0xfed9_0000)])
    #expect(table.hardwareUnits.map(\.includesAllPCI) == [true])
    let hardware = RemappingHardware(table, topologies: [platform.topology])
    for device in Device.usual {
      #expect(platform.topology.function(at: device.requester) != nil)
      #expect(hardware.unit(of: device.requester)?.base == PhysicalAddress(0xfed9_0000))
    }
  }

  @Test(arguments: [false, true])
  func `the kernel has switched its unit on`(hasQueue: Bool) throws {
    let kernel = try Self.kernel(hasQueue: hasQueue)
    let registers = try #require(kernel.platform?.registers(at: RemappingPlatform.base))
    // TES, RTPS, and QIES where there is a queue.
    #expect(registers.read(0x01c, byteCount: 4) == (hasQueue ? 0xc400_0000 : 0xc000_0000))
    guard let unit = kernel.machine.units[0].as(VTd.Unit.self) else { return }
    #expect(registers.read(0x020, byteCount: 8) == unit.rootTableAddress.rawValue)
    #expect(unit.base == PhysicalAddress(0xfed9_0000))
    // The queue is empty: every descriptor has been executed.
    #expect(registers.read(0x080, byteCount: 8) == registers.read(0x088, byteCount: 8))
    #expect(kernel.platform?.registers(at: PhysicalAddress(0xfed9_1000)) == nil)
  }

  @Test(arguments: [false, true])
  func `what was unmapped is forgotten by a unit that keeps everything`(hasQueue: Bool) throws {
    let kernel = try Self.kernel(hasQueue: hasQueue)
    var bus = kernel.makeBus()
    for byteCount: UInt64 in [4096, 12_288, 65_536, 1500] {
      let buffer = try kernel.mapNewBuffer(
        byteCount: byteCount, for: Self.disk, direction: .fromDevice)
      let bytes = [UInt8](repeating: 0x5a, count: Int(byteCount))
      #expect(bus.write(bytes, by: Self.disk, at: buffer.iova).fault == nil)
      kernel.unmap(buffer)
      let last = IOVA(buffer.iova.rawValue + byteCount - 1)
      for iova in [buffer.iova, last] {
        #expect(
          bus.write([1], by: Self.disk, at: iova).fault
            == .vtd(.writeNotPermitted, isRecorded: true))
      }
    }
  }

  @Test(arguments: [false, true])
  func `a device that was unbound is forgotten with its context entry`(hasQueue: Bool) throws {
    let kernel = try Self.kernel(hasQueue: hasQueue)
    var bus = kernel.makeBus()
    let buffer = try kernel.mapNewBuffer(
      byteCount: 4096, for: Self.disk, direction: .bidirectional)
    #expect(bus.write([1], by: Self.disk, at: buffer.iova).fault == nil)
    kernel.unbind(Self.disk)
    #expect(
      bus.write([1], by: Self.disk, at: buffer.iova).fault
        == .vtd(.contextEntryNotPresent, isRecorded: true))
  }

  @Test func `two devices never have one domain-id`() throws {
    let kernel = try Self.kernel(hasQueue: false)
    let (disk, nic, controller) = (Device.usual[0], Device.usual[1], Device.usual[2])
    for device in [disk, nic] {
      _ = try kernel.mapNewBuffer(byteCount: 4096, for: device, direction: .fromDevice)
    }
    // The id that the disk gives back is free, the NIC's is not.
    kernel.unbind(disk)
    let mapped = try [controller, disk].map {
      try kernel.mapNewBuffer(byteCount: 4096, for: $0, direction: .fromDevice)
    }
    guard let unit = kernel.machine.units[0].as(VTd.Unit.self) else { return }
    let ids = try [disk, nic, controller].map { device -> UInt16 in
      let table = try #require(
        unit.contextTable(of: device.requester, in: kernel.memory))
      return try #require(
        VTd.ContextEntry(
          from: kernel.memory,
          at: VTd.Unit.contextEntryAddress(
            in: table, deviceFunction: device.requester.deviceFunction))
      ).domainID
    }
    #expect(ids == [3, 2, 1])
    // The same number of two devices ends in two buffers.
    #expect(mapped[0].iova == mapped[1].iova)
    var bus = kernel.makeBus()
    for buffer in mapped {
      let record = bus.write([1], by: buffer.device, at: buffer.iova)
      #expect(record.hits.first?.physical?.lowerBound == buffer.target.lowerBound)
    }
  }

  @Test(arguments: [false, true])
  func `through the unit and by its registers alone the answers are the same`(
    hasQueue: Bool
  ) throws {
    let kernel = try Self.kernel(hasQueue: hasQueue)
    try kernel.applyRule()
    var bus = kernel.makeBus()
    let machine = kernel.machine
    let buffer = try kernel.mapNewBuffer(
      byteCount: 9000, for: Self.disk, direction: .fromDevice)
    for device in Device.usual {
      for iova: UInt64 in [
        buffer.iova.rawValue, buffer.iova.rawValue + 8999, 0x100_0000, 0x200_0fff, 0x7000_0000,
        0xfee0_0000, 0x1_0000_0000, 1 << 48, .max,
      ] {
        let direct = machine.translate(
          device.requester, IOVA(iova), access: .write, in: kernel.memory)
        guard iova <= device.dmaMask, case .fault(let fault) = direct else { continue }
        #expect(bus.write([0], by: device, at: IOVA(iova)).fault == fault, "\(device.name)")
      }
    }
  }

  @Test func `a capture kernel without memory for its tables says so`() throws {
    let kernel = try Self.kernel(hasQueue: false)
    let page = PhysicalAddress(0x100_0000)..<PhysicalAddress(0x100_1000)
    let capture = try VTdCaptureKernel(
      .copy, of: Self.disk, on: kernel.platform!, memory: kernel.memory, crashKernel: [page])
    _ = try kernel.mapNewBuffer(byteCount: 4096, for: Self.disk, direction: .fromDevice)
    #expect(throws: SetUpError.outOfMemory(what: "a VT-d context table")) {
      try capture.takeOver()
    }
  }
}
