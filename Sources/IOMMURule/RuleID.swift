/// The thirteen checks of the Kdump IO Rule.
public enum RuleID: Int, CaseIterable, Sendable, Comparable, CustomStringConvertible {
  case identity = 1
  case noOtherNumber, reservedFirst, leftoverDisjoint, noRegisterWrites, fitsMasks, lowPart
  case deviceHasTable, tablesSound, interrupts, cpuView, deviceHarmless, exposure

  public var description: String { "R\(rawValue)" }
  public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }

  /// What must hold.
  public var statement: String {
    switch self {
    case .identity: "every page of the crash kernel is mapped to itself, read and write"
    case .noOtherNumber: "no other number maps into the crash kernel"
    case .reservedFirst: "the crash kernel's numbers were reserved before anything was mapped there"
    case .leftoverDisjoint: "leftover DMA and the crash kernel have no number and no byte in common"
    case .noRegisterWrites: "the kdump kernel writes no IOMMU register"
    case .fitsMasks: "the crash kernel's addresses fit the devices' masks"
    case .lowPart: "a crash kernel above 4 GiB has a low part, and it is covered too"
    case .deviceHasTable: "every device that the kdump kernel needs has a table"
    case .tablesSound: "the tables are outside the crash kernel, in use, and undamaged"
    case .interrupts: "interrupts of devices reach the kdump kernel"
    case .cpuView: "the CPU's view of memory is undisturbed"
    case .deviceHarmless: "devices are reset, or harmless, before a driver re-programs them"
    case .exposure: "no device can write the crash kernel before the crash"
    }
  }

  /// The Rule itself breaks this one: the identity map lets any device write the crash kernel.
  public var isBrokenByDesign: Bool { self == .exposure }

  /// Without knowing this one nobody can say that the Rule holds.
  public var isEssential: Bool {
    switch self {
    case .identity, .noOtherNumber, .deviceHasTable: true
    default: false
    }
  }
}
