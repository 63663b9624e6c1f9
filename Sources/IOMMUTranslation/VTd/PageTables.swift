import IOMMUFormats

/// Page tables of a remapping unit in force for some requests: of one stage, or of both.
public protocol PageTables {
  /// What requests through the tables are judged by.
  var rules: VTd.Rules { get }

  /// The page of `address`, or why there is none; permissions are not judged.
  ///
  /// - Parameters:
  ///   - address: Any byte of the page, as requests name it.
  ///   - operation: Which fault a second stage of legacy mode gives, and what the first of two
  ///     stages is judged for before the second is asked; `nil` judges nothing.
  ///   - writes: D is set in the leaf of a page that may be written.
  ///   - memory: Memory that holds the tables.
  ///   - marker: Sets accessed and dirty bits, where the tables want them.
  ///   - observer: Shown every entry read.
  ///   - start: From the uppermost table, the table in which the walk of `address` begins: what a
  ///     paging-structure cache knows. Not called for an address that the tables do not translate.
  func page(
    of address: UInt64, for operation: VTd.Request.Operation?, writes: Bool,
    in memory: some PhysicalMemory, marker: some EntryMarker, observer: inout some WalkObserver,
    from start: (WalkStart) -> WalkStart
  ) -> PageOutcome
}

extension PageTables {
  /// The same with a walk from the uppermost table.
  @inlinable
  public func page(
    of address: UInt64, for operation: VTd.Request.Operation?, writes: Bool,
    in memory: some PhysicalMemory, marker: some EntryMarker, observer: inout some WalkObserver
  ) -> PageOutcome {
    page(
      of: address, for: operation, writes: writes, in: memory, marker: marker, observer: &observer,
      from: { $0 })
  }

  /// Translates an untranslated request, up to the end of its page.
  @inlinable
  func translate(
    _ address: UInt64, byteCount: UInt64, for operation: VTd.Request.Operation,
    in memory: some PhysicalMemory, marker: some EntryMarker, observer: inout some WalkObserver
  ) -> Translation {
    // 1. The interrupt range is never remapped as memory, unless a PASID says that it is memory.
    if VTd.isInterruptAddress(address), !rules.hasPASID {
      return DeviceHandle.interruptAnswer(operation, at: address)
    }
    // 10, 11. The width and the walk.
    switch page(
      of: address, for: operation, writes: operation.needs.contains(.write), in: memory,
      marker: marker, observer: &observer)
    {
    case .fault(let reason): return rules.fault(reason)
    // 12. Permissions, and the interrupt range behind the page.
    case .page(let page):
      return page.translation(of: address, byteCount: byteCount, for: operation, under: rules)
    }
  }
}

extension Table {
  /// The page of `address` in tables of a remapping unit, as ``PageTables/page(of:for:writes:in:marker:observer:from:)``
  /// says.
  ///
  /// - Precondition: The tables are a remapping unit's.
  @inlinable
  public func page(
    of address: UInt64, for operation: VTd.Request.Operation?, writes: Bool,
    in memory: some PhysicalMemory, marker: some EntryMarker, observer: inout some WalkObserver,
    from start: (WalkStart) -> WalkStart
  ) -> PageOutcome {
    switch self {
    case .secondStage(let table):
      table.page(
        of: address, for: operation, writes: writes, in: memory, marker: marker,
        observer: &observer, from: start)
    case .firstStage(let table):
      table.page(
        of: address, for: operation, writes: writes, in: memory, marker: marker,
        observer: &observer, from: start)
    case .nested(let tables):
      tables.page(
        of: address, for: operation, writes: writes, in: memory, marker: marker,
        observer: &observer, from: start)
    default: preconditionFailure("a remapping unit has no tables of other hardware")
    }
  }
}
