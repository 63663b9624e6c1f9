/// How a file holds memory.
public enum ImageFormat: String, Sendable, CaseIterable, CustomStringConvertible {
  /// An ELF core of either class: `/proc/vmcore`, `makedumpfile -E`, `virsh dump --memory-only`,
  /// `/proc/kcore`.
  case elfCore = "ELF core"
  /// Pages packed one by one: makedumpfile's own format, and `dump-guest-memory -z` of QEMU.
  case kdumpCompressed = "kdump-compressed"
  /// Ranges of memory, each behind a header of 32 bytes: LiME, and AVML 1.
  case lime = "LiME"
  /// The same with packed ranges: AVML 2.
  case avml = "AVML"
  /// The memory of a VMware guest, in a file beside its saved state or inside of it.
  case vmware = "VMware saved state"
  /// A Xen guest's pages in sections of an ELF file: `xl dump-core`.
  case xenCore = "Xen dump-core"
  /// Nothing but the bytes, from physical address 0.
  case raw = "raw"
  /// The memory of the machine that runs: `/dev/mem`.
  case device = "physical memory device"

  /// The name for people, such as `ELF core`.
  public var description: String { rawValue }
}
