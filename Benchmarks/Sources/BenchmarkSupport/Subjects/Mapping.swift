import CReference
import Glibc
import IOMMUFormats
import IOMMUKdump
import IOMMUTranslation
import IOMMUWorkloads

extension Subject {
  /// Writing tables: a crash kernel's identity map, and single pages through drivers.
  public static let mapping = Subject(
    "Mapping", "identity maps of 128 MiB, and pages mapped and unmapped one by one"
  ) {
    [try tceIdentityMap(), try secondStageIdentityMap(), try singlePages()]
  }
}

/// The crash kernel that is mapped to itself.
private let crashKernel = Range(start: PhysicalAddress(16 << 20), byteCount: 128 << 20)!
private let pageCount = Int(crashKernel.byteCount / 4096)

/// The entries of an identity map in a Calgary table, and the driver's whole work with them, against
/// C's stores.
private func tceIdentityMap() throws -> Comparison {
  let bus = try CalgaryBus()
  let first = Int(crashKernel.lowerBound.pageNumber)
  // A second table behind the first that nobody knows of.
  let table = PhysicalAddress(bus.driver.buses[0].table.rawValue + UInt64(CalgaryBus.pageCount) * 8)
  let bytes = bus.memory.start + Int(table.rawValue)
  let entry = Calgary.TranslationControlEntry(page: crashKernel.lowerBound, permissions: .readWrite)
  let place = PhysicalAddress(table.rawValue + UInt64(first) * 8)
  let contenders = [
    Contender("C") { reference_store_tces(bytes, UInt64(first), pageCount) },
    Contender("entries") {
      entry.storeRun(ofPages: pageCount, to: bus.memory, at: place)
    },
    Contender("driver") { bus.driver.installIdentity(first..<first + pageCount, on: 0) },
  ]
  let size = pageCount * 8
  func entries(of contender: Contender, at table: UnsafeMutablePointer<UInt8>) -> [UInt8] {
    memset(table + first * 8, 0, size)
    contender.run()
    return Array(UnsafeBufferPointer(start: table + first * 8, count: size))
  }
  let expected = entries(of: contenders[0], at: bytes)
  for (contender, table) in [(contenders[1], bytes), (contenders[2], bus.table)]
  where entries(of: contender, at: table) != expected {
    throw WrongAnswer(contender.name, "the crash kernel's TCEs")
  }
  return Comparison(
    "identity map, TCE table", unit: "page", units: pageCount, contenders: contenders,
    ratios: [Ratio("entries", to: "C", .atMost(1.2)), Ratio("driver", to: "C")],
    notes: ["the driver also marks the pages in its bitmap"])
}

/// The entries of an identity map in second-stage tables of 4 KiB pages, and the whole Rule, against
/// C's stores.
///
/// All begin with no table but the root: C and the entries with pages that are clear, the Rule with
/// a domain made anew and pages that it has to clear.
private func secondStageIdentityMap() throws -> Comparison {
  let device = Device.usual[0]
  let kernel = try PrimaryKernel(
    MachineConfiguration(
      mode: .vtd,
      map: MemoryMap(ram: MemoryMap.ram(byteCount: 1 << 30), crashKernel: [crashKernel]),
      devices: [device], pageSize: .smallest))
  let memory = try FlatMemory(byteCount: 1 << 20)
  let clear = { memory.zero(at: PhysicalAddress(0), byteCount: 1 << 20) }
  let format = VTd.SecondStageFormat(levels: 4, limits: .permissive)
  let contenders = [
    Contender("C", reset: clear) {
      var next: UInt64 = 4096
      reference_store_second_stage(
        memory.start, 0, &next, crashKernel.lowerBound.pageNumber, pageCount)
    },
    Contender("entries", reset: clear) {
      var next: UInt64 = 0
      do {
        try format.mapIdentity(crashKernel, root: PhysicalAddress(0), in: memory) {
          next += 4096
          return PhysicalAddress(next)
        }
      } catch {
        preconditionFailure("the range lies in the table: \(error)")
      }
    },
    Contender("the Rule", reset: { kernel.unbind(device) }) {
      do {
        try kernel.applyRule()
      } catch {
        preconditionFailure("the Rule could be applied before: \(error)")
      }
    },
  ]
  for contender in contenders {
    contender.reset()
    contender.run()
    let (handle, memory) =
      contender.name == "the Rule"
      ? (kernel.machine.resolve(device.requester, in: kernel.memory), kernel.memory)
      : (secondStage(at: PhysicalAddress(0)), memory)
    for page in crashKernel.lowerBound.pageNumber..<crashKernel.upperBound.pageNumber {
      let iova = IOVA(page << 12)
      guard
        case .mapped(PhysicalAddress(iova.rawValue), byteCount: 1) = handle.translate(
          iova, byteCount: 1, access: .write, in: memory)
      else { throw WrongAnswer(contender.name, "\(iova)") }
    }
  }
  return Comparison(
    "identity map, VT-d, 4 KiB", unit: "page", units: pageCount, contenders: contenders,
    ratios: [Ratio("entries", to: "C", .atMost(1.5)), Ratio("the Rule", to: "C")],
    notes: ["the Rule looks for conflicts first, clears tables and counts entries last"])
}

/// A device whose table of four levels lies at `root`.
private func secondStage(at root: PhysicalAddress) -> DeviceHandle {
  DeviceHandle(
    requester: WorkloadTables.requester,
    route: .table(
      .secondStage(
        VTd.SecondStageTable(
          root: root, format: VTd.SecondStageFormat(levels: 4, limits: .permissive),
          addressWidth: 48,
          isReported: true))))
}

/// One page mapped and unmapped again, by the kernels of the five cases.
private func singlePages() throws -> Comparison {
  let count = 1 << 10
  let near = Device(
    name: "32 address lines", requester: WorkloadTables.requester, dmaMask: 0xffff_ffff)
  // Without an IOMMU a device has to reach the buffer by itself.
  let far = Device(name: "64 address lines", requester: WorkloadTables.requester)
  let map = try MemoryMap(ram: MemoryMap.ram(byteCount: 6 << 30), crashKernel: [crashKernel])
  func contender(
    _ name: String, _ mode: TranslationMode, _ device: Device, hasQueue: Bool = false
  ) throws -> Contender {
    let kernel = try PrimaryKernel(
      MachineConfiguration(
        mode: mode, map: map, devices: [device],
        vtd: VTdConfiguration(hasInvalidationQueue: hasQueue)))
    // The top of RAM, above 4 GiB.
    guard let buffer = kernel.allocateBuffer(byteCount: 4096) else {
      throw WrongAnswer(name, "a page of RAM")
    }
    let mapped = try kernel.map(buffer, for: device, direction: .bidirectional)
    var bus = kernel.makeBus()
    let record = bus.write([0x5a], by: device, at: mapped.iova)
    guard record.hits.first?.physical?.lowerBound == mapped.target.lowerBound else {
      throw WrongAnswer(name, "a page that is mapped at \(mapped.iova)")
    }
    kernel.unmap(mapped)
    return Contender(name) {
      for _ in 0..<count {
        do {
          kernel.unmap(try kernel.map(buffer, for: device, direction: .bidirectional))
        } catch {
          preconditionFailure("the page could be mapped before: \(error)")
        }
      }
    }
  }
  let contenders = try [
    contender("nommu", .nommu, far),
    contender("swiotlb", .swiotlb, near),
    contender("GART", .gart, near),
    contender("Calgary", .calgary, near),
    contender("VT-d, registers", .vtd, near),
    contender("VT-d, queue", .vtd, near, hasQueue: true),
  ]
  return Comparison(
    "map and unmap", unit: "page", units: count, contenders: contenders,
    ratios: contenders.dropFirst().map { Ratio($0.name, to: "nommu") },
    notes: ["nommu is what the kernel's own book-keeping costs; swiotlb copies the page"])
}
