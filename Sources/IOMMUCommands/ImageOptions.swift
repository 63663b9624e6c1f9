import ArgumentParser
import IOMMUFormats
import IOMMUImages
import IOMMUInspection
import IOMMUTranslation

/// What every command that reads a dump has in common: the image, and where its tables are.
package struct ImageOptions: ParsableArguments {
  @OptionGroup package var files: ImageFiles

  @OptionGroup package var source: TableSource

  package init() {}

  /// The files that are read.
  var inputPaths: [String] { files.paths + source.paths }

  /// Opens the image, finds its tables, and hands both to `body`, with what the image's kernel knows; what
  /// is doubtful goes to standard error.
  ///
  /// - Throws: as ``ImageFiles/read(_:)``.
  func read<Result>(
    _ body: (
      _ memory: MemoryImage, _ machine: Machine, _ kernel: KernelKnowledge?
    ) throws -> Result
  ) throws -> Result {
    try files.read { memory in
      let kernel = KernelKnowledge(of: memory, path: files.image)
      return try body(memory, try source.machine(of: memory, path: files.image, kernel), kernel)
    }
  }
}

/// The files of one dump.
package struct ImageFiles: ParsableArguments {
  @Argument(
    help: ArgumentHelp(
      "The memory: an ELF core, a kdump-compressed dump, either flattened, a LiME or AVML dump, a "
        + ".vmem or .vmss file, a Xen dump-core, raw bytes, or a directory with one of them."),
    completion: .file())
  package var image: String

  @Option(
    name: .customLong("part"),
    help: ArgumentHelp(
      "Another file of a dump that 'makedumpfile --split' made. May be repeated.",
      valueName: "file"), completion: .file())
  package var parts: [String] = []

  package init() {}

  /// A dump in one file.
  package init(image: String) {
    self.image = image
    parts = []
  }

  /// The files that are read.
  var paths: [String] {
    // What is wrong with them is told when they are opened.
    (try? DumpPaths.files(of: [image] + parts)) ?? [image] + parts
  }

  /// Opens the image and hands it to `body`; what is doubtful goes to standard error.
  ///
  /// - Throws: ``InputError`` also when a page that `body` looked at could not be unpacked: what it
  ///   answered may be wrong then. What `body` throws is told behind the reason.
  func read<Result>(_ body: (MemoryImage) throws -> Result) throws -> Result {
    try readingDump(paths) { memory in
      guard memory.incompleteness.isEmpty || !memory.backedRanges.isEmpty else {
        throw InputError("\(image): none of the memory is in the file; copy it again")
      }
      return try body(memory)
    }
  }
}

/// Opens a dump and hands it to `body`; what is doubtful goes to standard error.
///
/// No conclusion stands alone when pages could not be read: neither what `body` prints nor what it
/// throws.
///
/// - Throws: ``InputError``.
func readingDump<Result>(
  _ paths: [String], _ body: (MemoryImage) throws -> Result
) throws -> Result {
  try readingInput {
    let memory = try MemoryImage(paths: paths)
    for warning in memory.warnings { warn(warning) }
    let outcome = Swift.Result { try readingInput { try body(memory) } }
    let problems = memory.problems.map(\.description)
    if problems.isEmpty { return try outcome.get() }
    switch outcome {
    case .failure(let usage as ValidationError): throw usage
    case .failure(let error as InputError): throw InputError(lines: problems + [error.text])
    case .failure, .success: throw InputError(lines: problems)
    }
  }
}

extension ApertureHint {
  /// The same with a refusal for the command line.
  fileprivate init(_ text: String) throws {
    do throws(NotationError) {
      self = try ApertureHint(notation: text)
    } catch {
      throw ValidationError("\(error)")
    }
  }
}

/// Where the tables of an image are: tables that somebody names, a machine file, or what a search finds.
package struct TableSource: ParsableArguments {
  @Option(
    help: "The machine file: which units there are and what their registers hold.",
    completion: .file())
  package var machine: String?

  @Option(
    name: .customLong("root"),
    help: ArgumentHelp(
      "A table in force, whatever a machine file says: the address of a VT-d root table, or "
        + "KIND:ADDRESS[+SIZE][@BASE], where KIND is \(tableNames), and BASE says where the unit's "
        + "registers are: vtd:6a04000@fed90000, amdvi:15f0000+32K, tce:3f400000+4M. May be repeated.",
      valueName: "table"),
    transform: { try namedTable($0) })
  package var roots: [NamedTable] = []

  @Option(
    help: ArgumentHelp(
      "Where the aperture of a GATT begins that is found without a machine file, a multiple of "
        + "32 MiB, and perhaps how long it is: c0000000, c0000000+64M.",
      valueName: "address[+size]"),
    transform: { try ApertureHint($0) })
  package var aperture: ApertureHint?

  package init() {}

  package func validate() throws {
    if aperture != nil, machine != nil, roots.isEmpty {
      throw ValidationError(
        "--aperture is about a GATT that is found or named, and the machine file says where its is: "
          + "leave one of them out, or name the table with --root gatt:ADDRESS")
    }
    let bases = roots.compactMap(\.unitBase)
    if let twice = Set(bases).first(where: { base in bases.count { $0 == base } > 1 }) {
      throw ValidationError("--root: the unit at \(twice) has one table; name one for each unit")
    }
    let places = roots.map(\.address)
    if let twice = Set(places).first(where: { place in places.count { $0 == place } > 1 }) {
      throw ValidationError("--root: \(twice) is named more than once")
    }
  }

  /// Nobody names tables or units: what a dump's kernel says of them counts.
  var asksKernel: Bool { machine == nil && roots.isEmpty && aperture == nil }

  /// The files that are read.
  var paths: [String] {
    guard let machine else { return [] }
    // What is wrong with the file is told when it is read.
    return [machine] + ((try? MachineFile(path: machine))?.firmwarePaths ?? [])
  }

  /// The machine: by `--root`, by `--machine`, by what the dump's kernel says of its units, or by what is
  /// found in memory, in that order; what is doubtful goes to standard error.
  func machine(
    of memory: MemoryImage, path: String, _ kernel: KernelKnowledge?
  ) throws -> Machine {
    let (machine, notices) = try told(of: memory, path: path, kernel)
    notices.forEach(warn)
    return machine
  }

  /// The same, with what is to be said of how the machine is known.
  func told(
    of memory: MemoryImage, path: String, _ kernel: KernelKnowledge?
  ) throws -> (machine: Machine, notices: [String]) {
    guard self.machine != nil || !roots.isEmpty else {
      return try said(in: memory, kernel) ?? found(in: memory, path: path)
    }
    let (machine, notices) = try named(in: memory, path: path)
    return (machine, notices + machine.doubts(in: memory))
  }

  /// What somebody names.
  private func named(
    in memory: MemoryImage, path: String
  ) throws -> (machine: Machine, notices: [String]) {
    var known: Machine?
    var notices: [String] = []
    if let machine {
      let file = try MachineFile(path: machine)
      known = try file.machine()
      notices = file.warnings
    }
    let machine = known ?? Machine(name: path, units: [])
    guard !roots.isEmpty else { return (machine, notices) }
    let hints = TableHints(aperture: aperture, units: machine.units)
    let units = try roots.map { root in
      do {
        return try root.unit(in: memory, hints)
      } catch {
        throw InputError("--root \(root.address): \(error)")
      }
    }
    guard known == nil, roots.count > 1 || roots.contains(where: { $0.unitBase != nil }) else {
      return (machine.with(units), notices)
    }
    // Which unit is whose, firmware's table may say.
    let completed = search(memory).completing(units, in: memory)
    return (Machine(name: path, units: completed.units), notices + completed.remarks)
  }

  /// What the kernel in the dump says of its units; `nil` where it says nothing.
  private func said(
    in memory: MemoryImage, _ kernel: KernelKnowledge?
  ) -> (machine: Machine, notices: [String])? {
    // Whoever says where an aperture is looks for a GATT, which no kernel's list of units has.
    guard asksKernel, let kernel,
      let told = DumpMachine(saidBy: kernel, in: memory, search: { search(memory) })
    else { return nil }
    return (told.machine, told.notices)
  }

  /// What is found in memory by structure alone, and what that was.
  private func found(
    in memory: MemoryImage, path: String
  ) throws -> (machine: Machine, notices: [String]) {
    let found = DumpMachine(
      foundBy: search(memory), in: memory, name: path, TableHints(aperture: aperture))
    guard !found.machine.units.isEmpty else {
      found.notices.forEach(warn)
      throw InputError(
        "\(path): no table found for certain; name one with --root ADDRESS or "
          + "--machine FILE")
    }
    return (found.machine, found.notices)
  }

  private func search(_ memory: MemoryImage) -> TableSearch {
    let bar = ProgressBar("search")
    let search = TableSearch(in: memory) {
      bar.update($0.doneByteCount, of: $0.byteCount)
    }
    bar.finish()
    if search.isExhausted { warn(Find.exhaustedText) }
    return search
  }
}
