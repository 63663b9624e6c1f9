import IOMMUFormats

/// A number of bytes in the largest unit that divides it: `12 KiB`, `2 MiB`, `100 bytes`.
///
/// Exact on purpose: 2052 KiB is one page more than 2 MiB, and that page counts.
package func byteCountText(_ byteCount: UInt64) -> String {
  guard byteCount > 0, byteCount % 1024 == 0 else {
    return byteCount == 1 ? "1 byte" : "\(byteCount) bytes"
  }
  var value = byteCount / 1024
  for unit in ["KiB", "MiB", "GiB"] {
    if value % 1024 != 0 { return "\(value) \(unit)" }
    value /= 1024
  }
  return "\(value) TiB"
}

/// A number of bytes for a glance, with one decimal: `54.4 MiB`.
func approximateByteCountText(_ byteCount: UInt64) -> String {
  let units: [(shift: UInt64, name: String)] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")]
  guard let unit = units.first(where: { byteCount >> $0.shift > 0 }) else {
    return "\(byteCount) bytes"
  }
  return "\(decimal(Double(byteCount) / Double(UInt64(1) << unit.shift))) \(unit.name)"
}

/// `1 run`, `2 runs`.
func countText(_ count: some BinaryInteger, _ noun: String, plural: String? = nil) -> String {
  "\(count) " + (count == 1 ? noun : plural ?? noun + "s")
}

extension String {
  /// The text with spaces after it up to `width`; never cut.
  package func padded(to width: Int) -> String {
    self + String(repeating: " ", count: Swift.max(0, width - count))
  }

  /// The text with spaces before it up to `width`; never cut.
  package func paddedLeft(to width: Int) -> String {
    String(repeating: " ", count: Swift.max(0, width - count)) + self
  }

  /// The text without the spaces at its end.
  var withoutTrailingSpaces: String {
    var end = endIndex
    while end > startIndex, self[index(before: end)] == " " { end = index(before: end) }
    return String(self[..<end])
  }
}

extension BitField {
  /// The bits as manuals write them: `63:12`, or `0` for a single one.
  var bitsText: String {
    bits.count == 1 ? "\(bits.lowerBound)" : "\(bits.upperBound):\(bits.lowerBound)"
  }

  /// What a reserved field that is not zero is called in a complaint.
  func violationText(value: UInt64) -> String {
    bits.count == 1
      ? "reserved bit \(bitsText) is set"
      : "reserved bits \(bitsText) are set: \(hexadecimal(value))"
  }
}

extension Permissions {
  /// `read and write`, `read only`, `write only`, `no access`.
  var words: String {
    switch self {
    case .readWrite: "read and write"
    case .read: "read only"
    case .write: "write only"
    default: "no access"
    }
  }
}

/// Several names as a sentence has them: `a`, `a and b`, `a, b and c`.
func listText(_ items: [String]) -> String {
  guard let last = items.last, items.count > 1 else { return items.first ?? "" }
  return items.dropLast().joined(separator: ", ") + " and " + last
}
