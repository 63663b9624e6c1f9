import IOMMUFormats

/// Tells a dead kernel's tables from those of the kernel that dumps it.
struct OwnerJudge {
  let crashKernel: [Range<PhysicalAddress>]

  /// Tables that others are compared with: there is one for each kernel that has run. A dump
  /// may be made of them.
  private static let comparedLimit = 32

  func judged(_ roots: [RootCandidate]) -> [TableCandidate] {
    let certain = roots.filter(\.candidate.isCertain).prefix(Self.comparedLimit)
    return roots.map { root in
      var candidate = root.candidate
      guard candidate.isCertain else { return candidate }
      let copies = certain.filter {
        $0.candidate.address != candidate.address && !$0.trees.isDisjoint(with: root.trees)
      }
      if !copies.isEmpty {
        candidate.reasons.append(
          "shares page tables with the \(root.noun) at "
            + listText(copies.map { "\($0.candidate.address)" }))
      }
      if !crashKernel.isEmpty {
        let isInside = crashKernel.contains { $0.contains(candidate.address) }
        candidate.owner = isInside ? .captureKernel : .deadKernel
        candidate.reasons.append("lies \(isInside ? "in" : "outside") the crash kernel's memory")
      } else if root.looksCopied {
        candidate.owner = .captureKernel
        candidate.reasons.append(
          "\(root.companions.count - root.companionsNearby) of \(root.companions.count) "
            + root.companionText
            + " lie away from the root and context tables: copies, which a capture kernel makes")
      } else if copies.contains(where: \.looksCopied) {
        candidate.owner = .deadKernel
      }
      return candidate
    }
  }
}
