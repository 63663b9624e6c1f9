import ArgumentParser
import IOMMUFormats
import IOMMUImages
import IOMMUInspection
import IOMMUKdump
import IOMMUTranslation

/// Where the crash kernel of a dump's machine lives.
package struct CrashKernelOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The crash kernel's memory: the line of /proc/iomem (15000000-1effffff), what crashkernel= "
        + "says (160M@336M), or another range. May be repeated.",
      valueName: "range"),
    transform: { try CrashKernelParameter($0) })
  package var crashKernel: [CrashKernelParameter] = []

  package init() {}

  /// The ranges that the options name, ascending; what is doubtful goes to standard error.
  ///
  /// - Throws: ``InputError`` when they name none that can be known.
  func named(on machine: Machine?, in memory: MemoryImage) throws -> [Range<PhysicalAddress>] {
    guard !crashKernel.isEmpty else { return [] }
    let text = crashKernel.map(\.text).joined(separator: " ")
    let holes = Self.holes(in: memory)
    let ram = machine?.ram ?? []
    var byteCount = ram.isEmpty ? nil : ram.reduce(0) { $0 + $1.byteCount }
    // A dump that a capture kernel wrote lists all RAM but that kernel's own; one with no such hole
    // may list anything.
    if byteCount == nil, let listed = memory.listedRAM, !holes.crashKernel.isEmpty {
      byteCount = listed.byteCount + holes.crashKernel.reduce(0) { $0 + $1.byteCount }
    }
    if byteCount == nil, crashKernel.contains(where: \.needsRAM) {
      throw InputError(
        "--crash-kernel \(text): nothing says how much RAM the machine has; give a place, such as "
          + "160M@336M or 15000000-1effffff")
    }
    let request: CrashKernelRequest
    do {
      request = try CrashKernelRequest(crashKernel, ramByteCount: byteCount ?? 0)
    } catch {
      throw InputError("--crash-kernel \(text): \(error)")
    }
    if let ranges = request.ranges(of: machine?.crashKernel ?? []) { return ranges }
    guard let ranges = request.ranges(of: holes.all) else {
      throw InputError(
        "--crash-kernel \(text): says no place, and the dump's RAM has not one hole of that size; "
          + "give SIZE@OFFSET, or the line of /proc/iomem, such as 15000000-1effffff")
    }
    warn(
      "--crash-kernel \(text): taking \(Self.listText(ranges)), which the dump's RAM lacks as if the "
        + "capture kernel lived there")
    return ranges
  }

  /// The machine with its crash kernel: of the options, of the machine file, of the dump's kernel, or of
  /// holes in the dump's RAM, in that order; as it was when none of them knows.
  func placing(
    _ machine: Machine, in memory: MemoryImage, _ kernel: KernelKnowledge?
  ) throws -> Machine {
    var machine = machine
    let named = try named(on: machine, in: memory)
    if !named.isEmpty { machine.crashKernel = named }
    if machine.crashKernel.isEmpty {
      machine.crashKernel = kernel?.machine.crashKernel ?? []
      if !machine.crashKernel.isEmpty {
        warn("no --crash-kernel: taking \(Self.listText(machine.crashKernel)), as the kernel says")
      }
    }
    if machine.crashKernel.isEmpty {
      machine.crashKernel = Self.holes(in: memory).crashKernel
      if !machine.crashKernel.isEmpty {
        warn(
          "no --crash-kernel: taking \(Self.listText(machine.crashKernel)), which the dump's RAM lacks as "
            + "if the capture kernel lived there")
      }
    }
    return machine
  }

  /// Why ``placing(_:in:_:)`` found nothing, and the way out.
  static func unknown(in memory: MemoryImage) -> InputError {
    let likely = holes(in: memory).likely
    let found =
      likely.isEmpty
      ? "" : "; the dump's RAM has holes at \(listText(likely)), any of which may be it"
    return InputError(
      "nothing says where the crash kernel is\(found); give --crash-kernel with its line in "
        + "/proc/iomem, such as 15000000-1effffff, or SIZE@OFFSET, such as 160M@336M")
  }

  /// Holes mean something in a dump of Linux that was made after a crash.
  private static func holes(in memory: MemoryImage) -> CrashKernelHoles {
    guard memory.vmcoreInfo != nil else { return CrashKernelHoles([]) }
    return CrashKernelHoles(memory.listedRAM?.holes ?? [])
  }

  private static func listText(_ ranges: [Range<PhysicalAddress>]) -> String {
    ranges.map(\.text).joined(separator: " and ")
  }
}
