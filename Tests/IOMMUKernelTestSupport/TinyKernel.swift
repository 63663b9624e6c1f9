import IOMMUFormats
import IOMMUImages
import IOMMULinux
import IOMMUTestSupport

/// Bytes that are written as the specification's vectors are.
package func hexBytes(_ text: String) -> [UInt8] {
  let digits = text.utf8.compactMap { hexadecimalDigit($0) }
  return stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
}

package func little(_ value: UInt64, _ count: Int) -> [UInt8] { TinyELF.little(value, count) }

/// A kernel of 16 MiB: its image at a physical address, mapped with 2 MiB pages, and whatever a test puts
/// there.
///
/// Addresses of the image are `0xffffffff81000000` and up; the tables are its pages 1 to 3.
package final class TinyKernel {
  package static let text: UInt64 = 0xffff_ffff_8100_0000
  package static let byteCount: UInt64 = 16 << 20
  package let memory: FlatMemory
  /// Where the image is.
  package let base: UInt64
  package var lines: String

  /// - Parameters:
  ///   - memory: Memory that holds the image; the image's own where there is none.
  ///   - base: A multiple of 2 MiB.
  package init(in memory: FlatMemory? = nil, at base: UInt64 = 0) {
    guard let memory = memory ?? (try? FlatMemory(byteCount: base + Self.byteCount)) else {
      fatalError("no memory")
    }
    self.memory = memory
    self.base = base
    lines = """
      OSRELEASE=6.1.0-tiny
      PAGESIZE=4096
      SYMBOL(swapper_pg_dir)=ffffffff81001000
      SYMBOL(_stext)=ffffffff81000000
      NUMBER(phys_base)=\(Int64(base) - 16_777_216)
      NUMBER(pgtable_l5_enabled)=0
      NUMBER(sme_mask)=0

      """
    // 0xffffffff81000000: entry 511 of level 4, 510 of level 3, 8 of level 2.
    memory.store(base + 0x2003, at: PhysicalAddress(base + 0x1000 + 511 * 8))
    memory.store(base + 0x3003, at: PhysicalAddress(base + 0x2000 + 510 * 8))
    for number in 0..<8 as Range<UInt64> {
      memory.store(
        base + 0x83 + number << 21 as UInt64,
        at: PhysicalAddress(base + 0x3000 + (8 + number) * 8))
    }
  }

  /// Where an address of the image lies.
  package func physical(_ address: UInt64) -> UInt64 { address - Self.text + base }

  package var info: VMCoreInfo { VMCoreInfo(Array(lines.utf8)) }

  package func put(_ bytes: [UInt8], at address: UInt64) {
    _ = memory.write(bytes, at: PhysicalAddress(physical(address)))
  }

  package func put(words: [UInt64], at address: UInt64) {
    put(words.flatMap { little($0, 8) }, at: address)
  }

  /// Its memory, without pages whose physical addresses are given.
  package func reader(without leftOut: Set<UInt64> = []) throws -> KernelMemory {
    KernelMemory(
      LackingMemory(memory, without: leftOut), tables: try KernelPageTables(info))
  }
}
