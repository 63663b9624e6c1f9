import ArgumentParser
import IOMMUFormats
import IOMMUImages
import IOMMUInspection
import IOMMULinux

/// Says what the kernel in a dump knows of itself and its devices.
package struct Vmcore: ParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "vmcore",
    abstract: "Say what the kernel in a dump knows of its IOMMUs, devices and drivers.",
    discussion: """
      Needs nothing but the dump: VMCOREINFO leads to the kernel's page tables, to its symbols and to \
      the types of its structures (Linux 6.0 and later with BTF). Prints the kernel, why it died, its \
      memory, its remapping units, and each device with its driver, group, domain and page table: the \
      pages that the table maps, and the IOVAs that are live, kept for use again, and waiting for a \
      flush. Findings are where the kernel and the tables in memory differ. Of a dump with two kernels \
      both are told of, the older first.

      Exits 0 when the two agree; 1 when there is a finding; 2 when something that would tell cannot \
      be read.

      Example: iommu vmcore Examples/vmcore/vmcore.kdump
      """)

  @OptionGroup package var dump: DumpArguments

  @OptionGroup package var kernel: KernelOptions

  @Flag(help: "In JSON, every range of numbers that the allocators hold.")
  package var iovas = false

  @Option(help: "How to print it: text or json.")
  package var format = ReportFormat.text

  @OptionGroup package var screen: ScreenOptions

  package init() {}

  package func validate() throws {
    guard !iovas || format == .json else {
      throw ValidationError("--iovas goes with --format json")
    }
  }

  package func run() throws {
    var (out, ink) = screen.open()
    try report(to: &out, ink: ink).exit()
  }

  package func report(to out: inout some TextOutputStream, ink: Ink = .none) throws -> Answer {
    try dump.read { memory in
      let found = try kernel.kernels(in: memory, path: dump.files[0])
      var reports: [KernelReport] = []
      for (role, kernel) in found {
        // The old kernel is read first; its tables are what a capture kernel finds.
        let old = role == .capture ? reports.first?.survey?.state : nil
        reports.append(
          KernelReport(
            kernel, role: role, after: old, isOnlyKernel: found.count == 1, listsNumbers: iovas,
            in: memory))
      }
      switch format {
      case .text:
        for (number, report) in reports.enumerated() {
          if number > 0 { out.write("\n") }
          report.write(to: &out, ink: ink)
        }
      case .json: try writeJSON(reports, to: &out)
      }
      if reports.contains(where: { !$0.unknown.isEmpty }) { return .unknown }
      return Answer(reports.allSatisfy { $0.findings.isEmpty })
    }
  }
}
