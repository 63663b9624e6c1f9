import IOMMUFormats
import IOMMUImages
@_exported import IOMMUTestSupport
import Testing

@testable import IOMMULinux

/// Bytes that are written as the specification's vectors are.
func hexBytes(_ text: String) -> [UInt8] {
  let digits = text.utf8.compactMap { hexadecimalDigit($0) }
  return stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
}

func little(_ value: UInt64, _ count: Int) -> [UInt8] { TinyELF.little(value, count) }

/// A kernel of 16 MiB: its image at physical 0, mapped with 2 MiB pages, and whatever a test puts there.
///
/// Addresses of the image are `0xffffffff81000000` and up; the tables take physical 0x1000 to 0x3fff.
final class TinyKernel {
  static let text: UInt64 = 0xffff_ffff_8100_0000
  let memory: FlatMemory
  var lines = """
    OSRELEASE=6.1.0-tiny
    PAGESIZE=4096
    SYMBOL(swapper_pg_dir)=ffffffff81001000
    SYMBOL(_stext)=ffffffff81000000
    NUMBER(phys_base)=-16777216
    NUMBER(pgtable_l5_enabled)=0
    NUMBER(sme_mask)=0

    """

  init() {
    guard let memory = try? FlatMemory(byteCount: 16 << 20) else { fatalError("no memory") }
    self.memory = memory
    // 0xffffffff81000000: entry 511 of level 4, 510 of level 3, 8 of level 2.
    memory.store(0x2003 as UInt64, at: PhysicalAddress(0x1000 + 511 * 8))
    memory.store(0x3003 as UInt64, at: PhysicalAddress(0x2000 + 510 * 8))
    for number in 0..<8 as Range<UInt64> {
      memory.store(0x83 + number << 21 as UInt64, at: PhysicalAddress(0x3000 + (8 + number) * 8))
    }
  }

  var info: VMCoreInfo { VMCoreInfo(Array(lines.utf8)) }

  func put(_ bytes: [UInt8], at address: UInt64) {
    _ = memory.write(bytes, at: PhysicalAddress(address - Self.text))
  }

  func put(words: [UInt64], at address: UInt64) {
    put(words.flatMap { little($0, 8) }, at: address)
  }

  /// Its memory, without pages whose physical addresses are given.
  func reader(without leftOut: Set<UInt64> = []) throws -> KernelMemory {
    KernelMemory(
      LackingMemory(memory, without: leftOut), tables: try KernelPageTables(info))
  }
}

/// What a throwing read gives as an error; `nil` and an issue when it gives a value.
func readError<Value>(
  _ body: () throws(KernelReadError) -> Value, _ location: SourceLocation = #_sourceLocation
) -> KernelReadError? {
  do throws(KernelReadError) {
    let value = try body()
    Issue.record("read \(value)", sourceLocation: location)
    return nil
  } catch {
    return error
  }
}
