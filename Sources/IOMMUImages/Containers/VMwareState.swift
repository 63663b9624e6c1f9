import IOMMUFormats

/// The saved state of a VMware guest, as far as it says where memory lies.
///
/// A header of 12 bytes, a mark, a number and a count, then groups of 80 bytes: a name, and where its tags
/// begin. A tag has two bytes of its own, the size of its value and how many indices it has in the first,
/// the length of its name in the second; then name, indices of four bytes each, and value. Sizes 62 and
/// 63 are blocks: two sizes, packed and unpacked, the length of some padding in two bytes, the padding
/// and the bytes. Tags end with two bytes of zero.
///
/// The group `memory` has a region for each range without holes: `regionPPN`, the page in the guest,
/// `regionPageNum`, the page in the file, and `regionSize` in pages. The file is the `.vmem` beside the
/// state, or the block `Memory` in the state itself.
///
/// VMware documents none of it. Source: what crash, Volatility 3 and MemProcFS agree on.
struct VMwareState {
  let file: DumpFile

  private static let headerByteCount: UInt64 = 12
  private static let groupCountOffset: UInt64 = 8
  private static let groupByteCount: UInt64 = 80
  private static let nameByteCount = 64
  private static let tagsOffset: UInt64 = 64
  /// More groups and tags than a guest has.
  private static let groupLimit: UInt32 = 1 << 12
  private static let tagLimit = 1 << 16
  private static let pageShift: UInt64 = 12

  /// The marks, as numbers; the last four bits of the first say that sizes have four bytes.
  static let marks: [UInt32] = [0xbed0_bed0, 0xbed2_bed0, 0xbed2_bed2, 0xbed3_bed3, 0xbad1_bad1]
  private static let isOld: UInt32 = 0xf

  static func isState(_ file: DumpFile) -> Bool {
    file.integer(UInt32.self, at: 0).map { marks.contains($0) } ?? false
  }

  /// Memory as regions say it lies in a file.
  ///
  /// - Parameter memory: The `.vmem` file; `nil` where the state has the memory itself.
  func content(_ memory: DumpFile?) throws(ImageError) -> PieceContent {
    let tags = try memoryTags()
    let block = tags.block
    if memory == nil {
      guard let block else {
        throw error(
          0, "the saved state of a VMware guest without its memory",
          "put the .vmem file of the same name beside it, or name that; 'vmss2core' makes a core of both"
        )
      }
      guard !block.isPacked else {
        throw error(
          block.offset, "memory that is packed, which is not read",
          "'vmss2core -N' makes an ELF core of it")
      }
    }
    var content = PieceContent()
    let source = memory ?? file
    let start = memory == nil ? block?.offset ?? 0 : 0
    let byteCount = memory == nil ? block?.byteCount ?? 0 : source.byteCount
    guard !tags.regions.isEmpty else {
      content.append(
        0, stored: min(byteCount, source.knownByteCount(from: start)), of: byteCount, from: start)
      return content
    }
    for region in tags.regions {
      guard let guest = region.guestPage, let page = region.filePage, let count = region.pageCount
      else {
        throw error(
          0, "a region of memory without its place or size",
          "the state is damaged, copy it again or suspend the guest again")
      }
      // Numbers of 32 bits: no sum reaches 2^46.
      let offset = UInt64(page) << Self.pageShift
      let wanted = UInt64(count) << Self.pageShift
      let inBlock = min(wanted, byteCount - min(byteCount, offset))
      content.append(
        UInt64(guest) << Self.pageShift,
        stored: min(inBlock, source.knownByteCount(from: start + offset)), of: wanted,
        from: start + offset)
    }
    return content
  }

  // MARK: Tags

  private struct Region {
    var guestPage: UInt32?
    var filePage: UInt32?
    var pageCount: UInt32?
  }

  private struct Block {
    var offset: UInt64
    var byteCount: UInt64
    var isPacked: Bool
  }

  /// The regions that count and the block.
  private func memoryTags() throws(ImageError) -> (regions: [Region], block: Block?) {
    var regions: [UInt32: Region] = [:]
    var regionCount: UInt32 = 0
    var block: Block?
    var offset = try tagsOfMemory()
    for _ in 0..<Self.tagLimit {
      guard let tag = try tag(at: offset) else { break }
      let number = file.integer(UInt32.self, at: tag.value.lowerBound)
      switch (tag.name, tag.indices.count) {
      case ("regionsCount", 0): regionCount = number ?? 0
      case ("regionPPN", 1): regions[tag.indices[0], default: Region()].guestPage = number
      case ("regionPageNum", 1): regions[tag.indices[0], default: Region()].filePage = number
      case ("regionSize", 1): regions[tag.indices[0], default: Region()].pageCount = number
      case ("Memory", 2) where tag.isBlock && tag.indices == [0, 0]:
        block = Block(
          offset: tag.value.lowerBound, byteCount: tag.value.upperBound - tag.value.lowerBound,
          isPacked: tag.isPacked)
      default: break
      }
      offset = tag.value.upperBound
    }
    let listed = (0..<min(regionCount, UInt32(Self.tagLimit))).map { regions[$0] ?? Region() }
    return (listed, block)
  }

  /// Where the tags of the group of memory begin.
  private func tagsOfMemory() throws(ImageError) -> UInt64 {
    let count = file.integer(UInt32.self, at: Self.groupCountOffset) ?? 0
    for index in 0..<UInt64(min(count, Self.groupLimit)) {
      let offset = Self.headerByteCount + index * Self.groupByteCount
      guard let name = file.bytes(at: offset, count: Self.nameByteCount),
        let start = file.integer(UInt64.self, at: offset + Self.tagsOffset)
      else { break }
      if name.prefix(while: { $0 != 0 }).elementsEqual("memory".utf8) { return start }
    }
    throw error(
      0, "the saved state of a VMware guest without a group of memory",
      "name the .vmem file of the same name, or convert both with 'vmss2core'")
  }

  private struct Tag {
    var name: String
    var indices: [UInt32]
    /// Half-open.
    var value: Range<UInt64>
    var isBlock: Bool
    var isPacked: Bool
  }

  /// A tag; `nil` at the end of the group's.
  private func tag(at offset: UInt64) throws(ImageError) -> Tag? {
    let cut = error(
      offset, "a tag of memory runs past the end of the file",
      "the file is truncated, copy it again")
    guard let head = file.integer(UInt16.self, at: offset) else { throw cut }
    guard head != 0 else { return nil }
    let size = UInt64(head & 0x3f)
    let indexCount = UInt64(head >> 6 & 3)
    let nameLength = UInt64(head >> 8)
    guard let name = file.bytes(at: offset + 2, count: Int(nameLength)) else { throw cut }
    var next = offset + 2 + nameLength
    var indices: [UInt32] = []
    for _ in 0..<indexCount {
      guard let index = file.integer(UInt32.self, at: next) else { throw cut }
      indices.append(index)
      next += 4
    }
    let isBlock = size >= 62
    var byteCount = size
    if isBlock {
      let isOld = (file.integer(UInt32.self, at: 0) ?? 0) & Self.isOld == 0
      let width: UInt64 = isOld ? 4 : 8
      let stored =
        isOld
        ? file.integer(UInt32.self, at: next).map(UInt64.init)
        : file.integer(UInt64.self, at: next)
      guard let stored, let padding = file.integer(UInt16.self, at: next + 2 * width) else {
        throw cut
      }
      next += 2 * width + 2 + UInt64(padding)
      byteCount = stored
    }
    let (end, wraps) = next.addingReportingOverflow(byteCount)
    // A block may be cut off; what it has is read.
    guard !wraps, isBlock || file.holds(byteCount, at: next) else { throw cut }
    return Tag(
      name: String(decoding: name, as: UTF8.self), indices: indices, value: next..<end,
      isBlock: isBlock, isPacked: size == 62)
  }

  private func error(_ offset: UInt64, _ found: String, _ remedy: String) -> ImageError {
    ImageError(
      file: file.path, place: "VMware state", offset: offset, found: found, remedy: remedy)
  }
}
