import IOMMUFormats
import IOMMULinux
import IOMMUTranslation

/// Whose tables are, by what the kernels of a dump know of their units.
public struct KernelClaims: Sendable {
  /// What kernels say of one table.
  public struct Claim: Hashable, Sendable {
    public enum State: String, Sendable, Encodable {
      /// A unit's registers lead to it.
      case unit
      /// No unit has it.
      case nobody
      /// Nothing can be said.
      case unknown
    }

    public var state: State
    /// What the unit is called: `dmar0`.
    public var unit: String?
    /// Whose unit; `nil` where only one kernel is in the dump, and where both have the table.
    public var kernel: LinuxKernels.Role?
    /// Structure says the same; `nil` where one of the two says nothing.
    public var agrees: Bool?
    /// In words.
    public var text: String
  }

  private let kernels: [(role: LinuxKernels.Role, state: IOMMUState?)]

  /// - Parameter kernels: What each kernel knows, the older first; `nil` for one that cannot be read.
  public init(_ kernels: [(role: LinuxKernels.Role, state: IOMMUState?)]) {
    self.kernels = kernels
  }

  /// What is said of a table that was found by its structure.
  func claim(on candidate: TableCandidate) -> Claim {
    guard let kind = candidate.kind.finder.kernelKind else {
      return Claim(
        state: .unknown, text: "unknown whose by the kernel: it keeps no list of such tables")
    }
    let units = kernels.compactMap { role, state in
      state?.units.first { $0.kind == kind && $0.table == candidate.address }.map { (role, $0) }
    }
    if let (role, unit) = units.first {
      // A capture kernel may go on with the old one's table.
      return claim(of: unit, units.count > 1 ? nil : role, on: candidate)
    }
    // A list that is not whole may lack the unit.
    guard kernels.allSatisfy({ $0.state?.listsAllUnits == true }) else {
      return Claim(
        state: .unknown,
        text: "unknown whose by the kernel: its list of units cannot be read to the end")
    }
    let whose = kernels.count > 1 ? "by either kernel" : "by the kernel"
    let doubt =
      candidate.isCertain
      ? ", and a table for certain: left over, or of a unit that the kernel does not know" : ""
    return Claim(
      state: .nobody, agrees: !candidate.isCertain, text: "not any unit's, \(whose)\(doubt)")
  }

  /// - Parameter role: Which kernel says so; `nil` for all.
  private func claim(
    of unit: KernelUnit, _ role: LinuxKernels.Role?, on candidate: TableCandidate
  ) -> Claim {
    let whose =
      kernels.count > 1 ? role.map { "the \($0.rawValue) kernel" } ?? "both kernels" : "the kernel"
    var text = "\(unit.kind.tableName) of \(unit.name ?? unit.title), by \(whose)"
    var agrees = candidate.isCertain
    if !candidate.isCertain { text += ", and no table for certain by its structure" }
    let owner = candidate.owner
    if kernels.count > 1, let role, let owner, (owner == .captureKernel) != (role == .capture) {
      agrees = false
      text += ", and the \(owner.rawValue)'s by its structure"
    }
    return Claim(
      state: .unit, unit: unit.name, kernel: kernels.count > 1 ? role : nil, agrees: agrees,
      text: text)
  }

  /// Candidates with what kernels say of each, and behind them those tables of units that are not among
  /// them.
  public func completing(
    _ candidates: [TableCandidate], in memory: some PhysicalMemory
  ) -> [TableCandidate] {
    var candidates = candidates
    let found = Set(candidates.map(\.address))
    for (_, state) in kernels {
      for unit in state?.units ?? [] {
        guard let table = unit.table, !candidates.contains(where: { $0.address == table }),
          let finder = TableFinders.all.first(where: { $0.kernelKind == unit.kind }),
          let name = finder.names.first,
          var candidate = finder.candidate(
            named: name, at: table, byteCount: unit.tableByteCount, in: memory)
        else { continue }
        if memory.quadword(at: table) == nil {
          candidate.reasons = ["\(table) is \(memory.presence(of: table).whereabouts)"]
        }
        candidates.append(candidate)
      }
    }
    for index in candidates.indices {
      var claim = claim(on: candidates[index])
      if !found.contains(candidates[index].address) { claim.agrees = false }
      candidates[index].claim = claim
    }
    return candidates
  }
}

extension KernelClaims.Claim: Encodable {
  enum CodingKeys: String, CodingKey { case state, unit, kernel, agrees, text }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(state, forKey: .state)
    try container.encodeIfPresent(unit, forKey: .unit)
    try container.encodeIfPresent(kernel?.rawValue, forKey: .kernel)
    try container.encodeIfPresent(agrees, forKey: .agrees)
    try container.encode(text, forKey: .text)
  }
}

extension KernelUnit.Kind {
  /// What the table is called that a unit's registers lead to.
  package var tableName: String {
    switch self {
    case .vtd: "root table"
    case .amdvi: "device table"
    case .smmuv3: "stream table"
    case .other: "table"
    }
  }
}
