/// Colours for a terminal, or none.
///
/// What is printed is the same with and without; a colour never says what words do not.
public struct Ink: Sendable {
  public let isOn: Bool

  public init(isOn: Bool) { self.isOn = isOn }

  /// No colours: for files, pipes and tests.
  public static let none = Ink(isOn: false)

  /// What to look at first: titles, names.
  public func strong(_ text: String) -> String { painted(text, "1") }
  /// What is right.
  public func good(_ text: String) -> String { painted(text, "32") }
  /// What is wrong.
  public func bad(_ text: String) -> String { painted(text, "31") }
  /// What changed, or is doubtful.
  public func warning(_ text: String) -> String { painted(text, "33") }
  /// Where something lies.
  public func address(_ text: String) -> String { painted(text, "36") }
  /// What may be passed over.
  public func faint(_ text: String) -> String { painted(text, "2") }

  private func painted(_ text: String, _ code: String) -> String {
    isOn && !text.isEmpty ? "\u{1b}[\(code)m\(text)\u{1b}[0m" : text
  }
}
