import IOMMUFormats
import IOMMUImages

/// The log of Linux 5.10 and later: descriptors, what is known of each message, and a ring of texts.
///
/// Source: Linux `kernel/printk/printk_ringbuffer.c`; VMCOREINFO has every offset.
struct PrintkRing {
  private let memory: KernelMemory
  /// Messages that there is room for, a power of two, and bytes of text.
  private let countLog2: UInt64
  private let byteCountLog2: UInt64
  private let descriptors: UInt64
  private let infos: UInt64
  private let text: UInt64
  private let tail: UInt64
  private let head: UInt64
  private let layout: Layout

  /// The lower 62 bits of a descriptor's state are the number of its message.
  private static let idMask: UInt64 = 1 << 62 - 1
  /// States of a descriptor whose message is there: committed and finalized.
  private static let whole: Set<UInt64> = [1, 2]

  /// Messages that cannot be read, after which no other is tried.
  private static let failureLimit = 1 << 14

  /// Offsets in bytes, all of them below 2^22: VMCOREINFO may have any number, and a negative one as well.
  private struct Layout {
    var descriptorSize: UInt64
    var state: UInt64
    var begin: UInt64
    var next: UInt64
    var infoSize: UInt64
    var sequence: UInt64
    var nanoseconds: UInt64
    var textLength: UInt64
    var caller: UInt64?
    var subsystem: (offset: UInt64, length: UInt64)?
    var device: (offset: UInt64, length: UInt64)?
    /// The facility and the level behind it lie between the length of the text and the caller.
    var facility: UInt64 { textLength &+ 2 }

    init(_ info: VMCoreInfo) throws(KernelReadError) {
      func offset(_ member: String) throws(KernelReadError) -> UInt64 {
        guard let value = Self.bounded(member, info) else { throw .noKey("OFFSET(\(member))") }
        return value
      }
      func size(_ structure: String) throws(KernelReadError) -> UInt64 {
        guard let value = info.size(structure), 8..<1 << 20 ~= value else {
          throw .noKey("SIZE(\(structure))")
        }
        return value
      }
      descriptorSize = try size("prb_desc")
      state = try offset("prb_desc.state_var") &+ (Self.bounded("atomic_long_t.counter", info) ?? 0)
      let block = try offset("prb_desc.text_blk_lpos")
      begin = block &+ (try offset("prb_data_blk_lpos.begin"))
      next = block &+ (try offset("prb_data_blk_lpos.next"))
      infoSize = try size("printk_info")
      sequence = try offset("printk_info.seq")
      nanoseconds = try offset("printk_info.ts_nsec")
      textLength = try offset("printk_info.text_len")
      caller = Self.bounded("printk_info.caller_id", info)
      if let about = Self.bounded("printk_info.dev_info", info) {
        subsystem = Self.name("subsystem", behind: about, info)
        device = Self.name("device", behind: about, info)
      }
      let last = max(sequence, nanoseconds, textLength) &+ 8
      guard last <= infoSize, max(state, begin, next) &+ 8 <= descriptorSize else {
        throw .damaged("VMCOREINFO puts members of printk's structures behind their ends")
      }
    }

    private static func bounded(_ member: String, _ info: VMCoreInfo) -> UInt64? {
      info.offset(member).flatMap { $0 < 1 << 20 ? $0 : nil }
    }

    private static func name(
      _ member: String, behind about: UInt64, _ info: VMCoreInfo
    ) -> (UInt64, UInt64)? {
      guard let offset = bounded("dev_printk_info.\(member)", info),
        let length = info.length("printk_info_\(member)")
      else { return nil }
      return (about &+ offset, min(length, 256))
    }
  }

  init(_ info: VMCoreInfo, in memory: KernelMemory) throws(KernelReadError) {
    func offset(_ member: String) throws(KernelReadError) -> UInt64 {
      guard let value = info.offset(member) else { throw .noKey("OFFSET(\(member))") }
      return value
    }
    guard let pointer = info.symbol("prb") else { throw .noKey("SYMBOL(prb)") }
    self.memory = memory
    layout = try Layout(info)
    let ring = try memory.quadword(at: pointer)
    guard ring != 0 else { throw .damaged("the kernel has no log yet: prb is null") }
    let descs = ring &+ (try offset("printk_ringbuffer.desc_ring"))
    let data = ring &+ (try offset("printk_ringbuffer.text_data_ring"))
    let counter = info.offset("atomic_long_t.counter") ?? 0
    countLog2 = UInt64(
      try memory.doubleword(at: descs &+ (try offset("prb_desc_ring.count_bits"))))
    byteCountLog2 = UInt64(
      try memory.doubleword(at: data &+ (try offset("prb_data_ring.size_bits"))))
    guard 1...24 ~= countLog2, 6...31 ~= byteCountLog2 else {
      throw .damaged("a log of 2^\(countLog2) messages and 2^\(byteCountLog2) bytes")
    }
    descriptors = try memory.quadword(at: descs &+ (try offset("prb_desc_ring.descs")))
    infos = try memory.quadword(at: descs &+ (try offset("prb_desc_ring.infos")))
    head =
      try memory.quadword(at: descs &+ (try offset("prb_desc_ring.head_id")) &+ counter)
      & Self.idMask
    tail =
      try memory.quadword(at: descs &+ (try offset("prb_desc_ring.tail_id")) &+ counter)
      & Self.idMask
    text = try memory.quadword(at: data &+ (try offset("prb_data_ring.data")))
  }

  /// The messages from the oldest on.
  func log() -> PrintkLog {
    var log = PrintkLog(kind: .ring)
    let slotCount = UInt64(1) << countLog2
    var count = (head &- tail) & Self.idMask
    if count >= slotCount {
      log.problems.append(
        "the log says that it has \(count &+ 1) messages, and has room for \(slotCount): its newest are read"
      )
      count = slotCount - 1
    }
    var id = (head &- count) & Self.idMask
    var failureCount = 0
    var room = PrintkLog.letterLimit(memory)
    var lost = 0
    for _ in 0...count {
      do throws(KernelReadError) {
        switch try record(id) {
        case .none: break
        case .lost: lost += 1
        case .record(let record):
          // A message without text takes room as well.
          let size = UInt64(record.text.utf8.count) + 16
          guard size <= room else {
            log.problems.append(PrintkLog.tooMany)
            return log
          }
          room -= size
          log.records.append(record)
        }
      } catch {
        failureCount += 1
        if failureCount <= PrintkLog.problemLimit {
          log.problems.append("a message cannot be read: \(error)")
        }
        if failureCount == Self.failureLimit { break }
      }
      id = (id &+ 1) & Self.idMask
    }
    if failureCount > PrintkLog.problemLimit {
      log.problems.append(
        "\(failureCount - PrintkLog.problemLimit) more messages cannot be read"
          + (failureCount == Self.failureLimit ? ", and what is behind them was not tried" : ""))
    }
    log.lostCount = lost
    return log
  }

  private enum Answer { case none, lost, record(PrintkRecord) }

  private func record(_ id: UInt64) throws(KernelReadError) -> Answer {
    let slot = id & (1 << countLog2 &- 1)
    let descriptor = try memory.bytes(
      at: descriptors &+ slot &* layout.descriptorSize, count: Int(layout.descriptorSize))
    let state = descriptor.span.integer(UInt64.self, at: Int(layout.state))
    guard state & Self.idMask == id, Self.whole.contains(state >> 62) else { return .none }
    let info = try memory.bytes(
      at: infos &+ slot &* layout.infoSize, count: Int(layout.infoSize))
    let length = Int(info.span.integer(UInt16.self, at: Int(layout.textLength)))
    let text = try letters(
      id, from: descriptor.span.integer(UInt64.self, at: Int(layout.begin)),
      to: descriptor.span.integer(UInt64.self, at: Int(layout.next)), length: length)
    guard let text else { return .lost }
    let flags = info[Int(layout.facility) + 1]
    func name(_ place: (offset: UInt64, length: UInt64)?) -> String? {
      guard let place, place.offset &+ place.length <= UInt64(info.count) else { return nil }
      let letters = info[Int(place.offset)..<Int(place.offset + place.length)].prefix { $0 != 0 }
      return letters.isEmpty ? nil : String(decoding: letters, as: UTF8.self)
    }
    let caller = layout.caller.flatMap { offset in
      offset &+ 4 <= UInt64(info.count) ? info.span.integer(UInt32.self, at: Int(offset)) : nil
    }
    return .record(
      PrintkRecord(
        sequence: info.span.integer(UInt64.self, at: Int(layout.sequence)),
        nanoseconds: info.span.integer(UInt64.self, at: Int(layout.nanoseconds)),
        facility: info[Int(layout.facility)], level: flags >> 5, text: text,
        caller: caller == 0 ? nil : caller, subsystem: name(layout.subsystem),
        device: name(layout.device)))
  }

  /// The text of a block between two positions, which count on through all laps of the ring; `nil` when
  /// something else is there now.
  private func letters(
    _ id: UInt64, from begin: UInt64, to next: UInt64, length: Int
  ) throws(KernelReadError) -> String? {
    // Odd positions are no places: messages without text, and such that have lost it.
    guard begin & 1 == 0 else { return begin == 1 && length > 0 ? nil : "" }
    let size = UInt64(1) << byteCountLog2
    let offset = begin & (size - 1)
    // A block that does not fit behind the last one begins at 0 again; one that ends just at the end
    // stands where it begins in kernels that fill the ring to its last byte.
    let places: [(offset: UInt64, count: UInt64)]
    if begin >> byteCountLog2 == next >> byteCountLog2 {
      places = [(offset, next &- begin)]
    } else if next & (size - 1) == 0 {
      places = [(offset, size - offset)]
    } else {
      places = [(0, next & (size - 1))]
    }
    for place in places where 8...(size - place.offset) ~= place.count {
      guard try memory.quadword(at: text &+ place.offset) & Self.idMask == id else { continue }
      let count = min(length, Int(place.count - 8))
      let letters = try memory.bytes(at: text &+ place.offset &+ 8, count: count)
      return String(decoding: letters, as: UTF8.self)
    }
    return nil
  }
}
