import IOMMUFormats
import IOMMUHardware
import IOMMUImages
import IOMMUTranslation

extension CalgaryReplay {
  /// What the truth says of one PHB's I/O pages.
  struct PageTable {
    /// Pages that are in force or once were.
    var pages: [UInt64: PageState] = [:]
    /// Bytes from the table as the chip finds it to the table as the driver does.
    var driverOffset: UInt64 = 0

    /// The chip's cache of this table has been dropped.
    mutating func forgetStale() {
      for (page, state) in pages where !state.stale.isEmpty { pages[page]!.stale = [] }
    }
  }

  struct PageState {
    /// The entry in force; 0 after it was taken back.
    var entry = Calgary.TranslationControlEntry(rawValue: 0)
    /// Entries since the last flush, which a cache may still hold.
    var stale: [Calgary.TranslationControlEntry] = []
    /// The driver stored it where the chip does not look for it.
    var isMisplaced = false

    mutating func replace(with entry: Calgary.TranslationControlEntry, hasCache: Bool) {
      // An empty entry is not kept by a cache that keeps only valid ones.
      if hasCache, !self.entry.permissions.isEmpty { stale.append(self.entry) }
      self.entry = entry
    }
  }

  // MARK: Mappings come and go

  /// The table that the truth gives a mapping; `nil` when no table translates its device.
  private func key(of mapping: TraceMapping) -> TableKey? {
    truth.tables.first { $0.bus == mapping.tableBus && $0.isTranslated }
      .map { TableKey(chip: $0.chip, phb: $0.phb) }
  }

  func begin(_ mapping: TraceMapping) {
    report.totals.mappings += 1
    guard let key = key(of: mapping) else {
      untranslated[mapping.identifier] = mapping
      checkUntranslated(mapping)
      return
    }
    compareBus(of: mapping, key)
    let offset = mapping.iova.offsetInPage
    let count = PageCount(coveringBytes: mapping.byteCount, atOffset: offset)
    guard count?.rawValue == mapping.pageCount else {
      return differ("mapping \(mapping.identifier) does not have \(mapping.pageCount) pages")
    }
    guard offset == mapping.physical.offsetInPage else {
      return differ("mapping \(mapping.identifier): two offsets in one page")
    }
    let permissions: Permissions = mapping.direction == .toDevice ? .read : .readWrite
    for index in 0..<mapping.pageCount {
      // A truth file may say anything; an entry has room for 48 bits.
      let address = mapping.physical.alignedDown(to: 4096).rawValue &+ index &* 4096
      let target = PhysicalAddress(address & (1 << 48 - 1))
      change(
        key, mapping.iova.pageNumber + index,
        to: Calgary.TranslationControlEntry(page: target, permissions: permissions))
    }
  }

  func end(_ mapping: TraceMapping) {
    guard let key = key(of: mapping) else {
      untranslated[mapping.identifier] = nil
      return
    }
    for index in 0..<mapping.pageCount {
      change(key, mapping.iova.pageNumber + index, to: .init(rawValue: 0))
    }
  }

  private func change(
    _ key: TableKey, _ page: UInt64, to entry: Calgary.TranslationControlEntry
  ) {
    let isMisplaced = (tables[key]?.driverOffset ?? 0) != 0
    tables[key, default: PageTable()].pages[page, default: PageState()]
      .replace(with: entry, hasCache: options.cache != nil)
    tables[key]!.pages[page]!.isMisplaced = isMisplaced
    touched.insert(TouchedPage(table: key, page: page))
  }

  /// The chip has to find the same PHB above the device as the truth does.
  private func compareBus(of mapping: TraceMapping, _ key: TableKey) {
    let found = units.enumerated().reversed().lazy
      .compactMap { chip, unit in
        unit?.bridge(above: mapping.device.bus).map { TableKey(chip: chip, phb: $0) }
      }.first
    guard found == key else {
      return differ("mapping \(mapping.identifier): \(mapping.device) is below another PHB")
    }
    let buses = units[key.chip]?.chip.hostBridges[key.phb]?.buses
    if buses?.lowerBound != mapping.tableBus {
      differ("mapping \(mapping.identifier): the PHB's first bus is not \(mapping.tableBus ?? 0)")
    }
  }

  private func checkUntranslated(_ mapping: TraceMapping) {
    report.totals.pages += 1
    guard mapping.iova.rawValue == mapping.physical.rawValue else {
      return differ("mapping \(mapping.identifier): no table, and the IOVA is no physical address")
    }
    for unit in units {
      guard let unit, let phb = unit.bridge(above: mapping.device.bus) else { continue }
      let answer = unit.answer(below: phb, to: mapping.iova, access: .write, in: memory)
      if answer != .mapped(mapping.physical, byteCount: 1) {
        differ("\(mapping.device) \(mapping.iova): \(Self.text(answer)), not untranslated")
      }
    }
  }

  // MARK: Checks

  /// Looks at the pages that may have changed.
  func checkTouched() {
    for touched in touched { check(touched.table, touched.page) }
    touched.removeAll(keepingCapacity: true)
  }

  /// Looks at all pages.
  func sweep() {
    checkTouched()
    for (key, table) in tables {
      for page in table.pages.keys { check(key, page) }
    }
    for mapping in untranslated.values { checkUntranslated(mapping) }
  }

  private func check(_ key: TableKey, _ page: UInt64) {
    guard key.chip < units.count, let unit = units[key.chip] else {
      return differ("a mapping of chip \(key.chip), which no register access has named")
    }
    let hardware = Calgary.TableAddressRegister(rawValue: unit.value(of: .tableAddress, key.phb))
    let place = hardware.table.rawValue &+ 8 &* page
    let known = tables[key]?.pages[page]
    // What lies behind a table that another kernel takes for longer may be another PHB's table.
    if known == nil, isInAnotherTable(place, key) { return }
    var state = known ?? PageState()
    if state.isMisplaced {
      // The driver's entry lies beside the chip's: the one has to be there, the other is what the
      // bytes around it happen to say.
      let stored = memory.bigEndianQuadword(
        at: PhysicalAddress(place &+ (tables[key]?.driverOffset ?? 0)))
      if stored != state.entry.rawValue {
        differ("page \(hexadecimal(page)): the driver's entry is not where the driver looks")
      }
      state.entry = .init(rawValue: memory.bigEndianQuadword(at: PhysicalAddress(place)) ?? 0)
      keep(state.entry, key, page)
    }
    let configuration = Calgary.ConfigurationRegister(
      rawValue: UInt32(unit.value(of: .configuration, key.phb)))
    if configuration.areSlotsDisabled {
      return checkBlocked(unit, key, page, state, place)
    }
    for access in Access.allCases {
      let answer = unit.answer(
        below: key.phb, to: IOVA(page << 12), access: access, in: memory)
      if state.entry.permissions.isEmpty {
        report.totals.freedPages += 1
      } else {
        report.totals.pages += 1
      }
      if Self.agrees(answer, with: state.entry, access) { continue }
      if state.stale.contains(where: { Self.agrees(answer, with: $0, access) }) {
        report.totals.staleHits += 1
        continue
      }
      differ(
        "PHB \(key.phb) page \(hexadecimal(page)), \(access): \(Self.text(answer)), not "
          + "\(state.entry.page) \(state.entry.permissions)")
    }
  }

  /// What the chip finds in place of the driver's entry goes into its cache as any entry does.
  private func keep(
    _ entry: Calgary.TranslationControlEntry, _ key: TableKey, _ page: UInt64
  ) {
    guard options.cache != nil, !entry.permissions.isEmpty,
      tables[key]?.pages[page]?.stale.contains(entry) == false
    else { return }
    tables[key]!.pages[page]!.stale.append(entry)
  }

  /// Whether an entry's place belongs to the table of another PHB too.
  private func isInAnotherTable(_ place: UInt64, _ key: TableKey) -> Bool {
    for (chip, unit) in units.enumerated() {
      guard let unit else { continue }
      for phb in 0..<Calgary.hostBridgeCount where TableKey(chip: chip, phb: phb) != key {
        let address = Calgary.TableAddressRegister(rawValue: unit.value(of: .tableAddress, phb))
        if place &- address.table.rawValue < address.tableSize.byteCount { return true }
      }
    }
    return false
  }

  /// After the watchdog has shut the slots nothing gets through; what the table says still holds.
  private func checkBlocked(
    _ unit: CalgaryUnit, _ key: TableKey, _ page: UInt64, _ state: PageState, _ place: UInt64
  ) {
    report.totals.pages += 1
    let answer = unit.answer(below: key.phb, to: IOVA(page << 12), access: .read, in: memory)
    if answer != .fault(.calgary(.slotsDisabled)) {
      differ(
        "PHB \(key.phb) page \(hexadecimal(page)): \(Self.text(answer)) through slots that are shut"
      )
    }
    if memory.bigEndianQuadword(at: PhysicalAddress(place)) != state.entry.rawValue {
      differ("PHB \(key.phb) page \(hexadecimal(page)): the entry is not the truth's")
    }
  }

  private static func text(_ answer: Translation) -> String {
    switch answer {
    case .mapped(let address, _): "\(address)"
    case .fault(let fault): "fault, \(fault.meaning)"
    case .interruptMessage: "an interrupt"
    }
  }

  /// Whether a chip's answer is what an entry says.
  private static func agrees(
    _ answer: Translation, with entry: Calgary.TranslationControlEntry, _ access: Access
  ) -> Bool {
    switch answer {
    case .mapped(let address, _):
      entry.permissions.contains(access.permission) && address == entry.page
    case .fault: !entry.permissions.contains(access.permission)
    case .interruptMessage: false
    }
  }
}
