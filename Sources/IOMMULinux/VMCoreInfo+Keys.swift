import IOMMUFormats
import IOMMUImages

/// Numbers out of VMCOREINFO, each in the form that its kind of line has.
///
/// Source: Linux `Documentation/admin-guide/kdump/vmcoreinfo.rst`; that some `NUMBER` lines are written in
/// hexadecimal was seen in dumps of 6.12 and 7.2.
extension VMCoreInfo {
  /// The run-time virtual address of a variable, or for some keys (`vmemmap`) the value itself.
  public func symbol(_ name: String) -> UInt64? {
    self["SYMBOL(\(name))"].flatMap { Notation.hexadecimal(utf8: $0.utf8) }
  }

  /// A number, which may be negative and is then taken modulo 2^64; decimal, or hexadecimal behind `0x`.
  public func number(_ name: String) -> UInt64? {
    self["NUMBER(\(name))"].flatMap { Self.signed($0) }
  }

  /// Where a member lies in its structure, in bytes: `printk_info.seq`.
  public func offset(_ member: String) -> UInt64? {
    self["OFFSET(\(member))"].flatMap { Self.signed($0) }
  }

  /// How many bytes a structure has.
  public func size(_ structure: String) -> UInt64? {
    self["SIZE(\(structure))"].flatMap { Self.signed($0) }
  }

  /// How many elements an array has.
  public func length(_ array: String) -> UInt64? {
    self["LENGTH(\(array))"].flatMap { Self.signed($0) }
  }

  /// The kernel's release, as `uname -r` prints it.
  public var release: String? { self["OSRELEASE"] }

  /// How far the kernel runs from the address that it was linked for.
  public var kernelOffset: UInt64? {
    self["KERNELOFFSET"].flatMap { Notation.hexadecimal(utf8: $0.utf8) }
  }

  /// Bytes in a page.
  public var pageByteCount: UInt64? { self["PAGESIZE"].flatMap { Self.signed($0) } }

  private static func signed(_ text: String) -> UInt64? {
    let isNegative = text.utf8.first == UInt8(ascii: "-")
    let digits = text.utf8.dropFirst(isNegative ? 1 : 0)
    let magnitude =
      digits.starts(with: "0x".utf8)
      ? Notation.hexadecimal(utf8: digits) : Notation.decimal(utf8: digits)
    return magnitude.map { isNegative ? 0 &- $0 : $0 }
  }
}
