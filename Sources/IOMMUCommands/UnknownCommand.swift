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
    var path = ProgramName.current
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
    if path == ProgramName.current, access(word, F_OK) == 0 {
      let find = "\(ProgramName.current) find \(word.visible)"
      return "\(refusal), but a file: a command comes first, such as '\(find)'"
    }
    return "\(refusal); there are \(names.joined(separator: ", "))"
  }

  /// The name that somebody meant who typed `word`: a slip of the finger away, or one that begins so.
  private static func nearest(to word: String, among names: [String]) -> String? {
    if let name = likelyName(for: word, among: names) { return name }
    let word = word.lowercased()
    let beginning = names.filter { word.count > 1 && $0.hasPrefix(word) }
    return beginning.count == 1 ? beginning[0] : nil
  }
}
