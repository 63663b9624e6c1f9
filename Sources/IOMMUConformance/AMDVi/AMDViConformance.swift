import FoundationEssentials
import IOMMUFormats
import IOMMUHardware

/// Answers cases of AMD-Vi units, each on a unit and a memory of its own.
package struct AMDViConformance: CaseConformance {
  private let machine: AMDViCaseMachine
  private let decoder = JSONDecoder()

  package init(caches: AMDViCacheConfiguration) throws(MemoryError) {
    machine = try AMDViCaseMachine(caches: caches)
  }

  package func answers(to json: UnsafeRawBufferPointer) throws(CaseError) -> AMDViAnswers {
    // Safe: whoever gives the bytes keeps them while they are read.
    try unsafe answers(to: json, with: decoder, machine.answers)
  }
}
