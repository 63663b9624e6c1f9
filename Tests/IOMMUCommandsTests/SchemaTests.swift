import ArgumentParser
import Foundation
import IOMMUTestSupport
import Testing

@testable import IOMMUCommands

/// docs/schema.json and docs/json.md have every command. What commands print is held against the schema
/// by .ci/schema.
@Suite struct SchemaTests {
  /// Every command that does something, as its words.
  static let commands: [String] = leaves(Tool.self, [])

  private static func leaves(_ command: any ParsableCommand.Type, _ path: [String]) -> [String] {
    let commands = command.configuration.subcommands
    return commands.isEmpty
      ? [path.joined(separator: " ")]
      : commands.flatMap { leaves($0, path + [$0._commandName]) }
  }

  private func definitions() throws -> [String: Any] {
    let data = Data(Repository.bytes("docs/schema.json"))
    let schema = try #require(JSONSerialization.jsonObject(with: data) as? [String: Any])
    #expect(schema["$schema"] as? String == "https://json-schema.org/draft/2020-12/schema")
    return try #require(schema["$defs"] as? [String: Any])
  }

  @Test func `every command has an entry, and every entry a command`() throws {
    let entries = try definitions().keys.filter { $0.hasPrefix("iommu-") }.sorted()
    let names = Self.commands.map { "iommu-" + $0.replacing(" ", with: "-") }.sorted()
    #expect(entries == names)
    #expect(names.contains("iommu-image-convert") && names.count >= 20)
  }

  @Test func `every command is described, and takes --format`() throws {
    let page = Repository.text("docs/json.md")
    for name in Self.commands {
      #expect(page.contains("`\(name)`") || page.contains("`\(name) "), "\(name)")
    }
    for name in Self.commands {
      var command: any ParsableCommand.Type = Tool.self
      for word in name.split(separator: " ") {
        command = try #require(
          command.configuration.subcommands.first { $0._commandName == String(word) })
      }
      let help = Tool.helpMessage(for: command, columns: 80)
      #expect(help.contains("--format <"), "\(name)")
    }
  }

  @Test func `every reference leads somewhere, and every definition is used`() throws {
    let definitions = try definitions()
    var used: Set<String> = []
    func visit(_ value: Any) {
      if let object = value as? [String: Any] {
        if let reference = object["$ref"] as? String {
          #expect(reference.hasPrefix("#/$defs/"))
          used.insert(String(reference.dropFirst("#/$defs/".count)))
        }
        object.values.forEach(visit)
      } else if let list = value as? [Any] {
        list.forEach(visit)
      }
    }
    visit(definitions)
    #expect(used.subtracting(definitions.keys).isEmpty)
    let unused = Set(definitions.keys.filter { !$0.hasPrefix("iommu-") }).subtracting(used)
    #expect(unused.isEmpty, "\(unused.sorted())")
  }
}
