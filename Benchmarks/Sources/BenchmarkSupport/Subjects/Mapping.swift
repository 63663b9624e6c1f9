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

/// The Calgary driver's identity map against C's stores.
private func tceIdentityMap() throws -> Comparison {
  let bus = try CalgaryBus()
  let first = Int(crashKernel.lowerBound.pageNumber)
  let contenders = [
    Contender("C") { reference_store_tces(bus.spareTable, UInt64(first), pageCount) },
    Contender("driver") { bus.driver.installIdentity(first..<first + pageCount, on: 0) },
  ]
  for contender in contenders { contender.run() }
  guard memcmp(bus.table + first * 8, bus.spareTable + first * 8, pageCount * 8) == 0 else {
    throw WrongAnswer("driver", "the crash kernel's TCEs")
  }
  return Comparison(
    "identity map, TCE table", unit: "page", units: pageCount, contenders: contenders,
    ratios: [Ratio("driver", to: "C", .atMost(1.2))])
}

/// The Rule on VT-d with pages of 4 KiB against C's stores.
///
/// The device's domain is made anew each time: both begin with no table, the driver with pages that
/// it has to clear, C with pages that are clear.
private func secondStageIdentityMap() throws -> Comparison {
  let device = Device.usual[0]
  let kernel = try PrimaryKernel(
    MachineConfiguration(
      mode: .vtd,
      map: MemoryMap(ram: MemoryMap.ram(byteCount: 1 << 30), crashKernel: [crashKernel]),
      devices: [device], pageSize: .smallest))
  let memory = try FlatMemory(byteCount: 1 << 20)
  let (root, tables) = (UInt64(0), UInt64(4096))
  let contenders = [
    Contender("C", reset: { memory.zero(at: PhysicalAddress(0), byteCount: 1 << 20) }) {
      var next = tables
      reference_store_second_stage(
        memory.start, root, &next, crashKernel.lowerBound.pageNumber, pageCount)
    },
    Contender("the Rule", reset: { kernel.unbind(device) }) {
      do {
        try kernel.applyRule()
      } catch {
        preconditionFailure("the Rule could be applied before: \(error)")
      }
    },
  ]
  for contender in contenders { contender.run() }
  let handles = [
    ("C", secondStage(at: PhysicalAddress(root)), memory),
    ("the Rule", kernel.machine.resolve(device.requester, in: kernel.memory), kernel.memory),
  ]
  for (name, handle, memory) in handles {
    for address in crashKernel.lowerBound.pageNumber..<crashKernel.upperBound.pageNumber {
      let iova = IOVA(address << 12)
      guard
        case .mapped(PhysicalAddress(iova.rawValue), byteCount: 1) = handle.translate(
          iova, byteCount: 1, access: .write, in: memory)
      else { throw WrongAnswer(name, "\(iova)") }
    }
  }
  return Comparison(
    "identity map, VT-d, 4 KiB", unit: "page", units: pageCount, contenders: contenders,
    ratios: [Ratio("the Rule", to: "C", .atMost(1.5))],
    notes: ["the Rule looks for conflicts first and counts entries last; C only stores"])
}

/// A device whose table of four levels lies at `root`.
private func secondStage(at root: PhysicalAddress) -> DeviceHandle {
  DeviceHandle(
    requester: WorkloadTables.requester,
    route: .secondStage(
      SecondStageTable(
        root: root, format: SecondStageFormat(levels: 4, limits: .permissive), addressWidth: 48,
        isReported: true)))
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
        mode: mode, map: map, devices: [device], hasInvalidationQueue: hasQueue))
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
