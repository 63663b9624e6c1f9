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

  /// Flushes when the GART is on and before free entries are filled, or after.
  var flushesBeforeFilling: Bool { self != .linux2_6_27 }

  /// Writes table base and GartEn again where the AGP driver has done so already.
  var enablesBesideAGP: Bool { self != .linux2_6_27 }

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
  /// `merge`: neighbours in a scatter list become one segment for the device. Any word of `iommu=`
  /// turns it on, before the words are read.
  public var mergesLists = false
  /// `panic`: stop when the window is full.
  public var panicsWhenFull = false
  /// Not a word of Linux: start also where all memory lies below 4 GiB and nothing has to be
  /// remapped, so that machines smaller than those of the time can show a GART.
  public var startsWithoutNeed = false

  public init(version: GARTDriverVersion = .linux2_6_27) { self.version = version }

  /// Reads the words of `iommu=`, separated by commas; others than the GART's are passed over.
  public mutating func read(_ words: String) {
    guard !words.isEmpty else { return }
    mergesLists = true
    for word in words.split(separator: ",") {
      switch word {
      case "off": isOff = true
      case "force": isForced = true
      case "noforce": (isForced, mergesLists) = (false, false)
      case "merge", "biomerge": (mergesLists, isForced) = (true, true)
      case "nomerge": mergesLists = false
      case "fullflush": flushesEveryMapping = true
      case "nofullflush": flushesEveryMapping = false
      case "noagp": ignoresAGP = true
      case "panic": panicsWhenFull = true
      case "nopanic": panicsWhenFull = false
      case "memaper": apertureOrder = 1
      default:
        if word.hasPrefix("memaper="), let order = Int(word.dropFirst(8)), 0...7 ~= order {
          apertureOrder = order
        } else if let size = Self.byteCount(word) {
          windowByteCount = size
        }
      }
    }
  }

  /// Bytes, with K, M or G as the kernel reads them.
  private static func byteCount(_ word: Substring) -> UInt64? {
    let shift: UInt64 =
      switch word.last {
      case "k", "K": 10
      case "m", "M": 20
      case "g", "G": 30
      default: 0
      }
    let digits = shift == 0 ? word : word.dropLast()
    guard let count = UInt64(digits), count <= UInt64.max >> shift else { return nil }
    return count << shift
  }
}
