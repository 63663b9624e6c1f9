import FoundationEssentials
import IOMMUFormats
import IOMMUHardware

/// Answers recorded cases of remapping units, each on a unit and a memory of its own.
package struct VTdConformance: CaseConformance {
  private let machine: VTdCaseMachine
  private let decoder = JSONDecoder()

  package init(caches: CacheConfiguration) throws(MemoryError) {
    machine = try VTdCaseMachine(caches: caches)
  }

  package func answers(to json: UnsafeRawBufferPointer) throws(CaseError) -> VTdAnswers {
    // Safe: whoever gives the bytes keeps them while they are read.
    try unsafe answers(to: json, with: decoder, machine.answers)
  }
}
