import IOMMUFormats
import IOMMUTranslation

/// Tables in the layout of the Linux kernel's own debugfs file `domain_translation_struct`, so that a
/// dump can be compared with a living machine.
///
/// A block for each device, its domain's root table in the heading; a line for each leaf with the
/// raw entries on the way to it. Up to 6.1 the kernel names a block after the first device of its
/// group: here that is the first device with the same table. Kernels of today have a file for each
/// device and for each of its PASIDs, whose rows end at the leaf. Pass-through devices and tables of
/// other hardware have no block.
///
/// The kernel knows devices, tables know requesters. Behind a bridge to conventional PCI all devices
/// speak as device 0 of their bus, which need not exist: it is *assumed* to be such an alias when it
/// shares its table with a requester of another bus and with another device of its own.
public struct DomainTranslationStruct: Sendable {
  /// Whose layout it is.
  public enum Layout: Sendable {
    /// One file: columns of zeros behind the leaf of a large page, PASIDs in decimal.
    case linux6_1
    /// The files of all devices and PASIDs one after the other: rows end at the leaf, PASIDs in
    /// hexadecimal.
    case linux6_12
  }

  private let report: MapsReport
  private let layout: Layout

  /// Bytes that are written once more for other devices with the same table.
  private static let repeatedByteLimit = 64 << 20

  /// The tables of a report, in its order.
  public init(_ report: MapsReport, layout: Layout = .linux6_1) {
    self.report = report
    self.layout = layout
  }

  /// Whether any table has this layout.
  public var isEmpty: Bool { !report.tables.contains { Self.hasLayout($0) } }

  /// The block of a table's device; `nil` for tables of other hardware.
  private static func hasLayout(_ table: DMATable) -> Bool {
    switch table.table {
    case .secondStage, .firstStage: true
    default: false
    }
  }

  /// Writes all blocks.
  ///
  /// - Returns: What is not known of the tables.
  @discardableResult
  public func write(
    of memory: some PhysicalMemory, to out: inout some TextOutputStream
  ) -> Blindness {
    var blindness = Blindness(report.gaps)
    report.forEachTable(in: memory) { if $0.sharedWith == nil { blindness.add($0.gaps) } }
    var shares = report.shares(of: memory)
    var firstNames: [Table: String] = [:]
    var shared: [Table: String] = [:]
    var repeated = 0
    /// The rows of a table, which are made once; behind the limit, whose they are.
    func rows(of table: DMATable, _ identity: Table) -> String {
      guard let rows = shared[identity], let first = firstNames[identity] else {
        let (rows, cut) = shares.spend { self.rows(of: table, in: memory, budget: &$0) }
        blindness.add(cut)
        shared[identity] = rows
        return rows
      }
      repeated += rows.utf8.count
      return repeated > Self.repeatedByteLimit ? "# the rows of \(first)\n" : rows
    }
    let identities = report.tables.map { $0.table?.identity }
    let users = Dictionary(grouping: zip(report.tables, identities), by: \.1).mapValues {
      $0.compactMap { $0.0.owner.device }
    }
    guard layout == .linux6_1 else {
      for (table, identity) in zip(report.tables, identities) {
        guard let identity, Self.hasLayout(table) else { continue }
        out.write(block(of: table, rows: rows(of: table, identity)))
        firstNames[identity] = firstNames[identity] ?? Self.name(of: table.owner)
      }
      return blindness
    }
    for (table, identity) in zip(report.tables, identities) {
      guard let identity, Self.hasLayout(table), !isAlias(table, among: users[identity] ?? [])
      else { continue }
      let name = firstNames[identity] ?? Self.name(of: table.owner)
      out.write(block(of: table, name: name, rows: rows(of: table, identity)))
      firstNames[identity] = name
    }
    return blindness
  }

  private func isAlias(_ table: DMATable, among users: [PCI.Function]) -> Bool {
    guard let requester = table.owner.device?.requester, requester.deviceFunction == 0 else {
      return false
    }
    let users = users.map(\.requester)
    return users.contains { $0.bus != requester.bus }
      && users.contains { $0.bus == requester.bus && $0.device != 0 }
  }

  /// A device's file of today's kernels.
  private func block(of table: DMATable, rows: String) -> String {
    guard case .requester(let device, let pasid) = table.owner else { return "" }
    let space = pasid.map { "with pasid \(hexadecimal($0.rawValue, digits: 1)) " } ?? ""
    let columns = ["IOVA_PFN", "PML5E", "PML4E", "PDPE", "PDE", "PTE"]
    let widths = [17, 18, 18, 18, 18, 0]
    return "Device \(device.longText) \(space)@\(table.root ?? PhysicalAddress(0))\n"
      + zip(columns, widths).map { $0.padded(to: $1) }.joined(separator: "\t") + "\n" + rows
  }

  /// The owner's name with its segment, as the kernel has it.
  private static func name(of owner: TableOwner) -> String {
    guard case .requester(let device, let pasid) = owner else { return "\(owner)" }
    return device.longText + (pasid.map { "/\($0)" } ?? "")
  }

  private func block(of table: DMATable, name: String, rows: String) -> String {
    let device = name.prefix { $0 != "/" }
    let pasid = name.dropFirst(device.count + 1)
    let space = pasid.isEmpty || pasid == "0" ? "" : " with pasid \(pasid)"
    return "Device \(device)\(space) @\(table.root ?? PhysicalAddress(0))\n"
      + "IOVA_PFN\t\tPML5E\t\t\tPML4E\t\t\tPDPE\t\t\tPDE\t\t\tPTE\n"
      + rows + "\n"
  }

  private func rows(
    of table: DMATable, in memory: some PhysicalMemory, budget: inout EnumerationBudget
  ) -> (text: String, cut: [TableGap]) {
    // No more rows than all that is stored has entries, and a million that share their tables.
    var leaves = LeafCollector(limit: 1 << 20 + 512 * Int(min(memory.storedPageBound, 1 << 40)))
    // What ends the tour is told by the blindness.
    try? table.table?.forEachEntry(in: memory, budget: &budget, visitor: &leaves)
    var text = ""
    switch table.table {
    case .secondStage(let tree)?:
      write(leaves.leaves, of: tree.format, root: tree.root, in: memory, to: &text)
    case .firstStage(let tree)?:
      write(leaves.leaves, of: tree.format, root: tree.root, in: memory, to: &text)
    default: break
    }
    guard let first = leaves.firstLeftOut, let content = table.table?.any else { return (text, []) }
    text += "# \(countText(leaves.leftOutCount, "row")) more, left out\n"
    let cut = content.space.ranges(from: first, byteCount: .max).map {
      TableGap(
        .tooMany, .addresses(table.owner, $0), in: .level(content.format.levels), at: content.root)
    }
    return (text, cut)
  }

  /// A line for each leaf.
  private func write(
    _ leaves: [UInt64], of format: some TableFormat, root: PhysicalAddress,
    in memory: some PhysicalMemory, to text: inout String
  ) {
    for leaf in leaves {
      var path = PathCollector()
      _ = format.walk(leaf, from: root, in: memory, observer: &path)
      text += "0x\(hexadecimal(leaf >> 12, digits: 13)) |"
      let last = layout == .linux6_12 ? path.leafLevel : 1
      for level in stride(from: 5, through: last, by: -1) {
        text += "\t0x\(hexadecimal(path.words[level], digits: 16))"
      }
      text += "\n"
    }
  }
}

/// Keeps the addresses of leaves.
private struct LeafCollector: TableVisitor {
  let limit: Int
  var leaves: [UInt64] = []
  var leftOutCount = 0
  var firstLeftOut: UInt64?

  init(limit: Int) { self.limit = limit }

  mutating func leaf(_ leaf: Leaf) {
    if leaves.count < limit { return leaves.append(leaf.address) }
    leftOutCount += 1
    firstLeftOut = firstLeftOut ?? leaf.address
  }
}

/// Keeps the raw entries of one walk by level; those of levels not reached are zero.
private struct PathCollector: WalkObserver {
  var words = [UInt64](repeating: 0, count: 6)
  var leafLevel = 1

  mutating func read<Entry: TableEntry>(
    _ entry: Entry, at _: PhysicalAddress, in place: TablePlace, index _: UInt64,
    as _: @autoclosure () -> Entry.Variant
  ) {
    guard let level = place.level, level < words.count else { return }
    words[level] = entry.low
    leafLevel = level
  }
}
