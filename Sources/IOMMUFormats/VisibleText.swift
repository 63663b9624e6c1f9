/// Text from outside on its way to people: what a terminal, a browser or an eye would take for something
/// else is written out.
extension Unicode.Scalar {
  /// Controls of a terminal (C0, DEL, C1), separators of lines, and marks that turn the direction of
  /// text around or show nothing.
  package var isDisguise: Bool {
    switch value {
    case 0..<0x20, 0x7f..<0xa0, 0x061c, 0x200b...0x200f, 0x2028...0x202e, 0x2060...0x206f, 0xfeff,
      0xfff9...0xfffb, 0xe0000...0xe007f:
      true
    default: false
    }
  }
}

extension StringProtocol {
  /// The text in one line, with every scalar that disguises something as `\u{1B}`.
  package var visible: String {
    guard unicodeScalars.contains(where: \.isDisguise) else { return String(self) }
    return visible { _ in false }
  }

  /// The text with every scalar that disguises something written out, but for those that `isMeant`.
  package func visible(besides isMeant: (Unicode.Scalar) -> Bool) -> String {
    var text = ""
    for scalar in unicodeScalars {
      if scalar.isDisguise, !isMeant(scalar) {
        text += "\\u{\(String(scalar.value, radix: 16, uppercase: true))}"
      } else {
        text.unicodeScalars.append(scalar)
      }
    }
    return text
  }
}
