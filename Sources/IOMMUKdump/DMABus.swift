import IOMMUFormats
import IOMMUHardware
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
  ///   - record: The access, and all that it did.
  ///   - target: Where the access was meant to end.
  ///   - isDelivered: Whether the bytes that were meant to arrive have arrived.
  ///   - map: Says which memory is the crash kernel's.
  ///   - isKdump: The access is one of the kdump kernel's own.
  public init(
    of record: DMARecord, target: Range<PhysicalAddress>, isDelivered: Bool, map: MemoryMap,
    isKdump: Bool
  ) {
    let reached = record.hits.compactMap(\.physical)
    let astray = reached.filter {
      $0.lowerBound < target.lowerBound || target.upperBound < $0.upperBound
    }
    if !isKdump, reached.contains(where: { map.crashKernelOverlaps($0) }) {
      // Also where it was meant to: the buffer was the old kernel's, and the memory is not any more.
      self = .kill
    } else if let stray = astray.first(where: { map.crashKernelOverlaps($0) }) ?? astray.first {
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

/// A write under way: translated, and not yet arrived.
public struct DMAInFlight: Sendable {
  public var requester: Requester
  public var bytes: [UInt8]
  var pieces: [DMAPiece] = []
}

/// The I/O side of the machine: carries DMA of devices through live units to memory.
///
/// It knows the units and the memory, nothing of any kernel. What caches of the units remember from
/// before a crash takes part in what comes after it.
public struct DMABus {
  public let memory: FlatMemory
  /// What stands between devices and memory: the first that stands above a device translates its
  /// requests. A request of a device that is below none of them passes.
  public let ports: [any DMAPort]
  /// Every access so far, in order.
  public private(set) var log: [DMARecord] = []

  public init(memory: FlatMemory, ports: [any DMAPort] = []) {
    self.memory = memory
    self.ports = ports
  }

  /// Translates the first piece of a request; what leaves RAM is cut there, so that a piece is either
  /// all memory or none.
  private func translate(_ request: DMARequest, of device: Device) -> Translation {
    // A device does not put an address on the bus that it has no lines for.
    guard request.address.rawValue <= device.dmaMask else { return .fault(.beyondDeviceMask) }
    var request = request
    let toMask = device.dmaMask - request.address.rawValue
    if request.byteCount - 1 > toMask { request.byteCount = toMask + 1 }
    let answer = answer(to: request)
    guard case .mapped(let physical, let byteCount) = answer else { return answer }
    return .mapped(physical, byteCount: memory.lengthAlike(from: physical, atMost: byteCount))
  }

  private func answer(to request: DMARequest) -> Translation {
    for port in ports {
      if let answer = port.translate(request, in: memory) { return answer }
    }
    return .mapped(PhysicalAddress(request.address.rawValue), byteCount: request.byteCount)
  }

  /// The device writes `bytes` at `iova`.
  @discardableResult
  public mutating func write(_ bytes: [UInt8], by device: Device, at iova: IOVA) -> DMARecord {
    finish(start(bytes, by: device, at: iova))
  }

  /// The device reads `byteCount` bytes at `iova`.
  @discardableResult
  public mutating func read(_ byteCount: Int, by device: Device, at iova: IOVA) -> DMARecord {
    precondition(byteCount > 0, "a DMA access has at least one byte")
    let request = DMARequest(
      .read, by: device.sourceID, at: iova, byteCount: UInt64(byteCount))
    var record = DMARecord(
      requester: device.sourceID, access: .read, hits: [],
      bytesRead: [UInt8](repeating: 0xff, count: byteCount))
    request.forEachPiece(answeredBy: { translate($0, of: device) }) { piece in
      let first = Int(piece.offset)
      record.hits.append(
        hit(piece) { physical in
          // Safe: the piece is a part of the request, whose bytes these are.
          unsafe record.bytesRead.withUnsafeMutableBytes { bytes in
            let part = unsafe UnsafeMutableRawBufferPointer(
              rebasing: bytes[first..<(first + Int(piece.byteCount))])
            _ = unsafe memory.read(at: physical, into: part)
          }
          return 0
        })
    }
    log.append(record)
    return record
  }

  /// The device starts to write `bytes` at `iova`: its requests are translated now, and the data is on
  /// its way until ``finish(_:)``.
  public mutating func start(_ bytes: [UInt8], by device: Device, at iova: IOVA) -> DMAInFlight {
    precondition(!bytes.isEmpty, "a DMA access has at least one byte")
    let request = DMARequest(
      .write, by: device.sourceID, at: iova, byteCount: UInt64(bytes.count))
    var flight = DMAInFlight(requester: device.sourceID, bytes: bytes)
    request.forEachPiece(answeredBy: { translate($0, of: device) }) { flight.pieces.append($0) }
    return flight
  }

  /// The data of a write arrives where its requests were translated to.
  @discardableResult
  public mutating func finish(_ flight: DMAInFlight) -> DMARecord {
    var record = DMARecord(
      requester: flight.requester, access: .write, hits: [], bytesRead: [])
    for piece in flight.pieces {
      let first = Int(piece.offset)
      record.hits.append(
        hit(piece) { [memory] physical in
          // Safe: the piece is a part of the request, whose bytes these are.
          unsafe flight.bytes.withUnsafeBytes { bytes in
            unsafe memory.exchange(
              UnsafeRawBufferPointer(rebasing: bytes[first..<(first + Int(piece.byteCount))]),
              at: physical)
          }
        })
    }
    log.append(record)
    return record
  }

  /// The device writes `bytes` to a physical address that it holds from before (PCIe ATS): no table is
  /// looked at.
  @discardableResult
  public mutating func write(
    _ bytes: [UInt8], by device: Device, translated physical: PhysicalAddress
  ) -> DMARecord {
    let request = DMARequest(
      .write, by: device.sourceID, at: IOVA(physical.rawValue), byteCount: UInt64(bytes.count))
    var fault: Fault?
    for port in ports where fault == nil { fault = port.refuses(translated: request, in: memory) }
    let piece = DMAPiece(
      address: request.address, offset: 0, byteCount: request.byteCount,
      answer: fault.map { .fault($0) } ?? .mapped(physical, byteCount: request.byteCount))
    return finish(DMAInFlight(requester: device.sourceID, bytes: bytes, pieces: [piece]))
  }

  /// What becomes of a piece.
  ///
  /// - Parameter transfer: Moves the data, and gives how many bytes of memory are others than before.
  private func hit(_ piece: DMAPiece, transfer: (PhysicalAddress) -> Int) -> Hit {
    var hit = Hit(iova: piece.iovas, physical: nil, changedByteCount: 0, fault: nil)
    switch piece.answer {
    case .mapped(let physical, _) where memory.isBacked(physical, byteCount: 1):
      hit.changedByteCount = transfer(physical)
      hit.physical = physical..<PhysicalAddress(physical.rawValue + piece.byteCount)
    case .mapped, .interruptMessage: break
    case .fault(let fault): hit.fault = fault
    }
    return hit
  }
}

extension FlatMemory {
  /// How far the bytes from `address` are alike: all RAM, or all without an answer.
  fileprivate func lengthAlike(from address: PhysicalAddress, atMost byteCount: UInt64) -> UInt64 {
    let end =
      ram.first { $0.contains(address) }?.upperBound
      ?? ram.first { address < $0.lowerBound }?.lowerBound
    return end.map { min(byteCount, $0.rawValue - address.rawValue) } ?? byteCount
  }
}
