extension PCI {
  /// A function among all of a machine: its segment, and the requester it is within the segment.
  ///
  /// A segment is a tree of 256 buses with configuration space of its own; most machines have one,
  /// number 0. Firmware numbers segments with 16 bits. Linux, which calls them domains, counts
  /// from 0x10000 on those that it makes up for devices behind a VMD controller. Written as `lspci`
  /// has it, `0001:00:1f.2`; without the segment where that is 0, `00:1f.2`.
  public struct Function: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The PCI segment group.
    public var segment: UInt32
    /// The device, by its requester-id.
    public var requester: Requester

    /// A function of a segment.
    public init(segment: UInt32 = 0, _ requester: Requester) {
      self.segment = segment
      self.requester = requester
    }

    public static func < (left: Self, right: Self) -> Bool {
      (left.segment, left.requester) < (right.segment, right.requester)
    }

    public var description: String { segment == 0 ? "\(requester)" : longText }

    /// `0000:00:1f.2`, with the segment whatever it is.
    public var longText: String { "\(hexadecimal(segment, digits: 4)):\(requester)" }
  }
}

extension PCI.Function: ExpressibleByStringLiteral {
  /// The function that a literal names, as ``init(_:)`` reads it: `"00:1f.2"`, `"0001:00:1f.2"`.
  ///
  /// - Precondition: The literal names one. For text from outside there is ``init(_:)``.
  public init(stringLiteral text: String) {
    do throws(NotationError) {
      try self.init(text)
    } catch {
      preconditionFailure("'\(text)' names no PCI function: \(error)")
    }
  }

  /// Reads a function in any form that logs and people have for it: `00:1f.2`, `0001:00:1f.2`, in brackets
  /// or at the end of a path; or the 16 bits of a requester as `0x00fa`.
  ///
  /// - Throws: `NotationError`, which says what was found and what would be right.
  public init(_ text: some StringProtocol) throws(NotationError) {
    self = try Notation.device(text)
  }
}
