import ArgumentParser

/// What the command is called. It may be installed by another name, beside a program of another project
/// that is called `iommu`: help, completions, manual pages and messages then say what has to be typed.
enum ProgramName {
  /// As the project says it.
  static let usual = "iommu"

  /// Set before the command line is looked at, on the main thread.
  nonisolated(unsafe) private(set) static var current = usual

  /// Takes the name by which the program was started, when it is one that can be typed as it stands.
  static func take(from path: String) {
    current = name(in: path) ?? usual
  }

  static func name(in path: String) -> String? {
    guard let name = path.split(separator: "/").last, name.utf8.count <= 64,
      name.utf8.first.map(isLetterOrDigit) == true,
      name.utf8.allSatisfy({ isLetterOrDigit($0) || "-_.+".utf8.contains($0) })
    else { return nil }
    return String(name)
  }

  /// The text with command lines in it that begin with the current name.
  static func inCommandLines(of text: String) -> String {
    guard current != usual else { return text }
    let commands = Tool.configuration.subcommands.map { $0._commandName }
    return replacing(usual, by: current, in: text, commands: commands)
  }

  /// The text with another name where a command's or an option's follows; the word as such stays.
  static func replacing(
    _ usual: String, by name: String, in text: String, commands: [String]
  ) -> String {
    let isPart: (UInt8) -> Bool = { isLetterOrDigit($0) || "-_./".utf8.contains($0) }
    var result: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let first = rest.first {
      let tail = rest.dropFirst(usual.utf8.count)
      let word = tail.drop { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\n") }
        .prefix { isLetterOrDigit($0) || $0 == UInt8(ascii: "-") }
      if rest.starts(with: usual.utf8), result.last.map(isPart) != true,
        tail.first == UInt8(ascii: " ") || tail.first == UInt8(ascii: "\n"),
        word.starts(with: "--".utf8)
          || commands.contains(where: { $0.utf8.elementsEqual(word) })
      {
        result += name.utf8
        rest = tail
      } else {
        result.append(first)
        rest.removeFirst()
      }
    }
    return String(decoding: result, as: UTF8.self)
  }
}

private func isLetterOrDigit(_ byte: UInt8) -> Bool {
  switch byte {
  case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
    UInt8(ascii: "A")...UInt8(ascii: "Z"):
    true
  default: false
  }
}
