import ArgumentParser
import Glibc
import IOMMUFormats

extension Tool {
  /// Refuses a word that stands where the name of a command has to: the parser would take it for an
  /// argument of `play`.
  ///
  /// - Throws: `ValidationError`.
  static func refuseUnknownCommands(in arguments: [String]) throws {
    var words = arguments[...]
    if words.first == "help" { words = words.dropFirst() }
    var path = "iommu"
    var command: any ParsableCommand.Type = Tool.self
    while let word = words.popFirst(), !word.hasPrefix("-") {
      let commands = command.configuration.subcommands
      guard !commands.isEmpty else { return }
      guard let next = commands.first(where: { $0._commandName == word }) else {
        let names = commands.map { $0._commandName }
        throw ValidationError(unknownCommand(word, of: path, among: names))
      }
      command = next
      path += " \(word)"
    }
  }

  private static func unknownCommand(
    _ word: String, of path: String, among names: [String]
  ) -> String {
    let refusal = "'\(word.visible)' is no command of '\(path)'"
    if let name = nearest(to: word, among: names) { return "\(refusal); did you mean '\(name)'?" }
    if path == "iommu", access(word, F_OK) == 0 {
      return "\(refusal), but a file: a command comes first, such as 'iommu find \(word.visible)'"
    }
    return "\(refusal); there are \(names.joined(separator: ", "))"
  }

  /// The name that somebody meant who typed `word`: one that begins so, or that is a letter or two away.
  private static func nearest(to word: String, among names: [String]) -> String? {
    let word = word.lowercased()
    let limit = word.count < 4 ? 1 : 2
    let distances = names.map { (name: $0, distance: editDistance(word, $0)) }
    if let best = distances.min(by: { $0.distance < $1.distance }), best.distance <= limit {
      return best.name
    }
    let beginning = names.filter { word.count > 1 && $0.hasPrefix(word) }
    return beginning.count == 1 ? beginning[0] : nil
  }

  /// How many letters have to be put in, taken out, replaced, or swapped with the next one.
  static func editDistance(_ first: String, _ second: String) -> Int {
    // A word of a megabyte is no slip of the finger.
    let (first, second) = (Array(first.utf8.prefix(64)), Array(second.utf8.prefix(64)))
    var older: [Int] = []
    var old = Array(0...second.count)
    for row in first.indices {
      var new = [row + 1]
      for column in second.indices {
        var cost = min(
          old[column + 1] + 1, new[column] + 1,
          old[column] + (first[row] == second[column] ? 0 : 1))
        if row > 0, column > 0, first[row] == second[column - 1], first[row - 1] == second[column] {
          cost = min(cost, older[column - 1] + 1)
        }
        new.append(cost)
      }
      (older, old) = (old, new)
    }
    return old[second.count]
  }
}
