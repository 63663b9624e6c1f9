import IOMMUFormats
import IOMMUTranslation

/// A table that others hang from, and what is needed to tell whose it is.
struct RootCandidate {
  var candidate: TableCandidate
  /// What people call it: `root table`.
  var noun: String
  /// The table itself, and those that a kernel makes with it.
  var ownTables: [PhysicalAddress]
  /// The roots of the page tables.
  var trees: Set<PhysicalAddress>
  /// What a kernel allocates together with its context tables: page tables, or in scalable mode the
  /// PASID directories, since page tables come later there.
  /// Empty where kernels allocate none of them together.
  var companions: Set<PhysicalAddress>
  /// What the companions are: `page table trees`.
  var companionText: String

  /// How far from the root and context tables others still were allocated with them.
  private static let reach: UInt64 = 1 << 20

  /// Companions that lie near the root and context tables: a kernel allocates both at the same time, a
  /// kernel that only copies contexts leaves the others where they were.
  var companionsNearby: Int {
    companions.count { companion in
      ownTables.contains { own in
        max(own.rawValue, companion.rawValue) - min(own.rawValue, companion.rawValue) < Self.reach
      }
    }
  }

  /// The companions lie elsewhere: a capture kernel has copied root and context tables.
  var looksCopied: Bool { companions.count >= 3 && 2 * companionsNearby < companions.count }
}
