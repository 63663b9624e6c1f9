/// Intel Virtualization Technology for Directed I/O (VT-d), to the bit.
///
/// Section numbers are those of the architecture specification, revision 5.10 (D51397-018). All
/// structures are little-endian; bit 0 is bit 0 of byte 0.
public enum VTd {
  /// Registers of a remapping unit, as offsets from its base. Specification: 11.4.
  public enum RegisterOffset {
    /// VER_REG.
    public static let version: UInt64 = 0x000
    /// CAP_REG.
    public static let capability: UInt64 = 0x008
    /// ECAP_REG.
    public static let extendedCapability: UInt64 = 0x010
    /// GCMD_REG.
    public static let globalCommand: UInt64 = 0x018
    /// GSTS_REG.
    public static let globalStatus: UInt64 = 0x01c
    /// RTADDR_REG.
    public static let rootTableAddress: UInt64 = 0x020
  }

  /// Addresses that are interrupt messages, not memory; half-open.
  ///
  /// Specification: 3.14.
  @inlinable @inline(__always)
  public static var interruptAddresses: Range<UInt64> { 0xfee0_0000..<0xfef0_0000 }

  /// Whether the address lies in ``interruptAddresses``.
  @inlinable
  public static func isInterruptAddress(_ address: UInt64) -> Bool {
    // The range is one MiB at a multiple of one MiB: a shift and one comparison.
    address &>> 20 == interruptAddresses.lowerBound &>> 20
  }
}
