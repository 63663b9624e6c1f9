extension Calgary {
  /// The extended BIOS data area (EBDA), where xSeries firmware leaves the Rio table.
  ///
  /// A list of blocks: each begins with the offset of the next one and with a mark. An offset that
  /// does not grow ends the list, so that no list goes round for ever.
  ///
  /// Source: Linux `bios_ebda.h`, `pci-calgary_64.c`.
  public enum ExtendedBIOSData {
    /// Where the first MiB keeps the area's segment, 16 bits.
    public static let segmentAddress = PhysicalAddress(0x40e)
    /// Where Linux begins to walk the list, in bytes from the area's start.
    public static let firstBlock: UInt16 = 0x180
    /// The mark of the block that the Rio table follows: bytes 52 47.
    public static let rioMark: UInt16 = 0x4752
    /// Where the model puts the area: the last page below 640 KiB.
    public static let usualBase = PhysicalAddress(0x9_f000)

    /// The area's first byte, by the segment in the first MiB; 0 where firmware has left none.
    ///
    /// - Throws: ``RioTableError/unreadable(_:)`` when the segment is not there.
    public static func base(in memory: some PhysicalMemory) throws(RioTableError) -> PhysicalAddress
    {
      PhysicalAddress(UInt64(try word(at: segmentAddress.rawValue, in: memory)) << 4)
    }

    /// Finds the Rio table as a kernel does.
    ///
    /// - Parameters:
    ///   - memory: Physical memory with the first MiB.
    ///   - nodeLimit: More scalability nodes than this are refused.
    /// - Returns: The table, and its first byte's address.
    /// - Throws: ``RioTableError`` when there is none, or none that can be used.
    /// - Complexity: At most one look at each of the area's 64 Ki offsets.
    public static func rioTable(
      in memory: some PhysicalMemory, nodeLimit: Int = 64
    ) throws(RioTableError) -> (table: RioTable, address: PhysicalAddress) {
      let base = try base(in: memory).rawValue
      var previous: UInt16 = 0
      var block = firstBlock
      while block > previous {
        let start = base + UInt64(block)
        if try word(at: start + 2, in: memory) == rioMark {
          let address = PhysicalAddress(start + 4)
          return (try table(at: address, in: memory, nodeLimit), address)
        }
        previous = block
        block = try word(at: start, in: memory)
      }
      throw .notFound(lastBlock: previous)
    }

    private static func table(
      at start: PhysicalAddress, in memory: some PhysicalMemory, _ nodeLimit: Int
    ) throws(RioTableError) -> RioTable {
      let limit = RioTable.byteCountLimit
      // Safe: as many bytes count as initialized as were copied.
      let bytes = unsafe [UInt8](unsafeUninitializedCapacity: limit) { buffer, count in
        count = unsafe memory.copyBytes(from: start, to: UnsafeMutableRawBufferPointer(buffer))
      }
      return try RioTable(bytes: bytes, nodeLimit: nodeLimit)
    }

    private static func word(
      at address: UInt64, in memory: some PhysicalMemory
    ) throws(RioTableError) -> UInt16 {
      guard let bytes = memory.bytes(at: PhysicalAddress(address), count: 2) else {
        throw .unreadable(PhysicalAddress(address))
      }
      return UInt16(bytes[0]) | UInt16(bytes[1]) << 8
    }

    /// Leaves a Rio table in memory, as firmware does.
    ///
    /// - Parameters:
    ///   - table: What is stored, as its ``RioTable/bytes``.
    ///   - memory: Memory that takes the segment, the list and the table.
    ///   - base: The area's first byte: a multiple of 16 below 1 MiB.
    ///   - blocks: Offsets of the list's blocks, ascending from ``firstBlock`` on; the table
    ///     follows the last one, and none ends in the next.
    /// - Precondition: RAM holds the segment word, and the area up to the table's end.
    public static func store(
      _ table: RioTable, to memory: FlatMemory, at base: PhysicalAddress = usualBase,
      blocks: [UInt16] = [firstBlock, 0x190]
    ) {
      precondition(
        base.isAligned(to: 16) && base.rawValue < 1 << 20, "an EBDA lies at a segment below 1 MiB")
      precondition(
        blocks.first == firstBlock && zip(blocks, blocks.dropFirst()).allSatisfy { $0 + 4 <= $1 },
        "the list of blocks ascends from its first one")
      put(little(UInt16(base.rawValue >> 4)), at: segmentAddress.rawValue, in: memory)
      for (index, block) in blocks.enumerated() {
        let isLast = index == blocks.count - 1
        let header = little(isLast ? 0 : blocks[index + 1]) + little(isLast ? rioMark : 0x1111)
        put(header + (isLast ? table.bytes : []), at: base.rawValue + UInt64(block), in: memory)
      }
    }

    private static func little(_ word: UInt16) -> [UInt8] {
      [UInt8(truncatingIfNeeded: word), UInt8(truncatingIfNeeded: word >> 8)]
    }

    private static func put(_ bytes: [UInt8], at address: UInt64, in memory: FlatMemory) {
      let written = memory.write(bytes, at: PhysicalAddress(address))
      precondition(written == bytes.count, "no RAM where firmware keeps its data")
    }
  }
}
