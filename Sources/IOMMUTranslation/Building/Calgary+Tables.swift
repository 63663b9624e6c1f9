import IOMMUFormats

extension Calgary {
  /// Builds the TCE tables of a Calgary or CalIOC2 chip in memory, one for each PCI host bridge.
  ///
  /// ```swift
  /// let tables = try Calgary.Tables(in: memory)
  /// try tables.map("01:01.0", at: IOVA(0x10_0000), buffer, .readWrite)
  /// tables.translate("01:01.0", IOVA(0x10_0040), access: .write)
  /// ```
  ///
  /// All devices below a bridge share its table. What is not mapped is stopped.
  ///
  /// Tables lie where the allocator says; without one, in whole pages of the memory from its end down, which
  /// they clear first. They never lie where devices have been given memory, nor do devices get memory where
  /// they lie, unless ``allowsMappingTables`` is set.
  ///
  /// Source: Linux `tce_64.c`, `pci-calgary_64.c`.
  public final class Tables<Memory: WritableMemory> {
    public let memory: Memory
    /// The chip with its registers as they stand when it translates through the tables.
    public let chip: Calgary.Chip
    private let store: TableStore<Memory>

    /// Tables in which nothing is mapped.
    ///
    /// - Parameters:
    ///   - memory: Holds the tables.
    ///   - model: Which chip.
    ///   - bridges: The buses below each host bridge, one to four; by default one bridge above all.
    ///   - size: How long each table is: 64 KiB for 32 MiB of I/O addresses to 8 MiB for 4 GiB.
    ///   - base: Where the chip's registers lie.
    ///   - allocator: Gives memory for tables, at multiples of their size; by default the whole memory from
    ///     its end down.
    /// - Throws: `TablesError` when no room is left.
    /// - Precondition: There are one to four bridges.
    public init(
      in memory: Memory, model: Calgary.Chip.Model = .calgary,
      bridges: [ClosedRange<UInt8>] = [0...255], size: Calgary.TableSize = .mib1,
      base: PhysicalAddress = PhysicalAddress(0xfe00_0000),
      allocator: (any TableAllocator)? = nil
    ) throws(TablesError) {
      precondition(
        1...Calgary.hostBridgeCount ~= bridges.count, "a chip has one to four host bridges")
      store = TableStore(memory, allocator, below: PhysicalAddress(1 << 48))
      self.memory = memory
      var made: [Calgary.Chip.HostBridge?] = []
      for buses in bridges {
        let table = try store.allocate(
          "a TCE table", byteCount: size.byteCount, alignment: size.byteCount)
        guard table.rawValue >> 48 == 0 else {
          throw .badAllocation(table, what: "a TCE table, which lies below 2^48")
        }
        made.append(
          Calgary.Chip.HostBridge(
            buses: buses,
            tableAddress: Calgary.TableAddressRegister(rawValue: 0).setting(
              table: table, size: size),
            configuration: Calgary.ConfigurationRegister(rawValue: 0).enablingTranslation))
      }
      chip = Calgary.Chip(model: model, base: base, hostBridges: made)
    }

    /// Devices may be given memory in which tables lie.
    public var allowsMappingTables: Bool {
      get { store.allowsMappingTables }
      set { store.allowsMappingTables = newValue }
    }

    /// A machine with this chip alone.
    public var machine: Machine {
      Machine(name: "tables", units: [.calgary(chip)], ram: memory.backedRanges)
    }

    /// What becomes of a request: it goes to memory up to the end of its page, or faults.
    ///
    /// - Precondition: `device` is of PCI segment 0.
    public func translate(
      _ device: PCI.Function, _ iova: IOVA, byteCount: UInt64 = 1, access: Access
    ) -> Translation {
      precondition(device.segment == 0, "the chip is above PCI segment 0 alone")
      return machine.translate(
        device.requester, iova, byteCount: byteCount, access: access, in: memory)
    }

    /// The table of a device's bridge.
    private func tree(
      _ device: PCI.Function, _ iova: IOVA, _ byteCount: UInt64
    ) throws(TablesError) -> TableTree<Calgary.TCEFormat> {
      guard device.segment == 0 else { throw .otherSegment(device, tables: 0) }
      guard let table = chip.hostBridge(above: device.requester.bus)?.table else {
        throw .deviceBeyondTables(device)
      }
      if let end = iova.advanced(byBytes: byteCount), iova < end {
        let range = iova.rawValue..<end.rawValue
        // The chip does not look at its table there: no driver maps it.
        for hole in [table.holes.overlapping(range), VTd.interruptAddresses].compactMap({ $0 })
        where hole.overlaps(range) {
          throw .notTranslated(IOVA(hole.lowerBound)..<IOVA(hole.upperBound))
        }
      }
      return TableTree(format: table.format, root: table.root)
    }

    /// Maps memory for all devices below a device's bridge, where nothing is mapped; all or nothing.
    ///
    /// - Parameters:
    ///   - device: A function on one of the bridges' buses.
    ///   - iova: A multiple of 4 KiB, outside of 640 KiB to 1 MiB and of interrupts.
    ///   - range: Half-open, below 2^48; both ends at multiples of 4 KiB.
    ///   - permissions: What requests may do; not nothing.
    /// - Throws: `TablesError`. Nothing is mapped then that was not before.
    public func map(
      _ device: PCI.Function, at iova: IOVA, _ range: Range<PhysicalAddress>,
      _ permissions: Permissions
    ) throws(TablesError) {
      try store.map(
        range, at: iova, permissions, nil, .smallest, isOver: false,
        in: try tree(device, iova, range.byteCount))
    }

    /// Maps memory over whatever is mapped there. Otherwise as ``map(_:at:_:_:)``.
    public func remap(
      _ device: PCI.Function, at iova: IOVA, _ range: Range<PhysicalAddress>,
      _ permissions: Permissions
    ) throws(TablesError) {
      try store.map(
        range, at: iova, permissions, nil, .smallest, isOver: true,
        in: try tree(device, iova, range.byteCount))
    }

    /// Takes mappings away; numbers that nothing is mapped at are passed over.
    ///
    /// - Throws: `TablesError`, and nothing has been unmapped.
    public func unmap(_ device: PCI.Function, _ range: Range<IOVA>) throws(TablesError) {
      try store.unmap(
        range, partly: .refused, in: try tree(device, range.lowerBound, range.byteCount))
    }
  }
}
