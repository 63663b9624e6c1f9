import IOMMUFormats
import IOMMUTranslation

/// A machine file: what a dump cannot say, as JSON that people and programs write.
///
/// Which units the machine has, what their registers hold, where RAM and the crash kernel are. A
/// register that is not listed is unknown, not zero. Keys that are not known are ignored.
///
/// ```json
/// {"version": 1, "name": "deb48", "images": ["tables.elf"],
///  "units": [{"kind": "intel-vtd", "base": "0xfed90000", "registers": {"0x020": "0x6a04000"}}],
///  "ram": [["0x0", "0x20000000"]], "crash_kernel": [["0x2000000", "0xa000000"]]}
/// ```
public struct MachineFile: Sendable, Hashable {
  /// The only version there is.
  package static let version: UInt64 = 1

  /// Files of more bytes than this are refused.
  package static let byteCountLimit = 64 << 20

  /// The file's path as it was given; names the file in errors.
  public var path: String
  /// The machine's name; the path when the file gives none.
  public var name: String
  /// The same memory in one or several containers, as paths relative to the file's directory.
  public var images: [String]
  /// The translation units, in the order in which a machine asks them.
  public var units: [Unit]
  /// Half-open, ascending, not overlapping; empty when not known.
  public var ram: [Range<PhysicalAddress>]
  /// Half-open, multiples of 4 KiB; empty when there is no crash kernel.
  public var crashKernel: [Range<PhysicalAddress>]

  /// A machine file that is not on disk yet; nothing is checked.
  public init(
    path: String = "machine.json", name: String, images: [String] = [], units: [Unit] = [],
    ram: [Range<PhysicalAddress>] = [], crashKernel: [Range<PhysicalAddress>] = []
  ) {
    self.path = path
    self.name = name
    self.images = images
    self.units = units
    self.ram = ram
    self.crashKernel = crashKernel
  }

  /// The images' paths, as a program in any directory opens them.
  public var imagePaths: [String] {
    let slash = path.utf8.lastIndex(of: UInt8(ascii: "/"))
    let directory = slash.map { String(path[...$0]) } ?? ""
    return images.map { $0.hasPrefix("/") ? $0 : directory + $0 }
  }

  /// What is strange about the machine and no error.
  public var warnings: [String] {
    var first: (index: Int, registers: [UInt64: UInt64])?
    var warnings: [String] = []
    for (index, unit) in units.enumerated() {
      guard case .gart = unit.hardware else { continue }
      guard let first else {
        first = (index, unit.registers)
        continue
      }
      let differing = [
        GART.RegisterOffset.apertureControl, GART.RegisterOffset.apertureBase,
        GART.RegisterOffset.tableBase,
      ].filter { unit.registers[$0] != first.registers[$0] }
      guard !differing.isEmpty else { continue }
      warnings.append(
        "units[\(index)] and units[\(first.index)] differ in "
          + differing.map { "register \(hexadecimal($0))" }.joined(separator: ", ")
          + ": all nodes should have the same aperture and table; the first that translates counts")
    }
    return warnings
  }

  /// A translation unit as the file describes it.
  public struct Unit: Sendable, Hashable {
    /// What the unit is, and what is known of it besides registers.
    public enum Hardware: Sendable, Hashable {
      /// `base` is BBAR.
      case calgary(Calgary.Chip.Model, base: PhysicalAddress)
      /// `device` is function 3 of the northbridge.
      case gart(device: Requester, hasErratum156: Bool = false)
      /// The host address width is in bits, 32 to 52; `nil`s where the file is silent.
      case vtd(
        base: PhysicalAddress, hostAddressWidth: Int? = nil, hasTransientMappings: Bool? = nil,
        segment: UInt16? = nil)
    }

    /// The unit without its registers.
    public var hardware: Hardware
    /// Offset to value, bits numbered as the manual numbers them.
    public var registers: [UInt64: UInt64]

    /// A unit as its registers stand; nothing is checked.
    public init(_ hardware: Hardware, registers: [UInt64: UInt64]) {
      self.hardware = hardware
      self.registers = registers
    }
  }
}

extension MachineFile.Unit.Hardware {
  /// The kinds, as files name them.
  static let kinds = [
    Calgary.Chip.Model.calgary.rawValue, Calgary.Chip.Model.calioc2.rawValue, gartKind, vtdKind,
  ]
  static let gartKind = "amd-gart"
  static let vtdKind = "intel-vtd"

  /// A register's key as files are written: `0x90`, and `0x01c` for VT-d, as its manual has it.
  func registerKey(_ offset: UInt64) -> String {
    if case .vtd = self { return "0x" + hexadecimal(offset, digits: 3) }
    return hexadecimal(offset)
  }

  /// Bytes of registers that a unit of this kind has at most.
  var registerSpace: UInt64 {
    switch self {
    case .gart: 4096
    case .calgary, .vtd: 1 << 20
    }
  }

  /// Bits in a register; 64 for those that are not known here.
  func registerBits(at offset: UInt64) -> Int {
    switch self {
    case .gart:
      return 32
    case .calgary:
      let register = Calgary.Register(containing: offset)
      return register.map { $0.offset == offset ? 8 * $0.byteCount : 64 } ?? 64
    case .vtd:
      let narrow = [
        VTd.RegisterOffset.version, VTd.RegisterOffset.globalCommand,
        VTd.RegisterOffset.globalStatus,
      ]
      return narrow.contains(offset) ? 32 : 64
    }
  }
}
