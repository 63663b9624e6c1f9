import ArgumentParser

/// Holds the modelled hardware against recordings.
package struct Conform: ParsableCommand {
  package static let configuration = CommandConfiguration(
    abstract: "Hold the modelled hardware against recordings: drivers' lives, units' answers.",
    discussion: """
      Example: iommu conform gart gart-8g-64m-bios
      Example: zcat cases.jsonl.gz | iommu conform vtd > answers.jsonl
      """,
    subcommands: [ConformCalgary.self, ConformGART.self, ConformVTd.self])

  package init() {}
}
