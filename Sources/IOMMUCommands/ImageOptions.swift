import ArgumentParser
import IOMMUImages
import IOMMUTranslation

/// What every command that reads a dump has in common: the image and its machine file.
package struct ImageOptions: ParsableArguments {
  @Argument(
    help: "The memory: an ELF core, a kdump-compressed dump, either flattened, or raw bytes.")
  package var image: String

  @Option(
    name: .customLong("part"),
    help: ArgumentHelp(
      "Another file of a dump that 'makedumpfile --split' made. May be repeated.",
      valueName: "file"))
  package var parts: [String] = []

  @Option(help: "The machine file: which units there are and what their registers hold.")
  package var machine: String

  package init() {}

  /// Opens both and hands them to `body`; what is doubtful goes to standard error.
  ///
  /// - Throws: ``InputError`` also when a page that `body` looked at could not be unpacked: what it
  ///   answered may be wrong then.
  func read<Result>(
    _ body: (_ memory: MemoryImage, _ machine: Machine) throws -> Result
  ) throws -> Result {
    try readingInput {
      let file = try MachineFile(path: machine)
      let machine = try file.machine()
      let memory = try MemoryImage(paths: [image] + parts)
      for warning in file.warnings + memory.warnings { warn(warning) }
      let result = try body(memory, machine)
      if let problem = memory.problem { throw problem }
      return result
    }
  }
}
