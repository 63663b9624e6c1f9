import ArgumentParser
import IOMMUFormats
import IOMMUKdump

extension TranslationMode: ExpressibleByArgument {}
extension PageSizePolicy: ExpressibleByArgument {}

/// What `play` and `build` have in common: the machine.
package struct MachineOptions: ParsableArguments {
  @Option(help: "RAM of the machine, such as 4G.")
  package var ram = ByteSize(4 << 30)

  @Option(help: "The crash kernel range as crashkernel= takes it: SIZE[@OFFSET].")
  package var crashKernel = CrashKernelArgument(
    size: ByteSize(128 << 20), offset: ByteSize(16 << 20))

  @Option(
    help: "Pages of the identity map, where the hardware has several sizes: largest or smallest.")
  package var pageSize = PageSizePolicy.largest

  @Option(
    help: ArgumentHelp(
      "Calgary: bytes of a TCE table, 64K to 8M. Default: what Linux chose from the end of RAM.",
      valueName: "size"))
  package var tceTable: ByteSize?

  @Option(help: "VT-d: levels of the second-stage tables, 3 to 5.")
  package var levels = 4

  package init() {}

  package func validate() throws {
    guard 3...5 ~= levels else { throw ValidationError("--levels takes 3, 4 or 5, not \(levels)") }
    if let tceTable, Self.tableSize(tceTable) == nil {
      throw ValidationError(
        "--tce-table takes 64K, 128K, 256K, 512K, 1M, 2M, 4M or 8M, not \(tceTable.rawValue) bytes")
    }
  }

  static func tableSize(_ size: ByteSize) -> Calgary.TableSize? {
    Calgary.TableSize.allCases.first { $0.byteCount == size.rawValue }
  }

  /// The machine in one of the five cases.
  package func configuration(_ mode: TranslationMode) throws(SetUpError) -> MachineConfiguration {
    let ram = try MemoryMap.ram(byteCount: ram.rawValue)
    let map = try MemoryMap(ram: ram, crashKernel: [try crashKernel.range(in: ram)])
    return MachineConfiguration(
      mode: mode, map: map, tceTableSize: tceTable.flatMap { Self.tableSize($0) },
      secondStageLevels: levels, pageSize: pageSize)
  }
}
