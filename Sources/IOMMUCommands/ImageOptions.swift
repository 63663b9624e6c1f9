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

  /// Opens the image, finds its tables, and hands both to `body`; what is doubtful goes to standard
  /// error.
  ///
  /// - Throws: as ``ImageFiles/read(_:)``.
  func read<Result>(
    _ body: (_ memory: MemoryImage, _ machine: Machine) throws -> Result
  ) throws -> Result {
    try files.read { memory in
      try body(memory, try source.machine(of: memory, path: files.image))
    }
  }
}

/// The files of one dump.
package struct ImageFiles: ParsableArguments {
  @Argument(
    help: "The memory: an ELF core, a kdump-compressed dump, either flattened, or raw bytes.")
  package var image: String

  @Option(
    name: .customLong("part"),
    help: ArgumentHelp(
      "Another file of a dump that 'makedumpfile --split' made. May be repeated.",
      valueName: "file"))
  package var parts: [String] = []

  package init() {}

  /// A dump in one file.
  package init(image: String) {
    self.image = image
    parts = []
  }

  /// Opens the image and hands it to `body`; what is doubtful goes to standard error.
  ///
  /// - Throws: ``InputError`` also when a page that `body` looked at could not be unpacked: what it
  ///   answered may be wrong then.
  func read<Result>(_ body: (MemoryImage) throws -> Result) throws -> Result {
    try readingInput {
      let memory = try MemoryImage(paths: [image] + parts)
      for warning in memory.warnings { warn(warning) }
      let result = try body(memory)
      if let problem = memory.problem { throw problem }
      return result
    }
  }
}

/// Where the tables of an image are: a root table, a machine file, or what a search finds.
package struct TableSource: ParsableArguments {
  @Option(help: "The machine file: which units there are and what their registers hold.")
  package var machine: String?

  @Option(
    help: ArgumentHelp(
      "The VT-d root table's physical address, whatever a machine file says.",
      valueName: "address"))
  package var root: AddressArgument?

  package init() {}

  /// The machine: by `--root`, by `--machine`, or by what is found in memory, in that order.
  func machine(of memory: MemoryImage, path: String) throws -> Machine {
    var found: Machine?
    if let machine {
      let file = try MachineFile(path: machine)
      found = try file.machine()
      for warning in file.warnings { warn(warning) }
    }
    if let root {
      let place = PhysicalAddress(root.rawValue)
      guard place.isAligned(to: 4096), memory.quadword(at: place) != nil else {
        throw InputError(
          "--root \(place): no page of \(path) begins there; 'iommu find' lists root tables")
      }
      return (found ?? Machine(name: path, units: [])).withRootTable(place, in: memory)
    }
    return try found ?? search(memory, path: path)
  }

  /// What is found in memory by structure alone; says what that was.
  private func search(_ memory: MemoryImage, path: String) throws -> Machine {
    let bar = ProgressBar("search")
    let search = TableSearch(in: memory) {
      bar.update($0.doneByteCount, of: $0.byteCount)
    }
    bar.finish()
    guard let best = search.best else {
      throw InputError(
        "\(path): no table of certain kind found; name one with --root ADDRESS or --machine FILE")
    }
    warn(
      "no machine file: taking the \(best.kind.rawValue) at \(best.address), score \(best.score)")
    return Machine(name: path, units: search.units)
  }
}

extension Machine {
  /// The machine with another root table: in its first VT-d unit, or in one of which nothing is
  /// known.
  func withRootTable(_ root: PhysicalAddress, in memory: some PhysicalMemory) -> Machine {
    let candidate = TableSearch.rootTable(at: root, in: memory)
    guard case .vtd(let found)? = candidate.unit else { return self }
    var machine = self
    machine.units = [.vtd(found)]
    for case .vtd(var known) in units {
      known.rootTableAddress = found.rootTableAddress
      known.status = found.status
      machine.units = [.vtd(known)]
      break
    }
    return machine
  }
}

/// A physical address: hexadecimal with `0x`, or decimal, with K, M or G for sizes.
package struct AddressArgument: ExpressibleByArgument, Equatable {
  package var rawValue: UInt64

  package init?(argument: String) {
    guard let value = ByteSize(argument: argument)?.rawValue else { return nil }
    rawValue = value
  }

  package init(_ rawValue: UInt64) { self.rawValue = rawValue }
}

/// An I/O address as people copy it: with `0x`, or the bare hexadecimal digits of a log line.
package struct IOVAArgument: ExpressibleByArgument, Equatable {
  package var iova: IOVA

  package init?(argument: String) {
    let digits =
      argument.utf8.starts(with: "0x".utf8) || argument.utf8.starts(with: "0X".utf8)
      ? argument : "0x" + argument
    guard let value = parseNumber(digits) else { return nil }
    iova = IOVA(value)
  }
}

/// A device in any form that people type: `00:1f.2`, `0000:00:1f.2`, `00:1f:2`, `[00:1f.2]`,
/// `0x00fa`, or a path of `/sys` that ends in one.
package struct RequesterArgument: ExpressibleByArgument, Equatable {
  package var requester: Requester

  package init?(argument: String) {
    guard let requester = Requester(lenient: argument) else { return nil }
    self.requester = requester
  }
}

/// A PASID, 20 bits: decimal, or hexadecimal with `0x`.
package struct PASIDArgument: ExpressibleByArgument, Equatable {
  package var pasid: PASID

  package init?(argument: String) {
    guard let value = parseNumber(argument), value >> 20 == 0 else { return nil }
    pasid = PASID(UInt32(value))
  }
}
