import IOMMUFormats
import IOMMUTranslation

/// Tables of some units, and the memory that they lie in: what a test compares.
///
/// The builders (`VTd.Tables` and its like) are some; of memory that somebody else has filled,
/// ``MachineInMemory`` makes one.
public protocol TranslatingTables {
  associatedtype Memory: PhysicalMemory

  /// The units, as their registers stand.
  var machine: Machine { get }

  /// The memory that the units read their tables from.
  var memory: Memory { get }
}

/// A machine whose tables somebody else has written: a driver under test, an emulator, a dump.
public struct MachineInMemory<Memory: PhysicalMemory>: TranslatingTables {
  public var machine: Machine
  public var memory: Memory

  public init(_ machine: Machine, in memory: Memory) {
    self.machine = machine
    self.memory = memory
  }
}

extension TranslatingTables {
  /// The bytes of all tables that follow from the machine's registers: ascending, half-open, disjoint.
  ///
  /// - Complexity: O(entries of all tables in force).
  public var tableRanges: [Range<PhysicalAddress>] { joined(annotator.regions.map(\.range)) }
}
