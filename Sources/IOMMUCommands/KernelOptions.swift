import ArgumentParser
import IOMMUFormats
import IOMMUImages
import IOMMULinux

extension LinuxKernels.Role: ExpressibleByArgument {}

/// Which of a dump's kernels a command is about.
package struct KernelOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Of a dump with two kernels the one that died (old), or the one that was started to dump it "
        + "(capture); both where nothing is said.",
      valueName: "old|capture"))
  package var kernel: LinuxKernels.Role?

  package init() {}

  /// The kernels that are asked for; what is doubtful goes to standard error.
  ///
  /// - Throws: ``InputError`` when there is none, or not the one that is asked for.
  func kernels(
    in memory: MemoryImage, path: String
  ) throws -> [(role: LinuxKernels.Role, kernel: LinuxKernel)] {
    let kernels: LinuxKernels
    do {
      let bar = ProgressBar("search")
      defer { bar.finish() }
      kernels = try LinuxKernels(in: memory) { bar.update($0, of: $1) }
    } catch {
      throw InputError(
        "\(path): no Linux kernel: \(error); makedumpfile and /proc/vmcore put VMCOREINFO into a dump, QEMU "
          + "does with '-device vmcoreinfo'")
    }
    kernels.notices.forEach { warn("\(path): \($0)") }
    guard let kernel else { return kernels.all }
    let wanted = kernels.all.filter { $0.role == kernel }
    guard !wanted.isEmpty else {
      throw InputError("\(path): no \(kernel.rawValue) kernel in this dump; leave out --kernel")
    }
    return wanted
  }
}
