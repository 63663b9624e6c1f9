/// Which Linux drives the GART, as far as the versions differ.
public enum GARTDriverVersion: String, Sendable, CaseIterable, Codable {
  case linux2_6_27 = "2.6.27"
  case linux4_4 = "4.4"
  case linux7_0 = "7.0"

  /// Whether early code clears GartEn that another kernel left set. 2.6.27 does so only where the
  /// nodes disagree or the aperture is impossible.
  var disablesInheritedGART: Bool { self != .linux2_6_27 }

  /// The first 32 pages of the window are never given out and stay invalid; the first of them
  /// stands for "mapping failed".
  var hasEmergencyPages: Bool { self != .linux7_0 }

  /// Free entries point to the scratch page from the start; without, only once they were used.
  var fillsWithScratch: Bool { self != .linux7_0 }

  /// Sets DisGartTblWlkPrb, because the table is uncacheable.
  var walksWithoutProbes: Bool { self != .linux2_6_27 }

  /// Refuses addresses that an entry cannot name. 2.6.27 does not look, and maps a wrong page.
  var refusesBeyondEntries: Bool { self != .linux2_6_27 }

  /// Freeing above the next-fit hint moves the hint along (since December 2008).
  var movesHintOnFree: Bool { self != .linux2_6_27 }

  /// An aperture over RAM is looked for from 512 MiB up, or from 4 GiB down.
  var placesApertureLow: Bool { self == .linux2_6_27 }

  /// Orderly shutdown leaves the GART on where there is AGP.
  var keepsAGPAtShutdown: Bool { self != .linux2_6_27 }
}

/// What a kernel's command line and build say about the GART: the words of `iommu=`.
public struct GARTOptions: Sendable, Hashable {
  public var version = GARTDriverVersion.linux2_6_27
  /// `off`: no use of an IOMMU.
  public var isOff = false
  /// `force`: everything goes through the GART.
  public var isForced = false
  /// `fullflush`, the default: a flush after every mapping. `nofullflush`: only when the search for
  /// entries comes round.
  public var flushesEveryMapping = true
  /// Digits: bytes of the remapping window; `nil` for all of the aperture, or half with AGP.
  public var windowByteCount: UInt64?
  /// `memaper=order`: lay the aperture over RAM whatever firmware has left; 5 at most.
  public var apertureOrder: Int?
  /// `noagp`: take no notice of an AGP bridge. Also what a kernel without an AGP driver does.
  public var ignoresAGP = false
  /// `panic`: stop when the window is full.
  public var panicsWhenFull = false
  /// Not a word of Linux: start also where all memory lies below 4 GiB and nothing has to be
  /// remapped, so that machines smaller than those of the time can show a GART.
  public var startsWithoutNeed = false

  public init(version: GARTDriverVersion = .linux2_6_27) { self.version = version }
}
