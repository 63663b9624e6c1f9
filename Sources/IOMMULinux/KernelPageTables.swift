import IOMMUFormats
import IOMMUImages

/// How a kernel's own addresses become physical: its page tables, and the straight runs that hold without
/// them.
///
/// Sources: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 3A, 4.5, "4-Level Paging and
/// 5-Level Paging"; Arm Architecture Reference Manual, D8.3, "Translation table descriptor formats"; Linux
/// `Documentation/arch/x86/x86_64/mm.rst` and `Documentation/arch/arm64/memory.rst`. *Assumed*: an arm64
/// kernel built for 52 bits on a processor with fewer folds its upper levels with pages of 4 and 16 KiB, and
/// keeps its top table with 64 KiB.
public struct KernelPageTables: Hashable, Sendable {
  public enum Architecture: String, Sendable {
    case x86_64
    case arm64 = "aarch64"
  }

  /// Addresses whose physical ones are a fixed distance away.
  struct Run: Hashable, Sendable {
    /// Closed: one of them ends at 2^64 − 1.
    var addresses: ClosedRange<UInt64>
    /// To be subtracted, modulo 2^64.
    var distance: UInt64
  }

  public let architecture: Architecture
  /// The top table.
  public let root: PhysicalAddress
  /// Tables on the way to a smallest page.
  public let levels: Int
  /// Bytes of the smallest page, as a power of two: 12, 14 or 16.
  public let pageSizeLog2: Int
  /// Bits of an address that tables choose by.
  public let addressBits: Int
  /// Bits of an entry that are set in every address and belong to none: memory encryption.
  public let encryptionMask: UInt64
  /// arm64: addresses of 52 bits have their upper bits elsewhere in the entry.
  let hasWideAddresses: Bool
  /// The kernel's image.
  let image: Run
  /// All of memory, where it is known without reading.
  let linear: Run?

  /// Reads how the kernel of a VMCOREINFO maps itself.
  ///
  /// - Throws: ``KernelReadError`` when lines are missing or say what cannot be.
  public init(_ info: VMCoreInfo) throws(KernelReadError) {
    if info.number("kimage_voffset") != nil {
      self = try Self.arm64(info)
    } else if info.number("phys_base") != nil
      || Self.topTable(info).map({ $0 >= Self.imageStart }) ?? false
    {
      self = try Self.x86_64(info)
    } else {
      throw .damaged("VMCOREINFO is of neither an x86-64 nor an arm64 kernel")
    }
  }

  // MARK: x86-64

  /// Where the kernel's image is mapped: `__START_KERNEL_map`.
  static let imageStart: UInt64 = 0xffff_ffff_8000_0000
  private static let presentMask: UInt64 = 1
  private static let pageMask: UInt64 = 1 << 7

  private static func topTable(_ info: VMCoreInfo) -> UInt64? {
    info.symbol("init_top_pgt") ?? info.symbol("swapper_pg_dir") ?? info.symbol("init_level4_pgt")
  }

  private static func x86_64(_ info: VMCoreInfo) throws(KernelReadError) -> KernelPageTables {
    guard let top = topTable(info) else { throw .noKey("SYMBOL(swapper_pg_dir)") }
    // Kernels before 4.11 do not say it; all that were not moved have 0.
    let base = info.number("phys_base") ?? 0
    let byteCount = min(max(info.number("KERNEL_IMAGE_SIZE") ?? 1 << 30, 1 << 20), 1 << 31)
    let run = Run(
      addresses: imageStart...imageStart &+ (byteCount &- 1), distance: imageStart &- base)
    guard run.addresses.contains(top) else {
      throw .damaged("the top page table at \(hexadecimal(top)) is not in the kernel's image")
    }
    let hasFive = info.number("pgtable_l5_enabled") == 1
    return KernelPageTables(
      architecture: .x86_64, root: PhysicalAddress(top &- run.distance), levels: hasFive ? 5 : 4,
      pageSizeLog2: 12, addressBits: hasFive ? 57 : 48,
      encryptionMask: info.number("sme_mask") ?? 0,
      hasWideAddresses: false, image: run, linear: nil)
  }

  // MARK: arm64

  private static func arm64(_ info: VMCoreInfo) throws(KernelReadError) -> KernelPageTables {
    guard let top = topTable(info) else { throw .noKey("SYMBOL(swapper_pg_dir)") }
    guard let distance = info.number("kimage_voffset") else {
      throw .noKey("NUMBER(kimage_voffset)")
    }
    guard let bits = info.number("VA_BITS"), 36...52 ~= bits else {
      throw .noKey("NUMBER(VA_BITS)")
    }
    let pageSize = info.pageByteCount ?? 4096
    guard [4096, 16384, 65536].contains(pageSize) else {
      throw .damaged("pages of \(pageSize) bytes, which arm64 does not have")
    }
    let pageSizeLog2 = pageSize.trailingZeroBitCount
    var addressBits = Int(bits)
    if pageSizeLog2 < 16, let size = info.number("TCR_EL1_T1SZ"), 12...28 ~= size {
      addressBits = min(addressBits, 64 - Int(size))
    }
    let indexBits = pageSizeLog2 - 3
    // PAGE_OFFSET is −2^VA_BITS since 5.4, and the upper half holds the image and the modules.
    let start = UInt64.max << bits
    return KernelPageTables(
      architecture: .arm64, root: PhysicalAddress(top &- distance),
      levels: (addressBits - pageSizeLog2 + indexBits - 1) / indexBits, pageSizeLog2: pageSizeLog2,
      addressBits: addressBits, encryptionMask: 0,
      hasWideAddresses: pageSizeLog2 == 16 || addressBits > 48,
      image: Run(addresses: (start | 1 << (bits - 1))...(.max), distance: distance),
      linear: info.number("PHYS_OFFSET").map { physical in
        Run(addresses: start...(start | 1 << (bits - 1)) &- 1, distance: start &- physical)
      })
  }

  private init(
    architecture: Architecture, root: PhysicalAddress, levels: Int, pageSizeLog2: Int,
    addressBits: Int, encryptionMask: UInt64, hasWideAddresses: Bool, image: Run, linear: Run?
  ) {
    self.architecture = architecture
    self.root = root
    self.levels = levels
    self.pageSizeLog2 = pageSizeLog2
    self.addressBits = addressBits
    self.encryptionMask = encryptionMask
    self.hasWideAddresses = hasWideAddresses
    self.image = image
    self.linear = linear
  }

  // MARK: Translation

  /// The address without what software keeps in the upper byte of a pointer (arm64 with KASAN's tags).
  func canonical(_ address: UInt64) -> UInt64 {
    architecture == .arm64 && address >> 55 & 1 == 1 ? address | 0xff << 56 : address
  }

  /// Where an address lies: by the tables, and where the dump lacks one of them, by the straight runs.
  ///
  /// - Complexity: ``levels`` loads at most.
  public func physicalAddress(
    of address: UInt64, in memory: any PhysicalMemory
  ) throws(KernelReadError) -> PhysicalAddress {
    let address = canonical(address)
    guard isOwn(address) else { throw .unmapped(address) }
    do throws(KernelReadError) {
      return try walk(address, in: memory)
    } catch {
      guard error.isAbsence, let physical = straight(address) else { throw error }
      return physical
    }
  }

  /// Whether an address is one of the kernel's half: all bits above those that tables choose by are ones.
  func isOwn(_ address: UInt64) -> Bool {
    address >> UInt64(addressBits - 1) == .max >> UInt64(addressBits - 1)
  }

  /// By the straight runs alone; `nil` for an address in none of them.
  func straight(_ address: UInt64) -> PhysicalAddress? {
    for run in [image, linear] {
      if let run, run.addresses.contains(address) {
        return PhysicalAddress(address &- run.distance)
      }
    }
    return nil
  }

  private func walk(
    _ address: UInt64, in memory: any PhysicalMemory
  ) throws(KernelReadError) -> PhysicalAddress {
    let indexBits = pageSizeLog2 - 3
    var table = root.rawValue
    for level in stride(from: levels - 1, through: 0, by: -1) {
      let shift = UInt64(pageSizeLog2 + indexBits * level)
      let bits = UInt64(min(indexBits, addressBits - Int(shift)))
      let index = address >> shift & (1 << bits &- 1)
      let place = PhysicalAddress(table &+ index &* 8)
      guard let entry = memory.quadword(at: place) else {
        throw .absent(address: 0, physical: place, memory.presence(of: place))
      }
      let offset = UInt64(1) << shift &- 1
      switch kind(of: entry, level: level) {
      case .empty: throw .unmapped(address)
      case .page(let page): return PhysicalAddress(page & ~offset | address & offset)
      case .table(let next): table = next
      }
    }
    throw .unmapped(address)
  }

  private enum Kind { case empty, table(UInt64), page(UInt64) }

  /// What an entry says; `level` is 0 where it is of a smallest page.
  private func kind(of entry: UInt64, level: Int) -> Kind {
    switch architecture {
    case .x86_64:
      guard entry & Self.presentMask != 0 else { return .empty }
      let address = entry & 0x000f_ffff_ffff_f000 & ~encryptionMask
      // 4 KiB, and with the bit set 2 MiB and 1 GiB.
      return level == 0 || 1...2 ~= level && entry & Self.pageMask != 0
        ? .page(address) : .table(address)
    case .arm64:
      // Bit 0: valid; bit 1: a table, or at the last level a page. Nothing else is defined there.
      guard entry & 1 != 0 else { return .empty }
      let isTableOrPage = entry & 2 != 0
      let address = outputAddress(of: entry)
      if level == 0 { return isTableOrPage ? .page(address) : .empty }
      return isTableOrPage ? .table(address) : .page(address)
    }
  }

  /// Bits 47:*n* of an arm64 descriptor, and of wide ones the four above them: in bits 15:12 with pages of
  /// 64 KiB; bits 49:48 stand for themselves and 51:50 in bits 9:8 with smaller ones.
  private func outputAddress(of entry: UInt64) -> UInt64 {
    let pageMask = ~(UInt64(1) << UInt64(pageSizeLog2) &- 1)
    guard hasWideAddresses else { return entry & 0x0000_ffff_ffff_ffff & pageMask }
    if pageSizeLog2 == 16 {
      return entry & 0x0000_ffff_ffff_0000 | (entry >> 12 & 0xf) << 48
    }
    return entry & 0x0003_ffff_ffff_ffff & pageMask | (entry >> 8 & 3) << 50
  }
}
