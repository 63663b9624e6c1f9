import IOMMUFormats
import IOMMUTranslation

/// What one DMA access came to, judged by the bytes.
public enum Outcome: String, Sendable, CaseIterable, Codable {
  /// It reached the buffer it was meant for and nothing else.
  case own = "OWN"
  /// It changed or read other memory of the primary kernel: the dump is falsified.
  case smear = "SMEAR"
  /// It changed memory of the crash kernel that it was not meant for.
  case kill = "KILL"
  /// No memory answered: a master abort, reads give all ones.
  case masterAbort = "MA"
  /// The IOMMU stopped it and recorded a fault.
  case blockedRecorded = "BLK-F"
  /// The IOMMU stopped it and nothing tells of it.
  case blockedSilently = "BLK-S"
  /// DMA of the kdump kernel that went through a leftover mapping to old memory.
  case alias = "ALIAS"
  /// The kernel could not hand the buffer to the device at all.
  case notMapped = "NOMAP"

  /// In a few words.
  public var meaning: String {
    switch self {
    case .own: "reached its own buffer"
    case .smear: "reached other memory of the primary kernel"
    case .kill: "reached the crash kernel"
    case .masterAbort: "reached no memory"
    case .blockedRecorded: "blocked, fault recorded"
    case .blockedSilently: "blocked, nothing recorded"
    case .alias: "went through a leftover mapping to old memory"
    case .notMapped: "could not be mapped for the device"
    }
  }
}

extension Outcome {
  /// Decides by the bytes what an access came to.
  ///
  /// - Parameters:
  ///   - target: Where the access was meant to end.
  ///   - isDelivered: Whether the bytes that were meant to arrive have arrived.
  ///   - isKdump: The access is one of the kdump kernel's own.
  public init(
    of record: DMARecord, target: Range<PhysicalAddress>, isDelivered: Bool, map: MemoryMap,
    isKdump: Bool
  ) {
    let reached = record.hits.compactMap(\.physical)
    let astray = reached.filter {
      $0.lowerBound < target.lowerBound || target.upperBound < $0.upperBound
    }
    if let stray = astray.first(where: { map.crashKernelOverlaps($0) }) ?? astray.first {
      self = map.crashKernelOverlaps(stray) ? .kill : isKdump ? .alias : .smear
    } else if let fault = record.fault {
      self = fault.isRecorded ? .blockedRecorded : .blockedSilently
    } else if reached.isEmpty || reached.count != record.hits.count {
      self = .masterAbort
    } else {
      self = isDelivered ? .own : .smear
    }
  }
}

/// One run of bytes that a DMA access reached.
public struct Hit: Sendable, Equatable {
  public var iova: Range<IOVA>
  /// `nil` where the access was stopped or no memory answered.
  public var physical: Range<PhysicalAddress>?
  /// Bytes that hold something else than before; 0 for reads.
  public var changedByteCount: Int
  public var fault: Fault?
}

/// One DMA access of a device and all that it did, byte by byte.
public struct DMARecord: Sendable {
  public var requester: Requester
  public var access: Access
  public var hits: [Hit]
  /// What a read brought back; all ones where nothing answered.
  public var bytesRead: [UInt8]

  /// The first fault of the access.
  public var fault: Fault? { hits.lazy.compactMap(\.fault).first }
}

/// The I/O side of the machine: carries DMA of devices through the IOMMU to memory.
///
/// It knows the units and the memory, nothing of any kernel.
public struct DMABus {
  public let memory: FlatMemory
  private let path: Path
  /// Every access so far, in order.
  public private(set) var log: [DMARecord] = []

  /// What stands between devices and memory.
  private enum Path {
    /// Units as their registers stand; they remember nothing.
    case machine(Machine)
    /// A unit with caches, fault records and registers that may change.
    case platform(RemappingPlatform)
  }

  public init(memory: FlatMemory, machine: Machine) {
    self.memory = memory
    path = .machine(machine)
  }

  public init(memory: FlatMemory, platform: RemappingPlatform) {
    self.memory = memory
    path = .platform(platform)
  }

  /// Translates the first part of a request that is left.
  private func translate(
    _ device: Device, _ address: IOVA, byteCount: UInt64, access: Access
  ) -> Translation {
    switch path {
    case .machine(let machine):
      machine.resolve(device.requester, dmaMask: device.dmaMask, in: memory)
        .translate(address, byteCount: byteCount, access: access, in: memory)
    case .platform(let platform):
      platform.translate(device, address, byteCount: byteCount, access: access)
    }
  }

  /// The device writes `bytes` at `iova`.
  @discardableResult
  public mutating func write(_ bytes: [UInt8], by device: Device, at iova: IOVA) -> DMARecord {
    access(.write, by: device, at: iova, byteCount: bytes.count) { memory, address, range in
      bytes.withUnsafeBytes { source in
        let new = UnsafeRawBufferPointer(rebasing: source[range])
        let changed = memory.bytes(at: address, count: range.count).map {
          $0.withUnsafeBytes { differingByteCount($0, new) }
        }
        _ = memory.write(new, at: address)
        return (changed ?? 0, [])
      }
    }
  }

  /// The device reads `byteCount` bytes at `iova`.
  @discardableResult
  public mutating func read(_ byteCount: Int, by device: Device, at iova: IOVA) -> DMARecord {
    access(.read, by: device, at: iova, byteCount: byteCount) { memory, address, range in
      (0, memory.bytes(at: address, count: range.count) ?? [])
    }
  }

  /// The numbers of a part of a request. No range holds the last number of all: one that would
  /// ends before it.
  private static func run(from address: IOVA, byteCount: UInt64) -> Range<IOVA> {
    address..<(address.advanced(byBytes: byteCount) ?? IOVA(.max))
  }

  private mutating func access(
    _ access: Access, by device: Device, at iova: IOVA, byteCount: Int,
    transfer: (FlatMemory, PhysicalAddress, Range<Int>) -> (changed: Int, read: [UInt8])
  ) -> DMARecord {
    precondition(byteCount > 0, "a DMA access has at least one byte")
    var record = DMARecord(
      requester: device.requester, access: access, hits: [],
      bytesRead: access == .read ? [UInt8](repeating: 0xff, count: byteCount) : [])
    var done = 0
    while done < byteCount {
      guard let address = iova.advanced(byBytes: UInt64(done)) else { break }
      let rest = UInt64(byteCount - done)
      switch translate(device, address, byteCount: rest, access: access) {
      case .mapped(let physical, let granted):
        // What leaves RAM is cut there, so that a run is either all memory or none.
        let run = memory.run(at: physical, byteCount: granted)
        let length = Int(run.byteCount)
        var hit = Hit(
          iova: Self.run(from: address, byteCount: run.byteCount), physical: nil,
          changedByteCount: 0, fault: nil)
        if run.isBacked {
          let result = transfer(memory, physical, done..<(done + length))
          hit.changedByteCount = result.changed
          hit.physical = physical..<PhysicalAddress(physical.rawValue + run.byteCount)
          if access == .read {
            record.bytesRead.replaceSubrange(done..<(done + result.read.count), with: result.read)
          }
        }
        record.hits.append(hit)
        done += length
      case .interruptMessage:
        record.hits.append(
          Hit(
            iova: Self.run(from: address, byteCount: rest), physical: nil, changedByteCount: 0,
            fault: nil))
        done = byteCount
      case .fault(let fault):
        // The platform splits at 4 KiB; each part is stopped by itself.
        let length = min(rest, PageCount.pageByteCount - address.offsetInPage)
        record.hits.append(
          Hit(
            iova: Self.run(from: address, byteCount: length), physical: nil, changedByteCount: 0,
            fault: fault))
        done += Int(length)
      }
    }
    log.append(record)
    return record
  }
}

/// How many bytes of two runs of the same length differ.
func differingByteCount(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Int {
  precondition(left.count == right.count, "only runs of one length are compared")
  var count = 0
  var index = 0
  // A plain loop: megabytes of it run in every crash, and iterators are slow in debug builds.
  while index < left.count {
    if left[index] != right[index] { count &+= 1 }
    index &+= 1
  }
  return count
}

extension FlatMemory {
  /// How far the bytes from `address` are alike: all RAM, or all without an answer.
  func run(at address: PhysicalAddress, byteCount: UInt64) -> (isBacked: Bool, byteCount: UInt64) {
    if let range = ram.first(where: { $0.contains(address) }) {
      return (true, min(byteCount, range.upperBound.rawValue - address.rawValue))
    }
    let next = ram.first { $0.lowerBound > address }
    return (
      false, min(byteCount, next.map { $0.lowerBound.rawValue - address.rawValue } ?? byteCount)
    )
  }
}
