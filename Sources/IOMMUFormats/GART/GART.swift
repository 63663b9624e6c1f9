/// The AMD graphics address remapping table (GART) of K8 and later northbridges, used as an IOMMU.
///
/// A window of I/O space that is translated by a flat table; everything outside passes unchanged.
/// Sources: Linux `gart.h`, `pci-gart_64.c`, `aperture_64.c`, `k8.c`; AMD's BIOS and kernel
/// developer's guides as quoted by open firmware.
public enum GART {
  /// Registers in the configuration space of function 3, 32 bits, little-endian.
  public enum RegisterOffset {
    /// Which errors are reported.
    public static let machineCheckControl: UInt64 = 0x40
    /// The low half; the high half follows at 0x4c.
    public static let machineCheckStatus: UInt64 = 0x48
    /// The low half; the high half follows at 0x54.
    public static let machineCheckAddress: UInt64 = 0x50
    /// Whether the GART translates, and how large the aperture is.
    public static let apertureControl: UInt64 = 0x90
    /// Where the aperture lies.
    public static let apertureBase: UInt64 = 0x94
    /// Where the GATT lies.
    public static let tableBase: UInt64 = 0x98
    /// Drops the GART TLB.
    public static let cacheControl: UInt64 = 0x9c
  }

  /// An entry names pages below this limit, 1 TiB.
  public static let physicalLimit: UInt64 = 1 << 40

  /// Function 3 of a northbridge carries the GART registers.
  public static let function: UInt8 = 3

  /// The vendor and device IDs of function 3 whose GART Linux 2.6.27 uses: families 0Fh and 10h.
  public static let northbridgeIDs: [(vendor: UInt16, device: UInt16)] = [
    (0x1022, 0x1103), (0x1022, 0x1203),
  ]
}
