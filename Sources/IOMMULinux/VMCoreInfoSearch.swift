import IOMMUFormats
import IOMMUImages

/// VMCOREINFO where it lies in memory: every kernel that runs has its own, whatever the notes of a dump say.
///
/// A kernel keeps the text at the beginning of a page, and once more behind the header of a note (24 bytes:
/// sizes 11 and *n*, type 0, the name padded to 12) at the beginning of another.
public struct VMCoreInfoSearch: Sendable {
  /// A text, and where it begins.
  public struct Found: Sendable {
    public var address: PhysicalAddress
    public var info: VMCoreInfo
  }

  /// The first lines of every text.
  static let mark = Array("OSRELEASE=".utf8)
  private static let noteName = Array("VMCOREINFO\0\0".utf8)
  /// No kernel's text is as long: it has a page for it, and 64 KiB is the largest page.
  static let byteCountLimit = 1 << 16

  /// Different texts in the order of their addresses; of equal ones the first.
  public private(set) var found: [Found] = []
  /// Pages that were looked at.
  public private(set) var pageCount: UInt64 = 0

  /// Looks at the beginning of every stored page.
  ///
  /// - Parameters:
  ///   - memory: A dump, or memory that runs.
  ///   - ranges: What of it is looked at, half-open; `nil` for all of it.
  ///   - limit: Texts after which the search ends: more kernels than that are none.
  ///   - progress: Hears how many bytes of how many are done.
  /// - Complexity: O(*n*) in the pages that are stored within `ranges`; a page that is packed is unpacked.
  public init(
    in memory: any PhysicalMemory, ranges: [Range<PhysicalAddress>]? = nil, limit: Int = 8,
    progress: (_ done: UInt64, _ of: UInt64) -> Void = { _, _ in }
  ) {
    let stored = memory.storedPageRanges
    let wanted =
      ranges.map { ranges in
        stored.flatMap { range in
          ranges.compactMap { $0.overlaps(range) ? $0.clamped(to: range) : nil }
        }
      } ?? stored
    let byteCount = wanted.reduce(UInt64(0)) { $0 &+ $1.byteCount }
    var done: UInt64 = 0
    for range in wanted {
      var page = range.lowerBound.alignedDown(to: PageCount.pageByteCount)
      while page < range.upperBound, found.count < limit {
        pageCount += 1
        look(at: page, in: memory)
        guard let next = page.advanced(byBytes: PageCount.pageByteCount) else { break }
        page = next
        if pageCount % 4096 == 0 { memory.forgetLooks() }
        if pageCount % 1024 == 0 {
          progress(done &+ (page.rawValue &- range.lowerBound.rawValue), byteCount)
        }
      }
      done &+= range.byteCount
    }
  }

  private mutating func look(at page: PhysicalAddress, in memory: any PhysicalMemory) {
    // One word decides of most pages.
    guard let word = memory.quadword(at: page) else { return }
    if word == Self.markWord {
      take(textAt: page, byteCount: Self.byteCountLimit, in: memory)
    } else if word & 0xffff_ffff == 11, let header = memory.bytes(at: page, count: 24),
      header[8..<12].allSatisfy({ $0 == 0 }), header[12..<24].elementsEqual(Self.noteName),
      let text = page.advanced(byBytes: 24)
    {
      take(textAt: text, byteCount: Int(min(word >> 32, UInt64(Self.byteCountLimit))), in: memory)
    }
  }

  /// `OSRELEAS`.
  private static let markWord = mark.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }

  private mutating func take(
    textAt address: PhysicalAddress, byteCount: Int, in memory: any PhysicalMemory
  ) {
    var text: [UInt8] = []
    var place = address
    while text.count < byteCount {
      let count = min(byteCount - text.count, Int(PageCount.pageByteCount - place.offsetInPage))
      guard let part = memory.bytes(at: place, count: count) else { break }
      let letters = part.prefix { $0 != 0 }
      text += letters
      guard letters.count == part.count, let next = place.advanced(byBytes: UInt64(count)) else {
        break
      }
      place = next
    }
    guard text.starts(with: Self.mark) else { return }
    let info = VMCoreInfo(text)
    // Half a text, of a page whose rest was used again, says too little.
    guard info.symbol("_stext") != nil, !found.contains(where: { $0.info == info }) else { return }
    found.append(Found(address: address, info: info))
  }
}
