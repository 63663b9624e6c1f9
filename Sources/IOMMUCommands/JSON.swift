import FoundationEssentials

/// Writes a value as JSON: indented, keys in order, a newline at the end.
func writeJSON(_ value: some Encodable, to out: inout some TextOutputStream) throws {
  let encoder = JSONEncoder()
  encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
  out.write(String(decoding: try encoder.encode(value), as: UTF8.self))
  out.write("\n")
}
