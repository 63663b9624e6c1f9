import IOMMUFormats
import IOMMUImages
import IOMMUTranslation

/// Walks arbitrary memory with arbitrary registers.
///
/// The first 64 bytes of the expanded input are registers and requests; memory is the rest, from
/// address 0.
enum WalkExercise {
  private static let registerByteCount = 64

  static func run(_ input: UnsafeRawBufferPointer) {
    let bytes = SparseBytes.expanded(input)
    guard bytes.count > registerByteCount else { return }
    let words = (0..<8).map { index in
      bytes[8 * index..<8 * index + 8].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    }
    let memory = ByteMemory(bytes: Array(bytes[registerByteCount...]))
    guard let machine = machine(words) else { return }
    let byteCount = max(1, words[0] >> 52)
    let requester = Requester(rawValue: UInt16(truncatingIfNeeded: words[0] >> 16))
    for handle in [
      machine.resolve(requester, in: memory),
      machine.resolve(
        requester, pasid: PASID(UInt32(truncatingIfNeeded: words[0] >> 32) & 0xf_ffff), in: memory),
    ] {
      for iova in [words[6], words[7], words[6] & 0xffff_ffff, 0] {
        for access in [Access.read, .write] {
          check(
            handle.translate(IOVA(iova), byteCount: byteCount, access: access, in: memory))
        }
      }
    }
    var budget = EnumerationBudget(remainingTables: 128)
    for table in machine.tables(in: memory).tables.prefix(4)
    where entryCount(of: table) <= entryLimit {
      for run in machine.mappings(of: table, in: memory, budget: &budget).runs {
        require(!run.iova.isEmpty, "a run maps a byte")
      }
    }
  }

  /// Tables of one level may have a million entries, most of them beyond the memory.
  private static let entryLimit: UInt64 = 16_384

  static func entryCount(of table: DMATable) -> UInt64 {
    func count(_ table: some IOTable) -> UInt64 {
      table.format.entryCount(level: table.format.levels)
    }
    return table.table.map { count($0.any) } ?? 0
  }

  private static func check(_ translation: Translation) {
    if case .mapped(_, let byteCount) = translation {
      require(byteCount > 0, "a mapping has a byte")
    }
    if case .fault(let fault) = translation {
      require(!fault.meaning.isEmpty, "a fault has a meaning")
    }
  }

  /// A unit of the kind that the first byte chooses, with the words as its registers.
  private static func machine(_ words: [UInt64]) -> Machine? {
    let unit: MachineFile.Unit
    switch words[0] & 3 {
    case 0, 1:
      unit = .vtd(
        base: PhysicalAddress(0xfed9_0000),
        registers: [
          0x008: words[1], 0x010: words[2], 0x01c: words[3] & 0xffff_ffff | 0x8000_0000,
          0x020: words[4],
        ])
    case 2:
      unit = .calgary(
        words[0] & 4 == 0 ? .calgary : .calioc2, base: PhysicalAddress(0xfe00_0000),
        registers: [
          0x580: words[1], 0x308: words[2], 0x318: words[3], 0x320: words[4], 0x328: words[5],
        ])
    default:
      unit = .gart(
        device: Requester(bus: 0, device: 0x18, function: 3),
        registers: [
          0x90: words[1] & 0xffff_ffff, 0x94: words[2] & 0xffff_ffff, 0x98: words[3] & 0xffff_ffff,
        ])
    }
    return try? MachineFile(name: "fuzz", units: [unit]).machine()
  }
}

/// Bytes at an address, and nothing else.
struct ByteMemory: PhysicalMemory {
  let bytes: [UInt8]
  var base: UInt64 = 0

  func quadword(at address: PhysicalAddress) -> UInt64? { word(at: address) }
  func doubleword(at address: PhysicalAddress) -> UInt32? { word(at: address) }

  private func word<Word: FixedWidthInteger>(at address: PhysicalAddress) -> Word? {
    let size = MemoryLayout<Word>.size
    let offset = address.rawValue &- base
    guard address.rawValue >= base, bytes.count >= size, offset <= UInt64(bytes.count - size) else {
      return nil
    }
    return bytes.withUnsafeBytes {
      Word(littleEndian: $0.loadUnaligned(fromByteOffset: Int(offset), as: Word.self))
    }
  }

  func read(at address: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer) -> Int {
    guard address.rawValue >= base, address.rawValue - base < UInt64(bytes.count) else { return 0 }
    let start = Int(address.rawValue - base)
    let count = min(buffer.count, bytes.count - start)
    buffer.copyBytes(from: bytes[start..<start + count])
    return count
  }

  var backedRanges: [Range<PhysicalAddress>] {
    bytes.isEmpty ? [] : [PhysicalAddress(base)..<PhysicalAddress(base + UInt64(bytes.count))]
  }
}
