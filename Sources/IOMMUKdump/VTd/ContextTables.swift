import IOMMUFormats
import IOMMUTranslation

/// What a kernel says of one device in the tables above the page tables.
struct DeviceAttachment: Equatable {
  /// The second-stage tables; `nil` where requests pass untranslated.
  var root: PhysicalAddress?
  /// Levels of the tables, or the width that passing requests are held to.
  var levels: Int
  var domainID: UInt16
  /// The device may have a TLB of its own (PCIe ATS).
  var allowsDeviceTLB = false
}

/// Root and context tables, as a kernel writes them; in scalable mode with a PASID directory and a PASID
/// table for each device.
///
/// Specification: Intel VT-d 3.4, 9.1 to 9.6.
struct ContextTables {
  let rootTable: PhysicalAddress
  let mode: VTd.TranslationTableMode
  private let pages: PagePool
  /// Context tables by the first device and function that each is for.
  private var tables: [Requester: PhysicalAddress] = [:]

  /// An empty root table.
  init(pages: PagePool, mode: VTd.TranslationTableMode = .legacy) throws(SetUpError) {
    self.pages = pages
    self.mode = mode
    rootTable = try pages.allocateTable(4096, what: "the VT-d root table")
  }

  /// The tables that another kernel has left, to go on in.
  init(pages: PagePool, adopting unit: VTd.Unit) {
    self.pages = pages
    mode = unit.rootTableAddress.mode
    rootTable = unit.rootTableAddress.rootTable
    for requester in unit.requesters(in: pages.memory) {
      tables[first(of: requester)] = unit.contextTable(of: requester, in: pages.memory)
    }
  }

  private var isScalable: Bool { mode == .scalable }

  /// The first device and function of the context table that is for a device.
  private func first(of requester: Requester) -> Requester {
    Requester(rawValue: requester.rawValue & (isScalable ? 0xff80 : 0xff00))
  }

  /// Where a device's context entry lies in a context table.
  private func place(of requester: Requester, in table: PhysicalAddress) -> PhysicalAddress {
    isScalable
      ? VTd.Unit.scalableContextEntryAddress(in: table, deviceFunction: requester.deviceFunction)
      : VTd.Unit.contextEntryAddress(in: table, deviceFunction: requester.deviceFunction)
  }

  /// Puts a context table in force.
  ///
  /// - Parameter requester: Any device that it is for.
  mutating func install(_ table: PhysicalAddress, for requester: Requester) {
    let first = first(of: requester)
    tables[first] = table
    let place = PhysicalAddress(rootTable.rawValue + UInt64(requester.bus) * 16)
    if isScalable {
      let other = tables[Requester(rawValue: first.rawValue ^ 0x80)]
      let isLower = first.deviceFunction == 0
      VTd.ScalableRootEntry(
        lowerContextTable: isLower ? table : other, upperContextTable: isLower ? other : table
      ).store(to: pages.memory, at: place)
    } else {
      VTd.RootEntry(contextTable: table).store(to: pages.memory, at: place)
    }
  }

  /// Where a device's context entry lies; made, with its table, when there is none yet.
  private mutating func place(of requester: Requester) throws(SetUpError) -> PhysicalAddress {
    if tables[first(of: requester)] == nil {
      install(try pages.allocateTable(4096, what: "a VT-d context table"), for: requester)
    }
    return place(of: requester, in: tables[first(of: requester)]!)
  }

  /// What the tables say of a device; `nil` where they let nothing of it pass.
  func attachment(of requester: Requester) -> DeviceAttachment? {
    guard let table = tables[first(of: requester)] else { return nil }
    let place = place(of: requester, in: table)
    guard isScalable else {
      guard let entry = VTd.ContextEntry(from: pages.memory, at: place), entry.isPresent else {
        return nil
      }
      let passes = entry.translationType == .passThrough
      return DeviceAttachment(
        root: passes ? nil : entry.secondStageTable, levels: entry.levels,
        domainID: entry.domainID,
        allowsDeviceTLB: entry.translationType == .secondStageWithDeviceTLB)
    }
    guard let place = pasidEntryPlace(of: requester),
      let entry = VTd.PASIDTableEntry(from: pages.memory, at: place), entry.isPresent
    else { return nil }
    let passes = entry.translationType == .passThrough
    return DeviceAttachment(
      root: passes ? nil : entry.secondStageTable, levels: entry.secondStageLevels,
      domainID: entry.domainID)
  }

  /// Where the PASID entry lies that requests without PASID are translated by.
  private func pasidEntryPlace(of requester: Requester) -> PhysicalAddress? {
    guard let table = tables[first(of: requester)],
      let context = VTd.ScalableContextEntry(
        from: pages.memory, at: place(of: requester, in: table)), context.isPresent,
      let directory = VTd.PASIDDirectoryEntry(from: pages.memory, at: context.pasidDirectory),
      directory.isPresent
    else { return nil }
    return directory.pasidTable
  }

  /// Lets a device's requests pass as `attachment` says; in scalable mode in place of the PASID entry
  /// that it has, or with a directory of its own.
  mutating func attach(
    _ requester: Requester, _ attachment: DeviceAttachment
  ) throws(SetUpError) {
    let place = try place(of: requester)
    guard isScalable else {
      let entry =
        attachment.root.map {
          VTd.ContextEntry(
            secondStageTable: $0, levels: attachment.levels, domainID: attachment.domainID,
            allowsDeviceTLB: attachment.allowsDeviceTLB)
        } ?? VTd.ContextEntry(passingLevels: attachment.levels, domainID: attachment.domainID)
      entry.store(to: pages.memory, at: place)
      return
    }
    var entry = VTd.PASIDTableEntry(
      type: attachment.root == nil ? .passThrough : .secondStage, domainID: attachment.domainID)
    if let root = attachment.root {
      entry.secondStageTable = root
      entry.secondStageLevels = attachment.levels
    }
    let directory = try pages.allocateTable(4096, what: "a PASID directory")
    let table = try pages.allocateTable(4096, what: "a PASID table")
    entry.store(to: pages.memory, at: table)
    VTd.PASIDDirectoryEntry(pasidTable: table).store(to: pages.memory, at: directory)
    VTd.ScalableContextEntry(
      pasidDirectory: directory, allowsDeviceTLB: attachment.allowsDeviceTLB
    ).store(to: pages.memory, at: place)
  }

  /// Takes a device's context entry away.
  mutating func detach(_ requester: Requester) {
    guard let table = tables[first(of: requester)] else { return }
    let place = place(of: requester, in: table)
    if isScalable {
      VTd.ScalableContextEntry().store(to: pages.memory, at: place)
    } else {
      VTd.ContextEntry().store(to: pages.memory, at: place)
    }
  }
}
