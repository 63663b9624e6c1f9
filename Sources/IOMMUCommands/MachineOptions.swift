import ArgumentParser
import IOMMUFormats
import IOMMUKdump

extension TranslationMode: ExpressibleByArgument {}
extension PageSizePolicy: ExpressibleByArgument {}

/// Where the crash kernel of a machine lies that is made up.
package struct CrashKernelPlacement: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The crash kernel's memory, in any form that crashkernel= takes, or as a range. May be "
        + "repeated. Default: 128M@16M.",
      valueName: "size[@offset]"),
    transform: { try CrashKernelParameter($0) })
  package var crashKernel: [CrashKernelParameter] = []

  /// The proposal's own.
  private static let usual = CrashKernelParameter(
    .range(PhysicalAddress(16 << 20)..<PhysicalAddress(144 << 20)), text: "128M@16M")

  package init() {}

  /// A machine with so much RAM, and the crash kernel where the options, or else the proposal, have it.
  func map(ramByteCount: UInt64) throws(SetUpError) -> MemoryMap {
    let ram = try MemoryMap.ram(byteCount: ramByteCount)
    return try map(ram: ram, byteCount: ramByteCount)
  }

  /// The same on a machine whose RAM is known.
  ///
  /// - Parameters:
  ///   - ram: Half-open, ascending.
  ///   - byteCount: How much RAM the kernel's parameters are about.
  func map(ram: [Range<PhysicalAddress>], byteCount: UInt64) throws(SetUpError) -> MemoryMap {
    let request = try CrashKernelRequest(
      crashKernel.isEmpty ? [Self.usual] : crashKernel, ramByteCount: byteCount)
    return try MemoryMap(ram: ram, crashKernel: try request.ranges(in: ram))
  }
}

/// What `play` and `build` have in common: the machine.
package struct MachineOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp("RAM of the machine, such as 8G. Default: 4G.", valueName: "size"),
    transform: { try ramByteCount($0) })
  package var ram: UInt64 = 4 << 30

  @OptionGroup package var placement: CrashKernelPlacement

  @Option(
    help: "VT-d, AMD-Vi: pages of the identity map, largest or smallest. Default: largest.")
  package var pageSize: PageSizePolicy?

  @Option(
    help: ArgumentHelp(
      "Calgary: bytes of a TCE table, 64K to 8M. Default: what Linux chose from the end of RAM.",
      valueName: "size"),
    transform: { try tableSize($0) })
  package var tceTable: Calgary.TableSize?

  @Option(
    help: "VT-d: levels of the second-stage tables, 3 to 5. Default: 4.",
    transform: { try Notation.count($0, in: 3...5) })
  package var levels: Int?

  @Option(
    help: ArgumentHelp(
      "AMD-Vi: the driver of Linux 2.6.27, with so many numbers in a domain, 32M to 1G: its own choice "
        + "was 64M. Default: the driver of today, without an aperture.",
      valueName: "size"),
    transform: { try apertureByteCount($0) })
  package var aperture: UInt64?

  package init() {}

  /// Refuses options about hardware that none of the machines has.
  ///
  /// - Parameter mode: The one case; `nil` for all of them.
  func refuseForeignOptions(_ mode: TranslationMode?) throws {
    guard let mode else { return }
    for (option, isGiven, owners) in [
      ("--tce-table", tceTable != nil, [TranslationMode.calgary]),
      ("--levels", levels != nil, [.vtd]), ("--page-size", pageSize != nil, [.vtd, .amdvi]),
      ("--aperture", aperture != nil, [.amdvi]),
    ] where isGiven && !owners.contains(mode) {
      throw ValidationError(
        "\(option) is about \(owners.map(\.title).joined(separator: " and ")), and --mode "
          + "\(mode.rawValue) has none; leave it out, or give --mode \(owners[0].rawValue)")
    }
  }

  static func ramByteCount(_ text: String) throws(NotationError) -> UInt64 {
    let byteCount = try Notation.size(text)
    do {
      _ = try MemoryMap.ram(byteCount: byteCount)
    } catch {
      throw NotationError("\(error)")
    }
    return byteCount
  }

  private static func tableSize(_ text: String) throws(NotationError) -> Calgary.TableSize {
    let byteCount = try Notation.size(text)
    guard let size = Calgary.TableSize.allCases.first(where: { $0.byteCount == byteCount }) else {
      throw NotationError("a TCE table has 64K, 128K, 256K, 512K, 1M, 2M, 4M or 8M")
    }
    return size
  }

  private static func apertureByteCount(_ text: String) throws(NotationError) -> UInt64 {
    let byteCount = try Notation.size(text)
    guard byteCount.nonzeroBitCount == 1, 32 << 20...1 << 30 ~= byteCount else {
      throw NotationError("an aperture has 32M, 64M, 128M, 256M, 512M or 1G")
    }
    return byteCount
  }

  /// The machine in one of the cases.
  package func configuration(_ mode: TranslationMode) throws(SetUpError) -> MachineConfiguration {
    MachineConfiguration(
      mode: mode, map: try placement.map(ramByteCount: ram), pageSize: pageSize ?? .largest,
      calgary: CalgaryConfiguration(tableSize: tceTable),
      vtd: VTdConfiguration(levels: levels ?? 4),
      amdvi: AMDViConfiguration(
        kernel: aperture.map { .linux2_6_27(apertureByteCount: $0) } ?? .current()))
  }
}
