import ArgumentParser

/// Compares our hardware with recorded lives of real drivers and with other implementations.
package struct Conform: ParsableCommand {
  package static let configuration = CommandConfiguration(
    abstract: "Compare our hardware with what real drivers did and saw.",
    discussion: "Example: iommu conform calgary traces/calgary-1g-4M",
    subcommands: [ConformCalgary.self])

  package init() {}
}
