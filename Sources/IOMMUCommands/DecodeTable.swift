import IOMMUFormats
import IOMMUImages
import IOMMUInspection

/// The tables of firmware that `iommu decode` takes apart from a file.
enum FirmwareTableKind: String {
  case dmar

  /// `nil` for a kind that is an entry or register.
  init?(named text: String) { self.init(rawValue: text.lowercased()) }

  static let summary = "dmar: the ACPI table of VT-d units and their devices, from a file"

  /// No firmware writes a larger one.
  private static let byteCountLimit = 1 << 20

  /// Prints the table in the file at `path`.
  ///
  /// - Returns: Whether no rule of the manual is broken.
  func report(
    path: String, ignoringChecksum: Bool, _ format: ReportFormat,
    to out: inout some TextOutputStream
  ) throws -> Bool {
    let bytes = try FirmwareTableFile.read(path, atMost: Self.byteCountLimit)
    let table: VTd.DMAR
    do {
      table = try VTd.DMAR(parsing: bytes, ignoringChecksum: ignoringChecksum)
    } catch {
      throw InputError("\(path): \(error)")
    }
    let report = DMARReport(table)
    switch format {
    case .text: report.write(to: &out)
    case .json: try writeJSON(report, to: &out)
    }
    return report.isWellFormed
  }
}
