import IOMMUFormats

/// An entry above the page tables that no request gets past, whatever it asks for: a reserved bit, a width
/// or a type that the unit does not support.
public struct TableDamage: Sendable {
  /// Whose requests it stops, of devices in ``segment``.
  public var scope: TableGap.Scope
  public var segment: UInt32
  /// The table that the entry is in.
  public var kind: UpperTableKind
  /// The entry.
  public var entryAddress: PhysicalAddress
  /// What becomes of the requests.
  public var fault: Fault

  /// `02:01.0: every request faults 0xb, reserved bit set in the context entry; the context table entry at
  /// 0x6ab8110`.
  public var text: String {
    let number = fault.number.map { " " + hexadecimal($0) } ?? ""
    return "\(subject.subjectText): every request faults\(number), \(fault.meaning): "
      + "\(kind) entry at \(entryAddress)"
  }

  /// Whether it stops a device's requests.
  public func concerns(_ device: PCI.Function) -> Bool { subject.concerns(device) }

  private var subject: TableGap {
    var subject = TableGap(.absent, scope, in: .upper(kind), at: entryAddress)
    subject.segment = segment
    return subject
  }

  /// More of a unit than this are not told one by one: a broken dump may have a million.
  package static let limit = 1 << 10
}
