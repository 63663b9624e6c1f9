import IOMMUFormats

/// The register window of a unit: words with what software may do to their bits.
///
/// Made from ``VTd/registerMap`` and the capability registers; knows nothing of side effects.
/// Accesses of 4 bytes at multiples of 4 and of 8 bytes at multiples of 8 are those of the manual;
/// any other reads as zero and writes nothing (*assumed*: the manual leaves it undefined).
struct RegisterPage {
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

  init(_ configuration: RemappingUnitConfiguration) {
    var end: UInt64 = 0
    for register in VTd.registerMap where configuration.has(register.requirement) {
      for place in configuration.places(of: register) {
        end = max(end, place + UInt64(register.format.byteCount))
      }
    }
    byteCount = (end + 4095) & ~4095
    var masks = [Masks](repeating: Masks(), count: Int(byteCount / 4))
    for register in VTd.registerMap where configuration.has(register.requirement) {
      for place in configuration.places(of: register) {
        Self.add(register.format, at: place, to: &masks)
      }
    }
    // Three registers say what the unit is.
    masks[Int(VTd.RegisterOffset.version / 4)].reset = configuration.version.rawValue
    for (offset, value) in [
      (VTd.RegisterOffset.capability, configuration.capability.rawValue),
      (VTd.RegisterOffset.extendedCapability, configuration.extendedCapability.rawValue),
    ] {
      masks[Int(offset / 4)].reset = UInt32(truncatingIfNeeded: value)
      masks[Int(offset / 4) + 1].reset = UInt32(value >> 32)
    }
    self.masks = masks
    words = masks.map(\.reset)
  }

  private static func add(
    _ format: any VTdRegister.Type, at place: UInt64, to masks: inout [Masks]
  ) {
    let readable = format.mask { $0.access != .writeOnly && $0.access != .reserved }
    let writable = format.mask { $0.access == .readWrite || $0.access == .writeOnly }
    let clearable = format.mask { $0.access == .writeOneToClear }
    let sticky = format.mask { $0.isSticky }
    for index in 0..<(format.byteCount / 4) {
      func word(_ mask: (low: UInt64, high: UInt64)) -> UInt32 {
        UInt32(truncatingIfNeeded: (index < 2 ? mask.low : mask.high) >> UInt64(32 * (index % 2)))
      }
      masks[Int(place / 4) + index] = Masks(
        readable: word(readable), writable: word(writable), clearable: word(clearable),
        sticky: word(sticky), reset: word((format.resetValue, 0)))
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

  /// Whether an access is one that the manual defines, inside the window.
  func allows(_ offset: UInt64, byteCount width: Int) -> Bool {
    (width == 4 || width == 8) && offset % UInt64(width) == 0 && offset < byteCount
  }

  /// What software reads from the word at `offset`, a multiple of 4 inside the window.
  func softwareRead(_ offset: UInt64) -> UInt32 {
    words[Int(offset / 4)] & masks[Int(offset / 4)].readable
  }

  /// Stores what software may change of the word at `offset`; returns the bits that it cleared by
  /// writing 1.
  mutating func softwareWrite(_ value: UInt32, at offset: UInt64) -> UInt32 {
    let index = Int(offset / 4)
    let mask = masks[index]
    let cleared = words[index] & value & mask.clearable
    words[index] = (words[index] & ~mask.writable | value & mask.writable) & ~cleared
    return cleared
  }

  // MARK: Hardware's side

  /// The register at `offset`, all of its bits.
  subscript<Register: VTdRegister>(_: Register.Type, _ offset: UInt64) -> Register {
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
