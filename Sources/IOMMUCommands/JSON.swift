import IOMMUFormats
import IOMMUInspection

/// Writes a value as JSON: indented, keys in order, a newline at the end.
///
/// It is written while it is encoded: lists and what is ``StreamedEncodable`` go out element by element, and
/// of anything else no more than one object is kept, to put its keys in order.
package func writeJSON<Out: TextOutputStream>(
  _ value: some Encodable, keys: JSONKeys = .asTheyAre, to out: inout Out
) throws {
  let text = JSONText(out, keys)
  try text.write(value)
  out = text.finish()
}

/// How keys are written.
package enum JSONKeys {
  case asTheyAre
  /// `hitRate` as `hit_rate`; words that begin with a capital letter, such as `P0`, are data.
  case snakeCase

  func text(_ key: String) -> String {
    guard self == .snakeCase, key.first?.isLowercase == true else { return key }
    return key.reduce(into: "") { text, letter in
      text += letter.isUppercase ? "_" + letter.lowercased() : String(letter)
    }
  }
}

/// A string as JSON has it, with its quotation marks.
func jsonText(_ text: String) -> String {
  let json = JSONText("", .asTheyAre)
  json.write(text)
  // Without the newline that ends a document.
  return String(json.finish().dropLast())
}

/// Entries as one array; behind them, where work was cut, an object that says why.
struct IncompleteList<Element: Encodable>: Encodable {
  private let elements: [Element]
  private let incomplete: [String]

  init(_ elements: [Element], incomplete: [String]) {
    self.elements = elements
    self.incomplete = incomplete
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.unkeyedContainer()
    for element in elements { try container.encode(element) }
    if !incomplete.isEmpty { try container.encode(["incomplete": incomplete]) }
  }
}

/// A document with every scalar of its strings that disguises something as `\u0085`; outside of
/// strings only the encoder's own newlines are any.
func jsonVisible(_ text: String) -> String {
  guard text.unicodeScalars.contains(where: { $0.isDisguise && $0 != "\n" }) else { return text }
  var result = ""
  for scalar in text.unicodeScalars {
    if scalar.isDisguise, scalar != "\n" {
      for unit in UTF16.encode(scalar)! { result += "\\u" + hexadecimal(UInt64(unit), digits: 4) }
    } else {
      result.unicodeScalars.append(scalar)
    }
  }
  return result
}
