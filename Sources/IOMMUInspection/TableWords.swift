import IOMMUFormats
import IOMMUTranslation

/// Page tables that can be put into words: one conformance for each kind, beside its hardware.
protocol DescribedTable: IOTable {
  /// What people call tables of this kind: `second-stage table`.
  var noun: String { get }
  /// What it is and where it lies: `second-stage table 0x6abd000, 4 levels`.
  var heading: String { get }
  /// The same as what stands between a device and memory.
  var route: String { get }
  /// What people call an entry: `SS-PTE`, `TCE 0x26`.
  func entryName(level: Int, index: UInt64) -> String
  /// What an entry that maps a page allows: `rw`, `r- supervisor`.
  func accessText(of entry: Format.Entry, level: Int) -> String
  /// What an entry that maps nothing says.
  func emptyText(of entry: Format.Entry) -> String
  /// `guest ` where the addresses in entries are a guest's.
  var addressSpaceText: String { get }
  /// What is wrong about an address although its entry is well formed: `, in a hole …`.
  func remark(on address: UInt64) -> String
  /// The trees that requests go through, the one in host memory first: of nested tables both stages.
  var stages: [any DescribedTable] { get }
}

extension DescribedTable {
  var route: String { heading }
  func accessText(of entry: Format.Entry, level: Int) -> String {
    "\(format.permissions(of: entry, level: level))"
  }
  func emptyText(of _: Format.Entry) -> String { "not present" }
  var addressSpaceText: String { "" }
  func remark(on address: UInt64) -> String {
    address >= space.byteCount ? ", beyond the addresses in use" : ""
  }
  var stages: [any DescribedTable] { [self] }
}

extension Table {
  /// The table in words.
  var words: any DescribedTable {
    guard let words = any as? any DescribedTable else {
      preconditionFailure("every kind of tables has words")
    }
    return words
  }
}

extension DMATable {
  /// What the table is and where it lies.
  public var heading: String { table?.words.heading ?? Self.passThroughText }
  /// What kind of table it is.
  var kindText: String { table?.words.noun ?? Self.passThroughText }
  static var passThroughText: String { "pass-through" }
}

extension MappedAccess: CustomStringConvertible {
  /// `rw`, and `rw supervisor` where requests of user privilege get nothing.
  public var description: String {
    "\(permissions)" + (needsSupervisor ? " supervisor" : "")
  }
}
