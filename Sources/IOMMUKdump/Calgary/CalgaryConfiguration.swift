import IOMMUFormats
import IOMMUHardware

/// The chip of a modelled machine and the size of its tables.
public struct CalgaryConfiguration: Sendable {
  /// `nil` for the size that Linux chose from the end of RAM.
  public var tableSize: Calgary.TableSize?
  /// What the chip does where nobody knows, its cache among it; the window that firmware leaves is
  /// the machine's PCI hole.
  public var options = CalgaryOptions()

  public init(tableSize: Calgary.TableSize? = nil) { self.tableSize = tableSize }
}
