import IOMMUFormats
import IOMMUTranslation

/// The machine of a dump that nobody has described, with what is to be said of how it is known.
package struct DumpMachine {
  package var machine: Machine
  package var notices: [String]

  /// What the dump's kernel says of its units.
  ///
  /// - Parameters:
  ///   - knowledge: What the kernel says.
  ///   - memory: The dump.
  ///   - search: Looks for tables; called where firmware may have to say which unit is whose.
  /// - Returns: `nil` where the kernel says nothing of units.
  package init?(
    saidBy knowledge: KernelKnowledge, in memory: some PhysicalMemory, search: () -> TableSearch
  ) {
    machine = knowledge.machine
    guard !machine.units.isEmpty else { return nil }
    notices = []
    if machine.units.count > 1 {
      let completed = search().completing(machine.units, in: memory)
      machine.units = completed.units
      notices = completed.remarks
    }
    notices = knowledge.notices + notices + machine.doubts(in: memory)
  }

  /// What is found in memory by structure alone.
  ///
  /// A machine without units where nothing is found for certain; the notices say what was passed over.
  ///
  /// - Parameters:
  ///   - search: A look at all of the memory.
  ///   - memory: The dump.
  ///   - name: What the machine is called.
  ///   - hints: What somebody knows of the units besides.
  package init(
    foundBy search: TableSearch, in memory: some PhysicalMemory, name: String, _ hints: TableHints
  ) {
    let selection = search.selection(in: memory, hints)
    notices = selection.passedOver.map { candidate, reason in
      "not taking the \(candidate.kind.name) at \(candidate.address): \(reason)"
    }
    machine = Machine(name: name, units: selection.taken.isEmpty ? [] : selection.units)
    guard !selection.taken.isEmpty else { return }
    notices += selection.taken.map { candidate in
      "no machine file: taking the \(candidate.kind.name) at \(candidate.address), score "
        + "\(candidate.score)" + (candidate.owner.map { ", the \($0.rawValue)'s" } ?? "")
    }
    notices += selection.remarks
  }
}
