import IOMMUFormats
import IOMMUTranslation

/// A machine with one unit of some kind, and tables of mostly sound and sometimes broken entries, all
/// by one seed. Some pages of tables may be missing from the memory.
public struct RandomMachine {
  public enum Kind: CaseIterable, Sendable {
    case calgary, gart, legacy, secondStage, secondStageIOPermissions, firstStage, nested
  }

  public let machine: Machine
  public let memory: LackingMemory

  private static let byteCount: UInt64 = 2 << 20

  public init(_ kind: Kind, seed: UInt64) throws {
    var builder = try Builder(seed: seed &* 31 &+ UInt64(Kind.allCases.firstIndex(of: kind)!))
    let unit =
      switch kind {
      case .calgary: builder.calgary()
      case .gart: builder.gart()
      case .legacy: builder.legacy()
      case .secondStage, .secondStageIOPermissions, .firstStage, .nested: builder.scalable(kind)
      }
    machine = Machine(name: "\(kind) \(seed)", units: [unit])
    memory = LackingMemory(builder.memory, without: builder.leftOut)
  }

  private struct Builder {
    var generator: SeededGenerator
    let memory: FlatMemory
    /// Pages of tables that the dump does not hold.
    var leftOut: Set<UInt64> = []
    private var nextTable: UInt64 = 0x10_0000
    /// Pages are a guest's, of which the second stage maps some.
    private var hasGuestPages = false

    init(seed: UInt64) throws {
      generator = SeededGenerator(seed: seed)
      memory = try FlatMemory(byteCount: RandomMachine.byteCount)
    }

    mutating func oneIn(_ count: UInt64) -> Bool { generator.oneIn(count) }
    mutating func below(_ limit: UInt64) -> UInt64 { generator.next() % limit }

    /// A page for a table, which now and then is missing.
    mutating func table(mayBeLeftOut: Bool = true) -> UInt64 {
      defer { nextTable += 0x1000 }
      if mayBeLeftOut, oneIn(12) { leftOut.insert(nextTable) }
      return nextTable
    }

    func store(_ word: UInt64, at address: UInt64) {
      memory.store(word, at: PhysicalAddress(address))
    }

    /// A page of data somewhere below 2^36, now and then in the interrupt range.
    mutating func page(sizeLog2: UInt64 = 12) -> UInt64 {
      if hasGuestPages { return (below(252) << 12) & ~(1 << sizeLog2 - 1) }
      if oneIn(20) { return 0xfee0_0000 & ~(1 << sizeLog2 - 1) }
      return below(1 << (36 - sizeLog2)) << sizeLog2
    }

    // MARK: Flat tables

    mutating func calgary() -> TranslationUnit {
      // 64 KiB: 8,192 entries, at a multiple of their size; runs of pages, holes, and empty ones.
      let table: UInt64 = 0x4_0000
      for page in 0..<16 as Range<UInt64> where oneIn(8) { leftOut.insert(table + page << 12) }
      var index: UInt64 = below(64)
      while index < 8192 {
        var page = below(1 << 24)
        let access = below(4)
        for _ in 0..<min(8192 - index, 1 + below(6)) {
          memory.store(bigEndian: page << 12 | access, at: PhysicalAddress(table + index * 8))
          index += 1
          page += 1
        }
        index += below(400)
      }
      let buses = UInt8(below(200))
      return .calgary(
        Calgary.Chip(
          model: oneIn(2) ? .calgary : .calioc2, base: PhysicalAddress(0xfe00_0000),
          hostBridges: [
            nil,
            Calgary.Chip.HostBridge(
              buses: buses...buses + 3,
              tableAddress: Calgary.TableAddressRegister(rawValue: table),
              configuration: Calgary.ConfigurationRegister(rawValue: 0x2110_0000),
              memory1: oneIn(2) ? IOVA(0x100_0000)..<IOVA(0x120_0000) : nil),
          ]))
    }

    mutating func gart() -> TranslationUnit {
      // An aperture of 32 MiB: 8,192 entries of 4 bytes.
      let table: UInt64 = 0x4_0000
      for page in 0..<8 as Range<UInt64> where oneIn(8) { leftOut.insert(table + page << 12) }
      var index: UInt64 = 0
      while index < 8192 {
        var page = below(1 << 20)
        let flags: UInt64 = oneIn(6) ? 0 : 3
        for _ in 0..<min(8192 - index, 1 + below(8)) {
          memory.store(
            UInt32(truncatingIfNeeded: page << 12 | flags),
            at: PhysicalAddress(table + index * 4))
          index += 1
          page += 1
        }
        index += below(200)
      }
      return .gart(
        GART.Node(
          device: Requester(bus: 0, device: 0x18, function: 3),
          control: GART.ApertureControl(rawValue: 1),
          base: GART.ApertureBase(rawValue: UInt32(1 + below(30))),
          tableBase: GART.TableBase(rawValue: UInt32(table >> 8))))
    }

    // MARK: VT-d

    private mutating func limits(scalable: Bool) -> VTd.Limits {
      var limits = VTd.Limits.permissive
      limits.hostAddressWidth = oneIn(2) ? 39 : 46
      limits.maximumGuestAddressWidth = [39, 48, 57][Int(below(3))]
      limits.has1GiBPages = oneIn(2)
      limits.has2MiBPages = !oneIn(4)
      limits.hasSnoopControl = oneIn(2)
      limits.hasTransientMappings = oneIn(2)
      return limits
    }

    private func unit(
      root: UInt64, scalable: Bool, ioPermissions: Bool = false, _ limits: VTd.Limits
    )
      -> TranslationUnit
    {
      .vtd(
        VTd.Unit(
          base: PhysicalAddress(0xfed9_0000),
          rootTableAddress: VTd.RootTableAddress(
            rawValue: root | (scalable ? 0x400 : 0) | (ioPermissions ? 0x80 : 0)),
          status: VTd.GlobalStatus(rawValue: 0xc000_0000), limits: limits))
    }

    /// Entries of a VT-d table and of those below it.
    ///
    /// - Parameters:
    ///   - flags: What an entry that allows everything has set.
    ///   - readBit, writeBit: The bits that allow reading and writing.
    ///   - place: Where a table for a pointer lies as its addresses have it, and in memory.
    private mutating func fill(
      _ table: UInt64, level: Int, flags: UInt64, optional: [UInt64], depth: Int,
      place: (inout Builder) -> (address: UInt64, host: UInt64)
    ) {
      let count = level == 1 ? 12 : level == 2 ? 4 : 2
      for _ in 0..<count {
        var index = oneIn(6) ? 511 : below(level == 1 ? 64 : 3)
        var bits = flags
        for bit in optional where oneIn(5) { bits &= ~bit }
        // A bit that some unit does not allow, or that none does.
        if oneIn(8) { bits |= 1 << [2, 7, 11, 51, 52, 62, 45, 40][Int(below(8))] }
        let isLarge = (level == 2 || level == 3) && oneIn(3)
        if level == 1 {
          var page = page()
          for _ in 0..<1 + below(4) where index < 512 {
            store(page | bits, at: table + index * 8)
            page += 0x1000
            index += 1
          }
        } else if isLarge {
          store(page(sizeLog2: level == 2 ? 21 : 30) | bits | 0x80, at: table + index * 8)
        } else {
          let lower = place(&self)
          store(lower.address | bits, at: table + index * 8)
          fill(
            lower.host, level: level - 1, flags: flags, optional: optional, depth: depth + 1,
            place: place)
        }
      }
    }

    private mutating func secondStage(levels: Int, ioPermissions: Bool) -> UInt64 {
      let root = table()
      fill(
        root, level: levels, flags: ioPermissions ? 3 << 61 : 3,
        optional: ioPermissions ? [1 << 61, 1 << 62] : [1, 2], depth: 0
      ) { builder in
        let table = builder.table()
        return (table, table)
      }
      return root
    }

    mutating func legacy() -> TranslationUnit {
      let limits = limits(scalable: false)
      let root = table(mayBeLeftOut: oneIn(20))
      for bus in [0, below(255) + 1] {
        let contexts = table()
        store(contexts | 1, at: root + bus * 16)
        var shared: (root: UInt64, levels: UInt64)?
        for _ in 0..<3 {
          let place = contexts + below(256) * 16
          let levels = 3 + below(3)
          if oneIn(6) {
            // Pass-through, or a context entry that no unit takes.
            store(oneIn(2) ? 9 : 1 << 8 | 1, at: place)
            store(0x302, at: place + 8)
            continue
          }
          if shared == nil || oneIn(2) {
            shared = (secondStage(levels: Int(levels), ioPermissions: false), levels)
          }
          store(shared!.root | 1, at: place)
          store(7 << 8 | (shared!.levels - 2), at: place + 8)
        }
      }
      return unit(root: root, scalable: false, limits)
    }

    mutating func scalable(_ kind: Kind) -> TranslationUnit {
      let limits = limits(scalable: true)
      let ioPermissions = kind == .secondStageIOPermissions
      let root = table(mayBeLeftOut: oneIn(20))
      let contexts = table()
      store(contexts | 1, at: root + below(4) * 16)
      let directory = table()
      store(directory | 9, at: contexts + below(128) * 32)
      let pasids = table()
      store(pasids | 1, at: directory)
      for _ in 0..<3 {
        let entry = pasids + below(64) * 64
        // Address width of the second stage: 0 for three levels, 1 for four, 2 for five.
        let width = 1 + below(2)
        switch kind {
        case .firstStage:
          let levels = oneIn(3) ? 5 : 4
          let first = firstStage(levels: levels) { builder in
            let table = builder.table()
            return (table, table)
          }
          store(1 | 1 << 6 | (oneIn(3) ? 1 << 7 : 0), at: entry)
          store(7, at: entry + 8)
          store(first | (levels == 5 ? 1 << 2 : 0) | (oneIn(3) ? 1 << 0 : 0), at: entry + 16)
        case .nested:
          let second = secondStage(levels: 4, ioPermissions: false)
          nested(second, entry: entry)
        default:
          let second = secondStage(levels: 3 + Int(width), ioPermissions: ioPermissions)
          store(second | 1 | 2 << 6 | width << 2, at: entry)
          store(7, at: entry + 8)
        }
      }
      return unit(root: root, scalable: true, ioPermissions: ioPermissions, limits)
    }

    private mutating func firstStage(
      levels: Int, place: (inout Builder) -> (address: UInt64, host: UInt64)
    ) -> UInt64 {
      let root = place(&self)
      fill(root.host, level: levels, flags: 0x67, optional: [1, 2, 4], depth: 0, place: place)
      return root.address
    }

    /// A guest whose tables lie at guest addresses from 2^20 on, one page after the other, which the
    /// second stage maps in a table of its own.
    private mutating func nested(_ second: UInt64, entry: UInt64) {
      // Entry 0 of each upper table leads to the table that maps the guest's own tables.
      var upper = second
      for _ in 2...4 {
        let lower = table(mayBeLeftOut: false)
        store(lower | 3, at: upper)
        upper = lower
      }
      let leaves = upper
      for page in 0..<256 as Range<UInt64> where !oneIn(4) {
        store(self.page() | (1 + below(3)), at: leaves + page * 8)
      }
      hasGuestPages = true
      defer { hasGuestPages = false }
      var next: UInt64 = 256
      let first = firstStage(levels: 4) { builder in
        let host = builder.table()
        let guest = next << 12
        builder.store(host | (builder.oneIn(12) ? 2 : 3), at: leaves + next * 8)
        next += 1
        return (guest, host)
      }
      store(second | 1 | 3 << 6 | 2 << 2, at: entry)
      store(7 | 1 << 23, at: entry + 8)
      store(first, at: entry + 16)
    }
  }
}
