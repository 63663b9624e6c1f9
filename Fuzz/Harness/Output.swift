import FoundationEssentials
import IOMMUCommands
import IOMMUFormats

/// What has to hold of everything that is written, whatever was read.
enum Output {
  /// No input of the fuzzer's is larger than 16 KiB; no answer to one needs more than this.
  static let byteLimit = 256 << 20

  /// Text in lines, with nothing in it that disguises anything.
  static func check(text: String) {
    require(text.utf8.count <= byteLimit, "an answer is in proportion to the question")
    for scalar in text.unicodeScalars where scalar.isDisguise {
      require(scalar == "\n" || scalar == "\t", "what is written is plain text")
    }
  }

  /// JSON that reads as JSON, and is plain text.
  static func check(json: String) {
    check(text: json)
    require(
      (try? JSONDecoder().decode(Anything.self, from: Data(json.utf8))) != nil,
      "what is written as JSON is JSON")
  }

  /// The value as the commands write it.
  static func check(encoded value: some Encodable) {
    var text = ""
    do { try writeJSON(value, to: &text) } catch { fatalError("JSON: \(error)") }
    check(json: text)
  }

  /// HTML or SVG with tags that the tool writes and no others: what came from outside is none.
  static func check(markup: String) {
    check(text: markup)
    let bytes = Array(markup.utf8)
    var place = 0
    while let start = bytes[place...].firstIndex(of: UInt8(ascii: "<")) {
      let name = bytes[(start + 1)...].prefix {
        $0 != UInt8(ascii: ">") && $0 != UInt8(ascii: " ") && $0 != UInt8(ascii: "\n")
      }
      let tag = String(decoding: name, as: UTF8.self)
      require(
        tags.contains(tag.hasPrefix("/") ? String(tag.dropFirst()) : tag),
        "'<\(tag)' is no tag of the tool's")
      place = start + 1
    }
  }

  private static let tags: Set<String> = [
    "!DOCTYPE", "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "p",
    "div", "b", "i", "span", "ul", "ol", "li", "code", "pre", "a", "table", "tr", "th", "td",
    "details", "summary", "footer", "svg", "rect", "line", "text", "path", "g", "circle",
    "polyline", "br", "defs", "pattern", "tspan", "polygon",
  ]

  private struct Anything: Decodable {
    init(from _: any Decoder) {}
  }
}

/// Ends the process with a sentence, in release builds too.
func require(_ condition: Bool, _ text: @autoclosure () -> String) {
  if !condition { fatalError(text()) }
}
