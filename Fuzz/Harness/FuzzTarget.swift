/// A reader, a writer, or a piece of hardware, over arbitrary input. A run that returns found nothing.
///
/// The one list of them: `make fuzz`, `.ci/fuzz` and the tests ask it.
public enum FuzzTarget: String, CaseIterable, Sendable {
  /// Bytes of an ELF core after its magic.
  case elf
  /// A kdump-compressed file after its magic, as ``SparseBytes``.
  case kdump
  /// A flattened stream after its header, as ``SparseBytes``.
  case flattened
  /// The files of a split dump.
  case split
  /// A LiME dump after its magic.
  case lime
  /// An AVML dump after its magic, with frames of Snappy.
  case avml
  /// A core of a Xen guest, as ``SparseBytes``.
  case xen
  /// The state of a VMware guest, with its memory inside or beside it.
  case vmware
  /// Any file: the marks are the fuzzer's to find.
  case image
  /// A machine file.
  case machine
  /// A DMAR table.
  case dmar
  /// An IVRS table behind its signature and length.
  case ivrs
  /// A kernel's log, held against tables.
  case log
  /// What is known beside a log: a list of what lies where, a trace of mappings.
  case context
  /// A trace of DMA, replayed.
  case trace
  /// Results of shards, added up.
  case merge
  /// Recorded cases and recorded lives of drivers.
  case conform
  /// Registers and memory, walked.
  case walk
  /// Memory in which tables are looked for.
  case search
  /// The thirteen checks, over an edited machine.
  case rule
  /// Every listing, comparison and report of an edited machine.
  case writers
  /// Fast path, exact path, told walk and enumeration of an edited machine: all say the same.
  case agree
  /// What a hostile guest does to a VT-d unit: registers, queue, DMA, ATS, page requests, interrupts.
  case registers
  /// What a hostile guest does to an AMD-Vi unit: the same, with its commands and its PCI function.
  case amdvi
  /// What a hostile guest does to a Calgary chip.
  case calgary
  /// What a hostile guest does to the northbridges of a machine.
  case gart
  /// VMCOREINFO, and the kernel that it leads to.
  case vmcoreinfo
  /// A kernel's table of symbols.
  case kallsyms
  /// A kernel's types, and a module's.
  case btf
  /// A kernel's log, in each of its buffers.
  case printk
  /// Numbers of VMCOREINFO: where a kernel's structures and their members lie, and how large they are.
  case numbers

  /// - Precondition: only one run at a time in a process.
  public func run(_ input: UnsafeRawBufferPointer) {
    switch self {
    case .elf: ImageExercise.run([0x7f, 0x45, 0x4c, 0x46] + input.dropFirst(4))
    case .kdump: ImageExercise.run(SparseBytes.expanded(input, after: KdumpMark.bytes))
    case .flattened:
      let header =
        Array("makedumpfile\0\0\0\0".utf8) + [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]
      ImageExercise.run(SparseBytes.expanded(input, after: header))
    case .split: SplitExercise.run(input)
    case .lime: ImageExercise.run([0x45, 0x4d, 0x69, 0x4c] + input.dropFirst(4))
    case .avml: ImageExercise.run([0x41, 0x56, 0x4d, 0x4c] + input.dropFirst(4))
    case .xen: XenExercise.run(input)
    case .vmware: VMwareExercise.run(input)
    case .image: ImageExercise.run(Array(input))
    case .machine: MachineFileExercise.run(Array(input))
    case .dmar: DMARExercise.run(Array(input))
    case .ivrs: DMARExercise.run(signed(Array(input), "IVRS"))
    case .log: LogExercise.run(Array(input))
    case .context: ContextExercise.run(Array(input))
    case .trace: TraceExercise.run(Array(input))
    case .merge: MergeExercise.run(Array(input))
    case .conform: ConformExercise.run(Array(input))
    case .walk: WalkExercise.run(input)
    case .search: SearchExercise.run(input)
    case .rule: RuleExercise.run(input)
    case .writers: WritersExercise.run(input)
    case .agree: AgreeExercise.run(input)
    case .registers: RegistersExercise.run(input)
    case .amdvi: AMDViExercise.run(input)
    case .calgary: CalgaryExercise.run(input)
    case .gart: GARTExercise.run(input)
    case .vmcoreinfo: VMCoreInfoExercise.run(Array(input))
    case .kallsyms: KallsymsExercise.run(Array(input))
    case .btf: BTFExercise.run(Array(input))
    case .printk: PrintkExercise.run(Array(input))
    case .numbers: KernelNumbersExercise.run(Array(input))
    }
  }
}
