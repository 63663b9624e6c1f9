/// The phases of a crash, as devices live through them.
public enum CrashPhase: String, Sendable, CaseIterable, Codable, Comparable {
  /// The primary kernel runs.
  case normal = "P0"
  /// From the panic until the capture kernel's IOMMU code.
  case panicked = "P1"
  /// From there until the driver of a device has it.
  case waiting = "P2"
  /// From the driver's first mapping until the reboot.
  case driven = "P3"
  /// What ``waiting`` is for a device that gets no driver: it lasts until the reboot.
  case driverless = "P4"

  public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }

  /// In a few words.
  public var meaning: String {
    switch self {
    case .normal: "the primary kernel runs"
    case .panicked: "from the panic to the capture kernel's IOMMU code"
    case .waiting: "from there to the driver of the device"
    case .driven: "from the driver's first mapping to the reboot"
    case .driverless: "no driver comes until the reboot"
    }
  }
}
