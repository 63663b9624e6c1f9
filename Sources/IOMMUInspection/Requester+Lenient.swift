import IOMMUFormats

extension Requester {
  /// Reads a device in any form that logs and people have for it.
  ///
  /// `00:1f.2`, `0000:00:1f.2`, `00:1f:2`, `00.1f.2`, `0x00:0x1f.0x2`, in brackets or at the end of
  /// a path; or the 16-bit number itself as `0x00fa`. `nil` for anything else.
  public init?(lenient text: some StringProtocol) {
    let lowercase = text.lowercased()
    let name = lowercase.split(separator: "/").last ?? ""
    var core = name[...]
    while let first = core.first, "[( ".contains(first) { core = core.dropFirst() }
    while let last = core.last, "]), ".contains(last) { core = core.dropLast() }
    let parts = core.split(
      omittingEmptySubsequences: false, whereSeparator: { $0 == ":" || $0 == "." })
    let numbers = parts.map { part -> Int? in
      let digits = part.hasPrefix("0x") ? part.dropFirst(2) : part
      return 1...4 ~= digits.count ? Int(digits, radix: 16) : nil
    }
    let values = numbers.compactMap { $0 }
    guard values.count == parts.count else { return nil }
    switch values.count {
    case 1 where core.hasPrefix("0x"):
      guard let value = UInt16(exactly: values[0]) else { return nil }
      self.init(rawValue: value)
    case 3, 4:
      // Segments other than 0 have tables of their own.
      guard values.count == 3 || values[0] == 0 else { return nil }
      let (bus, device, function) = (
        values[values.count - 3], values[values.count - 2], values.last!
      )
      guard bus < 256, device < 32, function < 8 else { return nil }
      self.init(bus: UInt8(bus), device: UInt8(device), function: UInt8(function))
    default: return nil
    }
  }
}
