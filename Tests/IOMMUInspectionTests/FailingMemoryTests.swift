import IOMMUFormats
import IOMMUTranslation
import Testing

@testable import IOMMUInspection

/// Memory that a caller provides and that fails: it holds less than it says, and answers with numbers of
/// bytes that are none.
private struct FailingMemory: PhysicalMemory {
  enum Kind: CaseIterable {
    /// Nothing is there any more.
    case gone
    /// Copies end with an error's number.
    case negative
    /// Copies tell of more than was asked for.
    case boastful
    /// The first half is there, and ranges tell of all.
    case half
    /// Ranges are empty, reversed in order, and number more pages than there are addresses.
    case liar
  }

  let base: FlatMemory
  let kind: Kind

  private func isThere(_ address: PhysicalAddress) -> Bool {
    switch kind {
    case .gone: false
    case .half: address.rawValue < 0x4_0000
    case .negative, .boastful, .liar: true
    }
  }

  func quadword(at address: PhysicalAddress) -> UInt64? {
    isThere(address) ? base.quadword(at: address) : nil
  }
  func doubleword(at address: PhysicalAddress) -> UInt32? {
    isThere(address) ? base.doubleword(at: address) : nil
  }
  func read(at address: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer) -> Int {
    switch kind {
    case .negative: -5
    case .boastful: .max
    default: isThere(address) ? unsafe base.read(at: address, into: buffer) : 0
    }
  }
  func isAbsent(at address: PhysicalAddress) -> Bool { !isThere(address) }
  var backedRanges: [Range<PhysicalAddress>] {
    guard kind == .liar else { return base.backedRanges }
    let zero = PhysicalAddress(0)
    return [zero..<zero, PhysicalAddress(0x8_0000)..<PhysicalAddress(0x12_0000), zero..<zero]
  }
  var storedPageCount: UInt64 { kind == .liar ? .max : 256 }
}

@Suite struct FailingMemoryTests {
  @Test(arguments: FailingMemory.Kind.allCases)
  private func `what a caller's memory does not deliver is absent, and nothing traps`(
    kind: FailingMemory.Kind
  ) throws {
    let small = try SmallMachine()
    let memory = FailingMemory(base: small.memory, kind: kind)
    for machine in [small.machine, small.gartMachine] {
      var screen = ""
      let report = try MapsReport(machine, in: memory)
      let blindness = report.writeText(of: memory, to: &screen)
      report.writeTSV(of: memory, to: &screen)
      MapsSummary(report, in: memory).write(to: &screen)
      DomainTranslationStruct(report).write(of: memory, to: &screen)
      let reach = ReachReport(
        PhysicalAddress(0x5000), machine: machine, in: memory)
      let annotator = Annotator(machine, in: memory)
      annotator.writeHexdump(addresses(0x3_0000..<0x3_6000), of: memory, to: &screen)
      _ = TableSearch(in: memory).candidates
      let device = Requester("00:03.0")!
      let answer = machine.translate(device, IOVA(0x1_0000), access: .read, in: memory)
      if kind == .gone {
        #expect(!blindness.isEmpty)
        #expect(!reach.blindness.isEmpty)
        if case .mapped = answer, machine.units.count > 1 { Issue.record("nothing is there") }
      }
    }
  }
}
