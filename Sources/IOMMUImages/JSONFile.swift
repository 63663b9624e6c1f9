import FoundationEssentials

/// Reads a whole JSON file that others wrote.
///
/// - Parameter kind: What the file should be, in errors: `a truth file`.
/// - Throws: ``ImageError`` that names the file and the JSON path of what is wrong, also for a file of
///   more bytes than `limit`.
package func decodeJSON<Document: Decodable>(
  _: Document.Type, path: String, atMost limit: Int, kind: String
) throws(ImageError) -> Document {
  let bytes = try InputFile(path: path).contents(atMost: limit)
  try MachineFile.checkText(bytes, path, kind: kind)
  do {
    return try JSONDecoder().decode(Document.self, from: Data(bytes))
  } catch let error as DecodingError {
    throw ImageError(file: path, error)
  } catch {
    throw ImageError(file: path, found: "cannot be read as JSON: \(error)")
  }
}
