import IOMMUInspection
import Testing

@testable import IOMMUCommands

@Suite struct JSONTests {
  private struct Leaf: Encodable {
    var hitRate = 0.25
    var whole = 3.0
    var text = "a \"quote\", a \\, a tab\t, é, \u{1b} and \u{202e}"
    var nothing: String?
    var flags = [true, false]
    var map = ["b": 1, "a": 2]
    var none: [Int] = []
    var empty: [String: Int] = [:]
  }

  @Test func `members are in order, and strings hide nothing`() throws {
    var text = ""
    try writeJSON([Leaf()], to: &text)
    #expect(
      text == #"""
        [
          {
            "empty" : {

            },
            "flags" : [
              true,
              false
            ],
            "hitRate" : 0.25,
            "map" : {
              "a" : 2,
              "b" : 1
            },
            "none" : [

            ],
            "text" : "a \"quote\", a \\, a tab\t, é, \u001b and \u202e",
            "whole" : 3
          }
        ]

        """#)
    text = ""
    try writeJSON(Leaf(), keys: .snakeCase, to: &text)
    #expect(text.contains("  \"hit_rate\" : 0.25,\n"))
    text = ""
    try writeJSON(Optional<Int>.none, to: &text)
    #expect(text == "null\n")
  }

  /// Keeps the longest piece that it is given.
  private struct Pieces: TextOutputStream {
    var longest = 0
    var count = 0

    mutating func write(_ text: String) {
      longest = max(longest, text.utf8.count)
      count += text.utf8.count
    }
  }

  private struct Streamed: StreamedEncodable {
    var elements = [Leaf](repeating: Leaf(), count: 10_000)
  }

  @Test func `long lists are written piece by piece`() throws {
    var pieces = Pieces()
    try writeJSON(Streamed(), to: &pieces)
    #expect(pieces.count > 2_000_000 && pieces.longest < 1 << 17)
    pieces = Pieces()
    try writeJSON(Streamed().elements, to: &pieces)
    #expect(pieces.count > 2_000_000 && pieces.longest < 1 << 17)
  }

  @Test func `a number that JSON does not have is refused`() {
    var text = ""
    #expect(throws: EncodingError.self) { try writeJSON([Double.infinity], to: &text) }
  }
}
