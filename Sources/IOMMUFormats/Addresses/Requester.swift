/// The identity a DMA request carries: bus, device and function, 16 bits.
///
/// Bits 15:8 bus, 7:3 device, 2:0 function. Written as the kernel and `lspci` write it, `00:1f.2`.
@frozen
public struct Requester: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
  public var rawValue: UInt16
  @inlinable public init(rawValue: UInt16) { self.rawValue = rawValue }

  /// - Precondition: `device` is below 32 and `function` below 8.
  public init(bus: UInt8, device: UInt8, function: UInt8) {
    precondition(device < 32 && function < 8, "a PCI device is 0 to 31 and a function 0 to 7")
    rawValue = UInt16(bus) << 8 | UInt16(device) << 3 | UInt16(function)
  }

  /// Bits 15:8.
  @inlinable public var bus: UInt8 { UInt8(truncatingIfNeeded: rawValue >> 8) }
  /// Bits 7:3; 0 to 31.
  @inlinable public var device: UInt8 { UInt8(truncatingIfNeeded: rawValue >> 3) & 31 }
  /// Bits 2:0; 0 to 7.
  @inlinable public var function: UInt8 { UInt8(truncatingIfNeeded: rawValue) & 7 }

  /// Device and function in one byte, the index into a bus's context table.
  @inlinable public var deviceFunction: UInt8 { UInt8(truncatingIfNeeded: rawValue) }

  /// Reads `bus:device.function` in hexadecimal, with or without a leading `0000:` segment.
  ///
  /// `nil` for anything else: another segment, missing digits, a device above 1f, a function
  /// above 7.
  public init?(_ text: some StringProtocol) { self.init(utf8: text.utf8) }

  /// The same from bytes; a million requests come through here.
  @inlinable
  public init?(utf8 text: some Collection<UInt8>) {
    var digits = (segment: 0, bus: 0, device: 0, function: 0)
    var counts = (bus: 0, device: 0, function: 0)
    var state = 0
    for byte in text {
      switch (byte, state) {
      case (UInt8(ascii: ":"), 0):
        state = 1
      case (UInt8(ascii: ":"), 1):
        guard counts.bus == 4 else { return nil }
        digits.segment = digits.bus
        (digits.bus, counts.bus) = (digits.device, counts.device)
        (digits.device, counts.device) = (0, 0)
        state = 2
      case (UInt8(ascii: "."), 1), (UInt8(ascii: "."), 2):
        state = 3
      default:
        guard let value = hexadecimalDigit(byte) else { return nil }
        switch state {
        case 0: (digits.bus, counts.bus) = (digits.bus << 4 | value, counts.bus + 1)
        case 1, 2: (digits.device, counts.device) = (digits.device << 4 | value, counts.device + 1)
        default: (digits.function, counts.function) = (value, counts.function + 1)
        }
        guard counts.bus <= 4, counts.device <= 2, counts.function <= 1 else { return nil }
      }
    }
    guard state == 3, digits.segment == 0, 1...2 ~= counts.bus, 1...2 ~= counts.device,
      counts.function == 1, digits.device < 32, digits.function < 8
    else { return nil }
    rawValue = UInt16(digits.bus << 8 | digits.device << 3 | digits.function)
  }

  @inlinable
  public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }

  public var description: String {
    "\(hexadecimal(bus, digits: 2)):\(hexadecimal(device, digits: 2)).\(function)"
  }
}
