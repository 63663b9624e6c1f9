/// The AMD graphics address remapping table (GART) of K8 and later northbridges, used as an IOMMU.
///
/// A window of I/O space that is translated by a flat table; everything outside passes unchanged.
/// Sources: Linux `gart.h`, `pci-gart_64.c`, `aperture_64.c`, `k8.c`; AMD's BIOS and kernel
/// developer's guides as quoted by open firmware.
public enum GART {
  /// Registers in the configuration space of function 3, 32 bits, little-endian.
  public enum RegisterOffset {
    public static let apertureControl: UInt64 = 0x90
    public static let apertureBase: UInt64 = 0x94
    public static let tableBase: UInt64 = 0x98
    public static let cacheControl: UInt64 = 0x9c
  }

  /// An entry names pages below this limit, 1 TiB.
  public static let physicalLimit: UInt64 = 1 << 40
}
