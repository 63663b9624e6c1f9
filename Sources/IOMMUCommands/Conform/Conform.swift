import ArgumentParser

/// Plays recorded lives of real drivers against the modelled hardware.
package struct Conform: ParsableCommand {
  package static let configuration = CommandConfiguration(
    abstract: "Play recordings of real drivers against the modelled hardware.",
    discussion: """
      Example: iommu conform gart gart-8g-64m-bios
      """,
    subcommands: [ConformCalgary.self, ConformGART.self])

  package init() {}
}
