import IOMMUFormats
import IOMMUTranslation

extension RuleEvidence {
  /// What an allocator of numbers holds in the memory of the kernel that died.
  public struct Allocator: Sendable, Equatable {
    /// What has become of numbers that an allocator holds.
    public enum State: Sendable, Equatable {
      /// Given out, or kept for good.
      case taken
      /// Given back, and kept for use again.
      case cached
      /// Given back, and waiting until units have forgotten them.
      case waiting
    }

    /// Numbers of one state.
    public struct Held: Sendable, Equatable {
      public var iova: Range<IOVA>
      public var state: State

      public init(_ iova: Range<IOVA>, _ state: State) {
        self.iova = iova
        self.state = state
      }
    }

    /// Whose numbers it hands out, as they call themselves in requests.
    public var devices: [PCI.Function]
    /// The table of the numbers; `nil` where it is not known.
    public var root: PhysicalAddress?
    /// Ascending by their first numbers; what is in none of them is free.
    public var held: [Held]
    /// All of it could be read.
    public var isWhole: Bool

    public init(
      devices: [PCI.Function], root: PhysicalAddress? = nil, held: [Held], isWhole: Bool = true
    ) {
      self.devices = devices
      self.root = root
      self.held = held.sorted { $0.iova.lowerBound < $1.iova.lowerBound }
      self.isWhole = isWhole
    }

    /// The parts of a range that it does not hold.
    func free(in range: Range<IOVA>) -> [Range<IOVA>] {
      var start = range.lowerBound
      var free: [Range<IOVA>] = []
      for part in held where part.iova.overlaps(range) {
        if start < part.iova.lowerBound { free.append(start..<part.iova.lowerBound) }
        start = max(start, part.iova.upperBound)
      }
      if start < range.upperBound { free.append(start..<range.upperBound) }
      return free
    }
  }

  /// What a kernel's page allocator says of a page.
  public enum PageUse: String, Sendable {
    case allocated
    case free
    case slab
    case user
    case offline

    /// Why no table can be in it; `nil` for a page that may be one's.
    var objection: String? {
      switch self {
      case .allocated: nil
      case .free: "is free"
      case .slab: "is a slab's"
      case .user: "is a program's or a file's"
      case .offline: "has been taken from the kernel"
      }
    }
  }

  /// What is known of the pages that tables lie in.
  public struct TablePages: Sendable, Equatable {
    /// By the number of the page.
    public var uses: [UInt64: PageUse]
    /// Why nothing is known of the others; `nil` where all are known.
    public var unknown: String?

    public init(uses: [UInt64: PageUse], unknown: String? = nil) {
      self.uses = uses
      self.unknown = unknown
    }
  }
}
