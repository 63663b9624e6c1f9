import ArgumentParser
import IOMMUImages
import IOMMUTranslation

/// What every command that reads a dump has in common: the image and its machine file.
package struct ImageOptions: ParsableArguments {
  @Argument(help: "The memory: an ELF core, or a raw image from physical address 0.")
  package var image: String

  @Option(help: "The machine file: which units there are and what their registers hold.")
  package var machine: String

  package init() {}

  /// Opens both; what is doubtful about the machine goes to standard error.
  func open() throws -> (memory: MemoryImage, machine: Machine) {
    try readingInput {
      let file = try MachineFile(path: machine)
      let machine = try file.machine()
      for warning in file.warnings { warn(warning) }
      return (try MemoryImage(path: image), machine)
    }
  }
}
