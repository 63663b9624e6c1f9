import Glibc
import IOMMUFormats
import IOMMUImages
import IOMMUTranslation
import Testing

private let oracle = getenv("IOMMU_ORACLE").map { String(cString: $0) }

/// Builders against what real drivers wrote, in the directory that the environment variable IOMMU_ORACLE
/// names: the same mappings have to be the same words.
@Suite(.enabled(if: oracle != nil)) struct BuiltTablesTests {
  /// Those of units that there are builders for.
  static func directories(with file: String) -> [String] {
    OracleTests.files(file).filter { $0.hasSuffix("/\(file)") && !$0.contains("smmu") }
      .map { String($0.dropLast(file.count + 1)) }
  }

  /// Lines of a packed list, in columns; those that begin with # are left out.
  static func rows(_ path: String) throws -> [[Substring]] {
    let stream = try #require(popen("exec zcat '\(path)'", "r"))
    defer { pclose(stream) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while case let count = fread(&chunk, 1, chunk.count, stream), count > 0 {
      bytes += chunk[..<count]
    }
    return String(decoding: bytes, as: UTF8.self).split(separator: "\n")
      .filter { !$0.hasPrefix("#") }
      .map { $0.split(separator: "\t", omittingEmptySubsequences: false) }
  }

  static func number(_ text: Substring) throws -> UInt64 {
    try #require(Notation.hexadecimal(utf8: text.utf8), "\(text)")
  }

  static func permissions(_ text: Substring) -> Permissions {
    (text.contains("r") ? Permissions.read : []).union(text.contains("w") ? .write : [])
  }

  /// The words of all entries on the way of a request: those of page tables, and those above.
  struct Way: WalkObserver {
    var words: [UInt64] = []
    var upper: [UInt64] = []
    mutating func read<Entry: TableEntry>(
      _ entry: Entry, at _: PhysicalAddress, in place: TablePlace, index _: UInt64,
      as _: @autoclosure () -> Entry.Variant
    ) {
      if case .level = place { words.append(entry.low) } else { upper.append(entry.low) }
    }

    init(
      _ machine: Machine, _ device: PCI.Function, _ pasid: PASID?, _ iova: IOVA,
      _ permissions: Permissions, in memory: some PhysicalMemory
    ) {
      let handle = machine.resolve(
        device.requester, pasid: pasid, in: memory, observer: &self)
      _ = handle.translate(
        iova, byteCount: 1, access: permissions.contains(.read) ? .read : .write, in: memory,
        observer: &self)
    }
  }

  /// A builder of either unit, for a device as the dump has it.
  struct Builder {
    var machine: Machine
    var map:
      (PCI.Function, PASID?, IOVA, Range<PhysicalAddress>, Permissions, PageSizes) throws -> Void
    /// Bits of pointers that hardware sets, or that this driver keeps something in.
    var ignored: UInt64 = 0

    init?(_ dump: Machine, in memory: FlatMemory) throws {
      if let unit = dump.units.lazy.compactMap({ $0.as(VTd.Unit.self) }).first {
        let tables = try VTd.Tables(
          in: memory, mode: unit.rootTableAddress.mode, limits: unit.limits)
        tables.allowsMappingTables = true
        machine = tables.machine
        map = { try tables.map($0, pasid: $1, at: $2, $3, $4, sizes: $5) }
        // A, D, and the bit that Linux marks tables with since 7.0.
        if !unit.limits.features.contains(.secondStage) { ignored = 0x260 }
      } else if let unit = dump.units.lazy.compactMap({ $0.as(AMDVi.Unit.self) }).first {
        let tables = try AMDVi.Tables(in: memory, features: unit.features, lastBus: 7)
        tables.allowsMappingTables = true
        machine = tables.machine
        map = { try tables.map($0, pasid: $1, at: $2, $3, $4, sizes: $5) }
      } else {
        return nil
      }
    }
  }

  @Test(arguments: directories(with: "leaves.tsv.gz"))
  func `page tables built from a dump's mappings are the dump's own words`(directory: String) throws
  {
    let dump = try MachineFile(path: "\(directory)/machine.json").machine()
    let image = try MemoryImage(path: "\(directory)/tables.elf")
    let memory = try FlatMemory(byteCount: 64 << 20)
    guard let builder = try Builder(dump, in: memory) else { return }
    var count = 0
    var mapped: [(PCI.Function, PASID?, IOVA, Permissions, UInt64)] = []
    for row in try Self.rows("\(directory)/leaves.tsv.gz") {
      let (device, pasid) = try Notation.deviceAndPASID(row[0])
      // Tables of processes, which no IOMMU driver wrote.
      if directory.hasSuffix("vtd-fs-pasid"), let pasid, 3...4 ~= pasid.rawValue { continue }
      let iova = try Self.number(row[1])
      let permissions = Self.permissions(row[4])
      let page = try Self.number(row.count > 7 ? row[7] : row[2])
      let space = pasid == PASID(0) ? nil : pasid
      if iova % page == 0 {
        let start = try Self.number(row[3])
        try builder.map(
          device, space, IOVA(iova), PhysicalAddress(start)..<PhysicalAddress(start + page),
          permissions, .upTo(log2: page.trailingZeroBitCount))
      }
      mapped.append((device, space, IOVA(iova), permissions, try Self.number(row[5])))
    }
    let address: UInt64 = 0xf_ffff_ffff_f000
    for (device, pasid, iova, permissions, entry) in mapped {
      let theirs = Way(dump, device, pasid, iova, permissions, in: image)
      let ours = Way(builder.machine, device, pasid, iova, permissions, in: memory)
      let isSame =
        ours.words.count == theirs.words.count && ours.words.last == entry
        && ours.upper.count == theirs.upper.count
        && zip(ours.words.dropLast(), theirs.words.dropLast()).allSatisfy {
          ($0 ^ $1) & ~address & ~builder.ignored == 0
        }
        // DTE, PASIDE and PRE of a context entry are the device's affair.
        && zip(ours.upper, theirs.upper).allSatisfy { ($0 ^ $1) & 0xfe3 == 0 }
      count += 1
      guard isSame else {
        Issue.record(
          "\(directory): \(device) \(iova): \(ours) and not \(theirs), leaf \(hexadecimal(entry))")
        return
      }
    }
    #expect(count > 500, "\(directory)")
  }

  @Test(arguments: directories(with: "maps.tsv.gz"))
  func `flat tables built from a dump's mappings are the dump's own entries`(directory: String)
    throws
  {
    let dump = try MachineFile(path: "\(directory)/machine.json").machine()
    let nodes = dump.units.compactMap { $0.as(GART.Node.self) }
    let chips = dump.units.compactMap { $0.as(Calgary.Chip.self) }
    guard !nodes.isEmpty || !chips.isEmpty else { return }
    let image = try MemoryImage(path: "\(directory)/image.elf")
    let memory = try FlatMemory(byteCount: 64 << 20)
    var count = 0
    for row in try Self.rows("\(directory)/maps.tsv.gz") {
      let (iova, byteCount) = (try Self.number(row[1]), try Self.number(row[2]))
      let physical = try Self.number(row[3])
      let target = PhysicalAddress(physical)..<PhysicalAddress(physical + byteCount)
      let place: UInt64
      let their: UInt64
      let size: UInt64
      if let node = nodes.first, let aperture = node.aperture {
        let tables = try GART.Tables(
          in: memory, base: aperture.lowerBound, order: node.control.order)
        tables.allowsMappingTables = true
        try tables.map(at: IOVA(iova), target)
        size = 4
        let offset = (iova - aperture.lowerBound.rawValue) >> 12 * size
        (place, their) = (tables.table.rawValue + offset, node.tableBase.table.rawValue + offset)
      } else {
        let bus = try Self.number(row[0].dropFirst(4))
        let bridge = try #require(
          chips.lazy.compactMap { $0.hostBridge(above: UInt8(bus)) }.first?.table)
        let tables = try Calgary.Tables(in: memory, size: bridge.size)
        tables.allowsMappingTables = true
        let device = PCI.Function(Requester(bus: UInt8(bus), device: 0, function: 0))
        // The driver writes entries that the chip never looks at.
        let range = iova..<(iova + byteCount)
        guard bridge.holes.overlapping(range) == nil, !VTd.interruptAddresses.overlaps(range) else {
          continue
        }
        try tables.map(device, at: IOVA(iova), target, Self.permissions(row[4]))
        size = 8
        let ours = try #require(tables.chip.hostBridge(above: UInt8(bus))?.table)
        (place, their) = (
          ours.table.rawValue + iova >> 12 * size, bridge.table.rawValue + iova >> 12 * size
        )
      }
      let bytes = Int(byteCount >> 12 * size)
      #expect(
        memory.bytes(at: PhysicalAddress(place), count: bytes)
          == image.bytes(at: PhysicalAddress(their), count: bytes), "\(directory), \(row)")
      count += bytes / Int(size)
    }
    #expect(count > 10, "\(directory)")
  }
}
