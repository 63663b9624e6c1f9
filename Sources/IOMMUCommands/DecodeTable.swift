import IOMMUFormats
import IOMMUImages
import IOMMUInspection

/// The tables of firmware that `iommu decode` takes apart from a file.
enum FirmwareTableKind: String, CaseIterable {
  case dmar, ivrs, iort

  /// `nil` for a kind that is an entry or register.
  init?(named text: String) { self.init(rawValue: text.lowercased()) }

  var summary: String {
    switch self {
    case .dmar: "dmar: the ACPI table of VT-d units and their devices, from a file"
    case .ivrs: "ivrs: that of AMD-Vi units"
    case .iort: "iort: that of SMMUs"
    }
  }

  /// The four characters that the table begins with.
  var signature: String { rawValue.uppercased() }

  /// No firmware writes a larger one.
  static let byteCountLimit = 1 << 20

  /// Prints the table in the file at `path`.
  ///
  /// - Returns: Whether no rule is broken, and all was read.
  func report(
    path: String, ignoringChecksum: Bool, _ format: ReportFormat,
    to out: inout some TextOutputStream
  ) throws -> Bool {
    let bytes = try FirmwareTableFile.read(
      path, signature: signature, atMost: Self.byteCountLimit)
    do {
      switch self {
      case .dmar:
        let report = DMARReport(
          try VTd.DMAR.Reading(bytes, ignoringChecksum: ignoringChecksum))
        switch format {
        case .text: report.write(to: &out)
        case .json: try writeJSON(report, to: &out)
        }
        return report.isWellFormed
      case .ivrs:
        return try write(
          FirmwareTableReport(
            try AMDVi.IVRS(parsing: bytes, ignoringChecksum: ignoringChecksum)), format, to: &out)
      case .iort:
        return try write(
          FirmwareTableReport(
            try ACPI.IORT(parsing: bytes, ignoringChecksum: ignoringChecksum)), format, to: &out)
      }
    } catch let error as VTd.DMAR.ParsingError {
      throw InputError("\(ByteStream.name(of: path)): \(error)")
    } catch let error as ACPI.TableError {
      throw InputError("\(ByteStream.name(of: path)): \(error)")
    }
  }

  private func write(
    _ report: FirmwareTableReport, _ format: ReportFormat, to out: inout some TextOutputStream
  ) throws -> Bool {
    switch format {
    case .text: report.write(to: &out)
    case .json: try writeJSON(report, to: &out)
    }
    return report.isWellFormed
  }
}
