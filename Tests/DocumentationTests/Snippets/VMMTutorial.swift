import Glibc
import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import Synchronization

// docs/tutorials/vmm.md 1
/// A guest's RAM and its unit.
final class Monitor {
  let memory: FlatMemory
  let unit: RemappingUnit
  let interrupts = Interrupts()

  init(byteCount: Int) throws {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS
    let start = mmap(nil, byteCount, PROT_READ | PROT_WRITE, flags, -1, 0)
    precondition(start != MAP_FAILED, "no memory for the guest")
    let ram = UnsafeMutableRawBufferPointer(start: start, count: byteCount)
    memory = try FlatMemory(adopting: [(PhysicalAddress(0), ram)])
    let interrupts = interrupts
    unit = try RemappingUnit(.qemu, memory: memory) { message in
      interrupts.waiting.withLock { $0.append(message) }
    }
  }

  /// The guest's processor stores in the unit's window, which a DMAR table places.
  func store(_ value: UInt64, at offset: UInt64, byteCount: Int) {
    unit.write(value, at: offset, byteCount: byteCount)
  }

  /// The guest's processor loads from the window.
  func load(_ offset: UInt64, byteCount: Int) -> UInt64 {
    unit.read(offset, byteCount: byteCount)
  }
}

/// Interrupts of the unit that wait for the guest; a real monitor hands them to KVM.
final class Interrupts: Sendable {
  let waiting = Mutex<[InterruptMessage]>([])
}
// end

// docs/tutorials/vmm.md 2
/// A device that stores packets.
final class NetworkCard {
  let requester: Requester
  let memory: FlatMemory
  let port: TranslationPort

  init(_ requester: Requester, of monitor: Monitor) {
    self.requester = requester
    memory = monitor.memory
    port = monitor.unit.makePort()
  }

  /// Stores a packet where the guest wants it, and returns how many bytes were let through.
  func receive(_ packet: [UInt8], at iova: IOVA) -> Int {
    var stored = 0
    let request = DMARequest(.write, by: requester, at: iova, byteCount: UInt64(packet.count))
    port.transaction {
      request.forEachPiece(answeredBy: answer) { piece in
        guard case .mapped(let physical, _) = piece.answer else { return }
        let bytes = packet[Int(piece.offset)..<Int(piece.offset + piece.byteCount)]
        memory.write(Array(bytes), at: physical)
        stored += bytes.count
      }
    }
    return stored
  }

  /// Requests of devices that the unit does not stand above pass as they are.
  private func answer(_ request: DMARequest) -> Translation {
    port.translate(request, in: memory)
      ?? .mapped(PhysicalAddress(request.address.rawValue), byteCount: request.byteCount)
  }
}
// end

extension Snippet {
  static let vmm = Snippet(
    page: "docs/tutorials/vmm.md", source: "VMMTutorial", count: 6,
    run: { tell, next in
      next()
      next()
      // docs/tutorials/vmm.md 3
      let monitor = try Monitor(byteCount: 64 << 20)
      let guest = try VTd.Tables(in: monitor.memory)
      let first = PhysicalAddress(0x20_0000)..<PhysicalAddress(0x20_1000)
      let second = PhysicalAddress(0x30_0000)..<PhysicalAddress(0x30_1000)
      try guest.map("00:04.0", at: IOVA(0xffff_0000), first, .write)
      try guest.map("00:04.0", at: IOVA(0xffff_1000), second, .write)

      monitor.store(guest.rootTableAddress.rawValue, at: 0x20, byteCount: 8)  // RTADDR_REG
      monitor.store(0x4000_0000, at: 0x18, byteCount: 4)  // GCMD_REG: SRTP
      monitor.store(0x0000_0031, at: 0x3c, byteCount: 4)  // FEDATA_REG: vector 0x31
      monitor.store(0xfee0_0000, at: 0x40, byteCount: 4)  // FEADDR_REG
      monitor.store(0x0000_0000, at: 0x38, byteCount: 4)  // FECTL_REG: not masked
      monitor.store(0x8000_0000, at: 0x18, byteCount: 4)  // GCMD_REG: TE
      tell("GSTS_REG 0x\(String(monitor.load(0x1c, byteCount: 4), radix: 16))")
      // GSTS_REG 0xc0000000
      // end
      next()
      // docs/tutorials/vmm.md 4
      let card = NetworkCard(Requester("00:04.0")!, of: monitor)
      let packet = [UInt8](repeating: 0xab, count: 1500)
      tell("\(card.receive(packet, at: IOVA(0xffff_0c00))) bytes")
      // 1500 bytes
      tell(monitor.memory.bytes(at: PhysicalAddress(0x20_0fff), count: 1)!)
      // [171]
      tell(monitor.memory.bytes(at: PhysicalAddress(0x30_0000), count: 1)!)
      // [171]
      // end
      next()
      // docs/tutorials/vmm.md 5
      tell("\(card.receive(packet, at: IOVA(0xdead_0000))) bytes")
      // 0 bytes
      for message in monitor.interrupts.waiting.withLock({ $0 }) {
        tell("vector 0x\(String(message.data, radix: 16))")
        // vector 0x31
      }
      let record = VTd.FaultRecord(
        low: monitor.load(0x220, byteCount: 8), high: monitor.load(0x228, byteCount: 8))
      tell("fault \(record.reason.rawValue) of \(record.requester)")
      // fault 5 of 00:04.0
      // end
      next()
      // docs/tutorials/vmm.md 6
      try guest.unmap("00:04.0", IOVA(0xffff_0000)..<IOVA(0xffff_1000))
      tell("before the invalidation: \(card.receive([1], at: IOVA(0xffff_0000))) byte")
      // before the invalidation: 1 byte
      monitor.store(0x9000_0000_0000_0000, at: 0xf8, byteCount: 8)  // IOTLB_REG: global
      tell("after it: \(card.receive([1], at: IOVA(0xffff_0000))) bytes")
      // after it: 0 bytes
      // end
      next()
    })
}
