import IOMMUFormats
import Testing

/// Text from outside shows what is in it.
@Suite struct VisibleTextTests {
  @Test(arguments: [
    ("plain text, ümlaut 漢字", "plain text, ümlaut 漢字"), ("", ""),
    ("\u{1b}[31mred\u{7}", #"\u{1B}[31mred\u{7}"#), ("a\nb\tc\r", #"a\u{A}b\u{9}c\u{D}"#),
    ("\u{9b}2J\u{85}", #"\u{9B}2J\u{85}"#), ("\u{202e}txt.exe", #"\u{202E}txt.exe"#),
    ("\u{2066}\u{2069}\u{200f}\u{61c}", #"\u{2066}\u{2069}\u{200F}\u{61C}"#),
    ("\u{2028}\u{2029}\u{feff}\u{200b}", #"\u{2028}\u{2029}\u{FEFF}\u{200B}"#),
    ("\u{7f}\u{e0041}", #"\u{7F}\u{E0041}"#), ("<\u{301}", "<\u{301}"),
  ])
  func `what disguises something is written out`(text: String, expected: String) {
    #expect(text.visible == expected)
  }

  @Test func `what is meant passes`() {
    #expect("a\nb\u{1b}".visible { $0 == "\n" } == "a\nb\\u{1B}")
  }
}
