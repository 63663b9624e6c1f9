import Foundation
import IOMMUFormats
import Testing

@testable import IOMMUInspection
@testable import IOMMULinux

/// What kernels say of tables that were found by their structure.
@Suite struct KernelClaimsTests {
  private static func state(
    _ tables: [(name: String, table: UInt64?)], kind: KernelUnit.Kind = .vtd, isWhole: Bool = true
  ) -> IOMMUState {
    var state = IOMMUState()
    state.units = tables.map { found in
      var unit = KernelUnit(kind: kind, address: 1, name: found.name)
      unit.table = found.table.map { PhysicalAddress($0) }
      return unit
    }
    state.listsAllUnits = isWhole
    return state
  }

  private static func candidate(
    _ address: UInt64, score: Int = 90, owner: TableCandidate.Owner? = nil,
    kind: TableCandidate.Kind = .rootTable
  ) -> TableCandidate {
    TableCandidate(
      kind: kind, address: PhysicalAddress(address), byteCount: 4096, score: score, reasons: [],
      owner: owner)
  }

  private static func completed(
    _ kernels: [(LinuxKernels.Role, IOMMUState?)], _ candidates: [TableCandidate],
    _ words: [UInt64: UInt64] = [:]
  ) throws -> [TableCandidate] {
    let memory = try FlatMemory(byteCount: 1 << 16)
    for (address, word) in words { memory.store(word, at: PhysicalAddress(address)) }
    return KernelClaims(kernels.map { (role: $0.0, state: $0.1) }).completing(
      candidates, in: memory)
  }

  private static func texts(
    _ kernels: [(LinuxKernels.Role, IOMMUState?)], _ candidates: [TableCandidate]
  ) throws -> [String?] {
    try completed(kernels, candidates).map { $0.claim?.text }
  }

  @Test func `a unit's table, and one of nobody`() throws {
    let one = [(LinuxKernels.Role.old, Optional(Self.state([("dmar0", 0x1000)])))]
    let found = try Self.completed(
      one, [Self.candidate(0x1000), Self.candidate(0x2000), Self.candidate(0x3000, score: 40)])
    #expect(
      found.map(\.claim?.text) == [
        "root table of dmar0, by the kernel",
        "not any unit's, by the kernel, and a table for certain: left over, or of a unit that the kernel "
          + "does not know",
        "not any unit's, by the kernel",
      ])
    #expect(found.map(\.claim?.agrees) == [true, false, true])
    #expect(found.map(\.claim?.state) == [.unit, .nobody, .nobody])
    #expect(
      try Self.texts(one, [Self.candidate(0x1000, score: 40)])
        == ["root table of dmar0, by the kernel, and no table for certain by its structure"])
  }

  @Test func `of two kernels it is told which`() throws {
    let two = [
      (LinuxKernels.Role.old, Optional(Self.state([("dmar0", 0x1000)]))),
      (.capture, Self.state([("dmar0", 0x2000)])),
    ]
    let found = try Self.completed(
      two,
      [
        Self.candidate(0x1000, owner: .deadKernel), Self.candidate(0x2000, owner: .captureKernel),
        Self.candidate(0x3000, score: 30),
      ])
    #expect(
      found.map(\.claim?.text) == [
        "root table of dmar0, by the old kernel", "root table of dmar0, by the capture kernel",
        "not any unit's, by either kernel",
      ])
    #expect(found.map(\.claim?.kernel) == [.old, .capture, nil])
    let crossed = try Self.completed(
      two, [Self.candidate(0x1000, owner: .captureKernel), Self.candidate(0x2000)])
    #expect(
      crossed[0].claim?.text
        == "root table of dmar0, by the old kernel, and the capture kernel's by its structure")
    #expect(crossed.map(\.claim?.agrees) == [false, true])
  }

  /// A capture kernel of Linux 7 goes on with the old one's device table.
  @Test func `a table that both kernels have`() throws {
    let both = [
      (LinuxKernels.Role.old, Optional(Self.state([("ivhd0", 0x4000)], kind: .amdvi))),
      (.capture, Self.state([("ivhd0", 0x4000)], kind: .amdvi)),
    ]
    let found = try Self.completed(
      both, [Self.candidate(0x4000, owner: .deadKernel, kind: .deviceTable)])
    #expect(found.map(\.claim?.text) == ["device table of ivhd0, by both kernels"])
    #expect(found[0].claim?.kernel == nil && found[0].claim?.agrees == true)
  }

  @Test func `where nothing can be said it is unknown`() throws {
    let cut = Self.state([("dmar0", 0x1000)], isWhole: false)
    #expect(
      try Self.texts([(.old, cut)], [Self.candidate(0x1000), Self.candidate(0x2000)]) == [
        "root table of dmar0, by the kernel",
        "unknown whose by the kernel: its list of units cannot be read to the end",
      ])
    // A kernel that cannot be read may have it.
    let half = try Self.completed(
      [(.old, nil), (.capture, Self.state([("dmar0", 0x1000)]))],
      [Self.candidate(0x1000), Self.candidate(0x2000)])
    #expect(half.map(\.claim?.state) == [.unit, .unknown])
    // Kernels list no tables of firmware.
    let firmware = try Self.completed(
      [(.old, Self.state([("dmar0", 0x1000)]))],
      [Self.candidate(0x1000), Self.candidate(0x4000, kind: .dmar)])
    #expect(
      firmware[1].claim?.text == "unknown whose by the kernel: it keeps no list of such tables")
  }

  @Test func `a device table is one of AMD-Vi units only`() throws {
    let amd = Self.state([("ivhd0", 0x4000)], kind: .amdvi)
    #expect(
      try Self.texts(
        [(.old, amd)],
        [Self.candidate(0x4000, kind: .deviceTable), Self.candidate(0x1000, score: 30)])
        == ["device table of ivhd0, by the kernel", "not any unit's, by the kernel"])
    // A unit of another kind at the same place is none of these tables'.
    #expect(
      try Self.completed(
        [(.old, Self.state([("dmar0", 0x4000)]))], [Self.candidate(0x4000, kind: .deviceTable)]
      )[0].claim?.state == .nobody)
  }

  @Test func `a unit's table that was not found is told too`() throws {
    let kernel = [
      (LinuxKernels.Role.old, Optional(Self.state([("dmar0", 0x1000), ("dmar1", nil)])))
    ]
    let empty = try Self.completed(kernel, [])
    #expect(empty.map(\.address) == [PhysicalAddress(0x1000)])
    #expect(empty[0].reasons == ["leads to no device"] && empty[0].score == 0)
    #expect(empty[0].claim?.agrees == false && empty[0].claim?.state == .unit)
    let far = try Self.completed([(.old, Self.state([("dmar0", 0x100_0000)]))], [])
    #expect(far[0].reasons.count == 1 && far[0].reasons[0].hasPrefix("0x1000000 is "))
    // Of units whose tables nobody looks for there is nothing to miss.
    #expect(try Self.completed([(.old, Self.state([("ivhd0", 0x1000)], kind: .other))], []).isEmpty)
  }

  @Test func `claims in JSON`() throws {
    let found = try Self.completed(
      [(.old, Self.state([("dmar0", 0x1000)]))], [Self.candidate(0x1000)])
    let object = try JSONSerialization.jsonObject(with: JSONEncoder().encode(found[0]))
    let claim = try #require((object as? [String: Any])?["kernel"] as? [String: Any])
    #expect(claim["state"] as? String == "unit" && claim["unit"] as? String == "dmar0")
    #expect(claim["agrees"] as? Bool == true && claim["kernel"] == nil)
    #expect(claim["text"] as? String == "root table of dmar0, by the kernel")
    let plain = try JSONSerialization.jsonObject(
      with: JSONEncoder().encode(Self.candidate(0x1000)))
    #expect((plain as? [String: Any])?["kernel"] == nil)
  }
}
