import IOMMUFormats
import IOMMUKdump

/// `nic:mask=32:reset=never`: a device of the lab's machine, and what about it is other than hardware of
/// its kind has it.
package struct DeviceArgument: Equatable {
  /// What can be said of a device.
  private enum Property: String, CaseIterable {
    /// Address lines.
    case mask
    case reset
    /// The capture kernel has one for it.
    case driver
    /// A TLB of its own.
    case ats
    /// Memory that firmware has it use (RMRR, IVMD).
    case firmware

    var example: String {
      switch self {
      case .mask: "mask=32"
      case .reset: "reset=never"
      case .driver: "driver=no"
      case .ats: "ats=yes"
      case .firmware: "firmware=yes"
      }
    }
  }

  /// When it comes to rest, as the command line says it.
  private enum Reset: String, CaseIterable {
    case byDriver = "by-driver"
    case afterMapping = "after-mapping"
    case never

    var behaviour: ResetBehaviour {
      switch self {
      case .byDriver: .byDriver
      case .afterMapping: .afterMapping
      case .never: .never
      }
    }
  }

  private enum Answer: String, CaseIterable { case yes, no }

  package var profile: DeviceProfile
  private var dmaMask: UInt64?
  private var reset: ResetBehaviour?
  private var hasDriver: Bool?
  package private(set) var hasATS: Bool?
  private var hasFirmwareMemory: Bool?

  package init(_ text: Substring) throws(NotationError) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    profile = try choice(String(parts[0]), of: "device", among: DeviceProfile.allCases)
    var said: Set<Property> = []
    for part in parts.dropFirst() {
      let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let property: Property = try choice(
        String(pair[0]), of: "property of a device", among: Property.allCases)
      guard pair.count == 2 else {
        throw NotationError(
          "'\(property.rawValue)' of a device has a value, such as \(property.example)")
      }
      guard said.insert(property).inserted else {
        throw NotationError(
          "'\(String(text).visible)': \(property.rawValue) is said twice of one device, which has one; "
            + "leave one of them out")
      }
      try set(property, String(pair[1]))
    }
  }

  private mutating func set(_ property: Property, _ value: String) throws(NotationError) {
    func isYes() throws(NotationError) -> Bool {
      let answer: Answer = try choice(
        value, of: "answer to \(property.rawValue)", among: Answer.allCases)
      return answer == .yes
    }
    switch property {
    case .mask:
      guard let lines = Notation.decimal(utf8: value.utf8), 24...64 ~= lines else {
        throw NotationError("mask=\(value.visible): a device has 24 to 64 address lines")
      }
      dmaMask = lines == 64 ? .max : 1 << lines - 1
    case .reset:
      let reset: Reset = try choice(value, of: "reset", among: Reset.allCases)
      self.reset = reset.behaviour
    case .driver: hasDriver = try isYes()
    case .ats: hasATS = try isYes()
    case .firmware: hasFirmwareMemory = try isYes()
    }
  }

  /// Makes of a device of the profile the one that is meant.
  ///
  /// - Parameters:
  ///   - device: As hardware of its kind is.
  ///   - number: Its number in the machine.
  func apply(to device: inout CrashDevice, number: Int) {
    if let dmaMask { device.device.dmaMask = dmaMask }
    if let reset { device.reset = reset }
    if let hasDriver {
      device.hasDriver = hasDriver
      device.device.isNeededByKdump = hasDriver
    }
    if let hasATS {
      device.sources.removeAll { $0 == .translatedRequests }
      if hasATS { device.sources.append(.translatedRequests) }
    }
    switch hasFirmwareMemory {
    case true?:
      device.firmwareMemory = DeviceProfile.firmwareMemory(number: number)
      // Somebody has to use it.
      if !device.sources.contains(where: { $0 == .mailbox || $0 == .statusPage }) {
        device.sources.append(.mailbox)
      }
    case false?: device.firmwareMemory = nil
    case nil: break
    }
  }
}
