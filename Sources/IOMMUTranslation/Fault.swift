import IOMMUFormats

/// Why modelled hardware blocks a request. A value, not an error: hardware faults are answers.
///
/// A number of a scheme: each kind of hardware has its own, with the words for it in one table.
@frozen
public struct Fault: Hashable, Sendable {
  /// Which table ``code`` is a number of: an index of ``FaultSchemes/all``.
  public let scheme: UInt8
  /// The number of the fault in its scheme.
  public let code: UInt8
  /// Hardware keeps something that tells software of the fault.
  public let isRecorded: Bool

  @inlinable
  public init(scheme: UInt8, code: UInt8, isRecorded: Bool) {
    self.scheme = scheme
    self.code = code
    self.isRecorded = isRecorded
  }

  /// What the scheme says of the fault.
  public var words: FaultWords { FaultSchemes.all[Int(scheme)].words(for: code) }

  /// The number the manual gives the fault; `nil` where the hardware has none.
  public var number: UInt8? { words.number }
  /// In a few words, for people.
  public var meaning: String { words.meaning }
  /// No memory answered where a table should be, or that is one of the fault's causes: whoever looks
  /// at a dump does not know what a machine would have done.
  public var isUnanswered: Bool { words.isUnanswered }
}

extension Fault {
  /// What becomes of a request to the interrupt address range, of a device that this fault blocks.
  @usableFromInline
  func interruptAnswer(_ operation: VTd.Request.Operation, at address: UInt64) -> Translation? {
    FaultSchemes.all[Int(scheme)].interruptAnswer(operation, at: address, insteadOf: code)
  }
}

extension Fault: CustomStringConvertible {
  public var description: String {
    (number.map { "fault \(hexadecimal($0)): " } ?? "fault: ") + meaning
  }
}

/// What is said of a fault.
public struct FaultWords: Sendable {
  /// The number the manual gives it; `nil` where the hardware has none.
  public var number: UInt8?
  public var meaning: String
  /// No memory answered where a table should be, or that is one of its causes.
  public var isUnanswered: Bool

  public init(number: UInt8? = nil, _ meaning: String, isUnanswered: Bool = false) {
    self.number = number
    self.meaning = meaning
    self.isUnanswered = isUnanswered
  }
}

/// The faults of one kind of hardware.
public protocol FaultScheme: Sendable {
  /// What is said of a number of the scheme; any number has words.
  static func words(for code: UInt8) -> FaultWords
  /// What becomes of a request to the interrupt address range whose device's other requests all end
  /// at this fault; `nil` where it does as well.
  static func interruptAnswer(
    _ operation: VTd.Request.Operation, at address: UInt64, insteadOf code: UInt8
  ) -> Translation?
}

extension FaultScheme {
  public static func interruptAnswer(
    _: VTd.Request.Operation, at _: UInt64, insteadOf _: UInt8
  ) -> Translation? { nil }
}

/// The schemes there are.
public enum FaultSchemes {
  public static let all: [any FaultScheme.Type] = [
    PlatformFaults.self, VTd.Faults.self, GART.Faults.self, Calgary.Faults.self, AMDVi.Faults.self,
  ]
  @inlinable static var platform: UInt8 { 0 }
  @inlinable static var vtd: UInt8 { 1 }
  @inlinable static var gart: UInt8 { 2 }
  @inlinable static var calgary: UInt8 { 3 }
  @inlinable static var amdvi: UInt8 { 4 }
}

/// What no IOMMU has a say in.
public enum PlatformFaults: FaultScheme {
  public static func words(for code: UInt8) -> FaultWords {
    switch code {
    case 0: FaultWords("the device has no address lines for this address")
    case 2: FaultWords("the table has no entry for this address")
    case 3: FaultWords("all requests of the device are stopped")
    case 4: FaultWords("no request with a translated address may come from the device")
    default:
      FaultWords("the registers of the unit above the device are not known", isUnanswered: true)
    }
  }
}

extension Fault {
  /// The device has not enough address lines for this address.
  @inlinable public static var beyondDeviceMask: Fault {
    Fault(scheme: FaultSchemes.platform, code: 0, isRecorded: false)
  }

  /// A table of which no unit is modelled has no entry for the address.
  package static func noTableEntry(isRecorded: Bool) -> Fault {
    Fault(scheme: FaultSchemes.platform, code: 2, isRecorded: isRecorded)
  }
  /// The unit takes no requests with translated addresses from the device, and has logged one.
  package static var translatedRequestRefused: Fault {
    Fault(scheme: FaultSchemes.platform, code: 4, isRecorded: true)
  }
  /// Hardware of which no unit is modelled stops all requests of the device, and records none.
  package static var stopped: Fault {
    Fault(scheme: FaultSchemes.platform, code: 3, isRecorded: false)
  }
}
