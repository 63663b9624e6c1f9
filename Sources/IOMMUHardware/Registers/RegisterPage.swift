import IOMMUFormats

/// A register window: words with what software may do to their bits.
///
/// Made from a map of registers; knows nothing of side effects.
struct RegisterPage {
  /// A register of the window.
  struct Placed {
    var format: any HardwareRegister.Type
    /// A multiple of four.
    var place: UInt64
    /// The value after a reset, where it is not the format's.
    var reset: UInt64?
    /// Of the bits that software may write, those that this unit has.
    var writable: UInt64

    init(
      _ format: any HardwareRegister.Type, at place: UInt64, reset: UInt64? = nil,
      writable: UInt64 = ~0
    ) {
      self.format = format
      self.place = place
      self.reset = reset
      self.writable = writable
    }
  }

  /// What software may do to the bits of one word.
  private struct Masks {
    var readable: UInt32 = 0
    var writable: UInt32 = 0
    var clearable: UInt32 = 0
    var sticky: UInt32 = 0
    var reset: UInt32 = 0
  }

  /// Whole pages, at least one.
  let byteCount: UInt64
  private var words: [UInt32]
  private let masks: [Masks]

  /// - Parameters:
  ///   - registers: No two on one byte.
  ///   - byteCount: At least so many, rounded up to pages.
  init(_ registers: [Placed], byteCount least: UInt64 = 0) {
    let end = registers.map { $0.place + UInt64($0.format.byteCount) }.max() ?? 0
    byteCount = (max(end, least, 1) + 4095) & ~4095
    var masks = [Masks](repeating: Masks(), count: Int(byteCount / 4))
    for register in registers { Self.add(register, to: &masks) }
    self.masks = masks
    words = masks.map(\.reset)
  }

  private static func add(_ register: Placed, to masks: inout [Masks]) {
    let format = register.format
    let readable = format.mask { $0.access != .writeOnly && $0.access != .reserved }
    var writable = format.mask { $0.access == .readWrite || $0.access == .writeOnly }
    writable.low &= register.writable
    let clearable = format.mask { $0.access == .writeOneToClear }
    let sticky = format.mask { $0.isSticky }
    let reset = register.reset ?? format.resetValue
    for index in 0..<(format.byteCount / 4) {
      func word(_ mask: (low: UInt64, high: UInt64)) -> UInt32 {
        UInt32(truncatingIfNeeded: (index < 2 ? mask.low : mask.high) >> UInt64(32 * (index % 2)))
      }
      masks[Int(register.place / 4) + index] = Masks(
        readable: word(readable), writable: word(writable), clearable: word(clearable),
        sticky: word(sticky), reset: word((reset, 0)))
    }
  }

  /// Every register takes its value after a reset; a warm one leaves sticky bits alone.
  mutating func reset(isWarm: Bool) {
    for (index, mask) in masks.enumerated() {
      let kept = isWarm ? mask.sticky : 0
      words[index] = words[index] & kept | mask.reset & ~kept
    }
  }

  // MARK: Software's side

  /// What software reads from the word at `offset`, a multiple of 4 inside the window.
  func softwareRead(_ offset: UInt64) -> UInt32 {
    words[Int(offset / 4)] & masks[Int(offset / 4)].readable
  }

  /// Stores what software may change of the word at `offset`; returns the bits that it cleared by
  /// writing 1.
  ///
  /// - Parameter bits: Those that are written; of the others nothing changes.
  mutating func softwareWrite(
    _ value: UInt32, at offset: UInt64, bits: UInt32 = ~0
  ) -> UInt32 {
    let index = Int(offset / 4)
    let mask = masks[index]
    let writable = mask.writable & bits
    let cleared = words[index] & value & mask.clearable & bits
    words[index] = (words[index] & ~writable | value & writable) & ~cleared
    return cleared
  }

  // MARK: Hardware's side

  /// The register at `offset`, all of its bits.
  subscript<Register: HardwareRegister>(_: Register.Type, _ offset: UInt64) -> Register {
    get {
      let index = Int(offset / 4)
      func quadword(_ first: Int) -> UInt64 {
        UInt64(words[first]) | UInt64(words[first + 1]) << 32
      }
      switch Register.bitCount {
      case 32: return Register(low: UInt64(words[index]), high: 0)
      case 64: return Register(low: quadword(index), high: 0)
      default: return Register(low: quadword(index), high: quadword(index + 2))
      }
    }
    set {
      let index = Int(offset / 4)
      for word in 0..<(Register.bitCount / 32) {
        let quadword = word < 2 ? newValue.low : newValue.high
        words[index + word] = UInt32(truncatingIfNeeded: quadword >> UInt64(32 * (word % 2)))
      }
    }
  }
}
