import ArgumentParser
import IOMMUFormats
import IOMMUKdump

/// A number of bytes as the kernel's command line writes it: `128M`, `4G`, `0x1000`.
package struct ByteSize: ExpressibleByArgument, Equatable {
  package var rawValue: UInt64
  package init(_ rawValue: UInt64) { self.rawValue = rawValue }

  package init?(argument: String) {
    guard let last = argument.utf8.last else { return nil }
    let shift: UInt64 =
      switch last | 0x20 {
      case UInt8(ascii: "k"): 10
      case UInt8(ascii: "m"): 20
      case UInt8(ascii: "g"): 30
      case UInt8(ascii: "t"): 40
      default: 0
      }
    guard let number = parseNumber(shift == 0 ? argument[...] : argument.dropLast()),
      number.leadingZeroBitCount >= shift
    else { return nil }
    rawValue = number << shift
  }

  package var defaultValueDescription: String { Self.text(rawValue) }

  /// `4 GiB`, `256 KiB`, `512 B`: the largest unit that leaves a whole number.
  package static func text(_ byteCount: UInt64) -> String {
    for (shift, unit) in [(UInt64(40), "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")]
    where byteCount != 0 && byteCount % (1 << shift) == 0 {
      return "\(byteCount >> shift) \(unit)"
    }
    return "\(byteCount) B"
  }
}

/// `SIZE[@OFFSET]`, as `crashkernel=` takes it.
package struct CrashKernelArgument: ExpressibleByArgument, Equatable {
  package var size: ByteSize
  package var offset: ByteSize?

  package init(size: ByteSize, offset: ByteSize?) {
    self.size = size
    self.offset = offset
  }

  package init?(argument: String) {
    let parts = argument.split(separator: "@", omittingEmptySubsequences: false)
    guard parts.count <= 2, let size = ByteSize(argument: String(parts[0])) else { return nil }
    self.size = size
    if parts.count == 2 {
      guard let offset = ByteSize(argument: String(parts[1])) else { return nil }
      self.offset = offset
    }
  }

  package var defaultValueDescription: String { "128M@16M" }

  /// The range on a machine with this RAM.
  func range(in ram: [Range<PhysicalAddress>]) throws(SetUpError) -> Range<PhysicalAddress> {
    guard let offset else { return try MemoryMap.place(crashKernelOf: size.rawValue, in: ram) }
    guard let range = Range(start: PhysicalAddress(offset.rawValue), byteCount: size.rawValue)
    else {
      throw .crashKernelOutsideRAM(
        PhysicalAddress(offset.rawValue)..<PhysicalAddress(.max), ram: ram)
    }
    return range
  }
}

/// A half-open range of physical addresses: `START..<END`, `START-END` (END included) or
/// `START+BYTES`.
package struct AddressRangeArgument: ExpressibleByArgument, Equatable {
  package var range: Range<PhysicalAddress>

  package init?(argument: String) {
    func number(_ text: Substring) -> UInt64? { ByteSize(argument: String(text))?.rawValue }
    for (separator, isCount, isClosed) in [
      ("..<", false, false), ("+", true, false), ("-", false, true),
    ] {
      let parts = split(argument, by: separator)
      guard parts.count == 2 else { continue }
      guard let start = number(parts[0]), let second = number(parts[1]) else { return nil }
      let end: UInt64
      if isCount {
        let (sum, overflow) = start.addingReportingOverflow(second)
        guard !overflow else { return nil }
        end = sum
      } else {
        guard !isClosed || second < .max else { return nil }
        end = isClosed ? second + 1 : second
      }
      guard start <= end else { return nil }
      range = PhysicalAddress(start)..<PhysicalAddress(end)
      return
    }
    return nil
  }
}

/// The two parts of `text` around the first `separator`; the whole of it when there is none.
private func split(_ text: String, by separator: String) -> [Substring] {
  var index = text.startIndex
  while index < text.endIndex {
    if text[index...].hasPrefix(separator) {
      return [text[..<index], text[text.index(index, offsetBy: separator.count)...]]
    }
    index = text.index(after: index)
  }
  return [text[...]]
}

/// `1,048,576`.
func grouped(_ number: some BinaryInteger) -> String {
  var digits = Array(String(number))
  var index = digits.count - 3
  while index > 0 {
    digits.insert(",", at: index)
    index -= 3
  }
  return String(digits)
}
