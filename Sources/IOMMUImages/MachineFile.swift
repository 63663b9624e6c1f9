import IOMMUFormats
import IOMMUTranslation

/// A machine file: what a dump cannot say, as JSON that people and programs write.
///
/// Which units the machine has, what their registers hold, where RAM and the crash kernel are. A
/// register that is not listed is unknown, not zero. Keys that are not known are
/// ignored; one that looks like a key that is known, and that the file lacks, is told.
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
  /// Keys that are not known and look like ones that are, each as a sentence.
  var slips: [String] = []
  /// What firmware says of units, by the keys that tables of firmware have.
  var firmware: [String: FirmwareTable] = [:]

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
  public var imagePaths: [String] { images.map { Self.resolve($0, beside: path) } }

  /// The paths of firmware's tables, likewise; those that are written down in the file have none.
  public var firmwarePaths: [String] {
    firmware.values.compactMap { $0.path.map { Self.resolve($0, beside: path) } }.sorted()
  }

  /// A path relative to the directory of a machine file.
  static func resolve(_ relative: String, beside path: String) -> String {
    let slash = path.utf8.lastIndex(of: UInt8(ascii: "/"))
    let directory = slash.map { String(path[...$0]) } ?? ""
    return relative.hasPrefix("/") ? relative : directory + relative
  }

  /// What is strange about the machine and no error.
  public var warnings: [String] {
    slips.map { "\(path): \($0)" }
      + UnitRecords.all.flatMap { format in
        format.warnings(
          about: units.enumerated().filter { format.kinds.contains($0.element.kind) }
            .map { ($0.offset, $0.element) },
          firmware: format.firmwareKey.flatMap { firmware[$0] })
      }
  }

  /// A translation unit as the file describes it: what it is, where it is, and its registers.
  ///
  /// Each kind has a function that makes one, beside its hardware.
  public struct Unit: Sendable, Hashable {
    /// What the unit is, as files name it: `intel-vtd`.
    public let kind: String
    /// What is known of it besides registers, by the keys that its kind has.
    let values: [String: Value]
    /// Offset to value, bits numbered as the manual numbers them.
    public var registers: [UInt64: UInt64]

    /// - Precondition: the values have the forms of the kind's keys.
    init(kind: String, values: [String: Value], registers: [UInt64: UInt64]) {
      self.kind = kind
      self.values = values
      self.registers = registers
    }
  }
}
