import IOMMUFormats

extension GART {
  /// Builds the GATT of a machine's northbridges in memory.
  ///
  /// ```swift
  /// let tables = try GART.Tables(in: memory)
  /// try tables.map(at: tables.aperture.lowerBound, buffer)
  /// tables.translate(IOVA(0x8000_0040), access: .write)
  /// ```
  ///
  /// All devices share the aperture; what lies outside of it passes untranslated, and what lies inside and
  /// is not mapped is stopped. A valid entry lets devices read and write, as nothing else can be said.
  ///
  /// The table lies where the allocator says; without one, in whole pages of the memory from its end down,
  /// which it clears first. It never lies where devices have been given memory, nor do devices get memory
  /// where it lies, unless ``allowsMappingTables`` is set.
  ///
  /// Source: Linux `pci-gart_64.c`, `amd64-agp.c`.
  public final class Tables<Memory: WritableMemory> {
    public let memory: Memory
    /// The addresses that go through the table, half-open.
    public let aperture: Range<IOVA>
    /// The table's first byte.
    public let table: PhysicalAddress
    /// Function 3 of the northbridge; for ``node`` alone.
    public let device: Requester
    private let order: Int
    private let store: TableStore<Memory>
    private let tree: TableTree<GART.GATTFormat>

    /// A table in which nothing is mapped.
    ///
    /// - Parameters:
    ///   - memory: Holds the table.
    ///   - base: The aperture's first address, a multiple of its size below 1 TiB; by default 2 GiB.
    ///   - order: 0 to 6; the aperture has 32 MiB << order, and the table a thousandth of that.
    ///   - scratchPage: What unmapped entries lead to, as Linux has it; by default they are not valid.
    ///   - device: Function 3 of the northbridge.
    ///   - allocator: Gives memory for the table; by default the whole memory from its end down.
    /// - Throws: `TablesError` when an argument is out of its range, or no room is left.
    public init(
      in memory: Memory, base: IOVA = IOVA(0x8000_0000), order: Int = 1,
      scratchPage: PhysicalAddress? = nil,
      device: Requester = Requester(bus: 0, device: 24, function: 3),
      allocator: (any TableAllocator)? = nil
    ) throws(TablesError) {
      guard 0...6 ~= order else {
        throw .notSupported("there is no aperture of order \(order): 0 to 6 are 32 MiB to 2 GiB")
      }
      let byteCount: UInt64 = 0x200_0000 << UInt64(order)
      guard base.isAligned(to: byteCount), base.rawValue < GART.physicalLimit else {
        throw .notSupported(
          "no aperture of \(hexadecimal(byteCount)) bytes is at \(base): choose a multiple of its size "
            + "below 1 TiB")
      }
      if let scratchPage {
        guard scratchPage.isAligned(to: 4096), scratchPage.rawValue < GART.physicalLimit else {
          throw .notSupported(
            "the scratch page is \(scratchPage): choose a multiple of 4 KiB below 1 TiB")
        }
      }
      store = TableStore(memory, allocator, below: PhysicalAddress(GART.physicalLimit))
      self.memory = memory
      self.order = order
      self.device = device
      aperture = base..<IOVA(base.rawValue + byteCount)
      let format = GART.GATTFormat(
        apertureByteCount: byteCount,
        clearedEntry: scratchPage.map { GART.GATTEntry(page: $0) } ?? GART.GATTEntry(rawValue: 0))
      // Drivers take a power of two of pages at a multiple of their size.
      let tableByteCount = byteCount / 1024
      table = try store.allocate(
        "a GATT", byteCount: tableByteCount, alignment: tableByteCount)
      guard table.rawValue + tableByteCount <= GART.physicalLimit else {
        throw .badAllocation(table, what: "a GATT, which lies below 1 TiB")
      }
      tree = TableTree(format: format, root: table)
      if scratchPage != nil {
        for entry in 0..<format.entryCount(level: 1) {
          format.clearedEntry.store(
            to: memory, at: PhysicalAddress(table.rawValue + entry * 4))
        }
      }
    }

    /// Devices may be given memory in which the table lies.
    public var allowsMappingTables: Bool {
      get { store.allowsMappingTables }
      set { store.allowsMappingTables = newValue }
    }

    /// The northbridge with its registers as they stand when it translates through the table.
    public var node: GART.Node {
      GART.Node(
        device: device, control: GART.ApertureControl(isEnabled: true, order: order),
        base: GART.ApertureBase(address: aperture.lowerBound.rawValue),
        tableBase: GART.TableBase(table: table))
    }

    /// A machine with this northbridge alone.
    public var machine: Machine {
      Machine(name: "tables", units: [.gart(node)], ram: memory.backedRanges)
    }

    /// What becomes of a device's request: it goes to memory up to the end of its page, or faults.
    public func translate(_ iova: IOVA, byteCount: UInt64 = 1, access: Access) -> Translation {
      machine.translate(
        Requester(bus: 0, device: 0, function: 0), iova, byteCount: byteCount, access: access,
        in: memory)
    }

    /// Maps memory where nothing is mapped; all or nothing.
    ///
    /// - Parameters:
    ///   - iova: An address of the aperture, a multiple of 4 KiB.
    ///   - range: Half-open, below 1 TiB; both ends at multiples of 4 KiB.
    ///   - attributes: `PageAttributes.snooped` or nothing; `nil` for what drivers write, the former.
    /// - Throws: `TablesError`. Nothing is mapped then that was not before.
    public func map(
      at iova: IOVA, _ range: Range<PhysicalAddress>, attributes: PageAttributes? = nil
    ) throws(TablesError) {
      try store.map(
        range, at: try offset(iova, range.byteCount), .readWrite, attributes, .smallest,
        isOver: false, in: tree)
    }

    /// Maps memory over whatever is mapped there. Otherwise as ``map(at:_:attributes:)``.
    public func remap(
      at iova: IOVA, _ range: Range<PhysicalAddress>, attributes: PageAttributes? = nil
    ) throws(TablesError) {
      try store.map(
        range, at: try offset(iova, range.byteCount), .readWrite, attributes, .smallest,
        isOver: true, in: tree)
    }

    /// Takes mappings away; addresses that nothing is mapped at are passed over.
    ///
    /// - Parameter range: In the aperture, half-open; both ends at multiples of 4 KiB.
    /// - Throws: `TablesError`, and nothing has been unmapped.
    public func unmap(_ range: Range<IOVA>) throws(TablesError) {
      let start = try offset(range.lowerBound, range.byteCount)
      try store.unmap(
        start..<IOVA(start.rawValue + range.byteCount), partly: .refused, in: tree)
    }

    /// Bytes from the aperture's first address.
    private func offset(_ iova: IOVA, _ byteCount: UInt64) throws(TablesError) -> IOVA {
      let end = iova.advanced(byBytes: byteCount) ?? IOVA(.max)
      guard iova >= aperture.lowerBound, end <= aperture.upperBound else {
        throw .notTranslated(iova..<max(iova, end))
      }
      return IOVA(iova.rawValue - aperture.lowerBound.rawValue)
    }
  }
}
