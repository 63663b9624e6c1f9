import FoundationEssentials

/// Writes a value as JSON: indented, keys in order, a newline at the end.
func writeJSON(
  _ value: some Encodable, keys: JSONEncoder.KeyEncodingStrategy = .useDefaultKeys,
  to out: inout some TextOutputStream
) throws {
  let encoder = JSONEncoder()
  encoder.keyEncodingStrategy = keys
  encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
  out.write(String(decoding: try encoder.encode(value), as: UTF8.self))
  out.write("\n")
}
