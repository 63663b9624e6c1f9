import IOMMUFormats
import IOMMUHardware
import IOMMUImages
import IOMMUTranslation

/// What has to hold when a trace has been played to its end.
extension CalgaryReplay {
  func compareCounts() {
    let live = UInt64(truth.mappings.count { $0.isLive })
    let all = UInt64(truth.mappings.count)
    if truth.counts != TraceTruth.Counts(mappings: all, live: live, freed: all - live) {
      report.differ(truth.path, "its counts are not those of its mappings")
    }
    for mapping in truth.mappings where mapping.isLive != (mapping.endSequence == nil) {
      report.differ(truth.path, "mapping \(mapping.identifier) is live and ends, or neither")
    }
  }

  /// The registers that the driver touched hold what the trace's own register file holds.
  func compare(_ file: RegisterStates) {
    for state in file.states where state.wasAccessed {
      report.totals.finalStates += 1
      let place = "\(file.path): chip \(state.chip) \(state.name)"
      guard state.chip < units.count, let unit = units[state.chip], unit.base == state.base else {
        report.differ(place, "the chip does not appear in the trace")
        continue
      }
      guard let register = Calgary.Register(containing: state.offset),
        register.offset == state.offset, register.byteCount == state.byteCount
      else {
        report.differ(place, "no register that is known")
        continue
      }
      let value = unit.value(of: register)
      if value != state.value || value != state.busValue {
        report.differ(
          place, "holds \(hexadecimal(value)) here, \(hexadecimal(state.value)) there")
      }
    }
  }

  /// The tables are where and what the truth says.
  func compareTables() {
    for table in truth.tables {
      report.totals.finalStates += 1
      let place = "\(truth.path): bus \(table.bus)"
      guard table.chip < units.count, let unit = units[table.chip],
        table.phb < Calgary.hostBridgeCount
      else {
        report.differ(place, "the chip does not appear in the trace")
        continue
      }
      if unit.chip.hostBridges[table.phb]?.buses.lowerBound != table.bus {
        report.differ(place, "is not the first bus of PHB \(table.phb)")
      }
      guard table.isTranslated else { continue }
      let address = Calgary.TableAddressRegister(
        rawValue: unit.value(of: .tableAddress, table.phb))
      let configuration = unit.value(of: .configuration, table.phb)
      if address.rawValue != table.tableAddress || configuration != table.configuration
        || address.table != table.hardwareTable
        || UInt64(address.tableSize.rawValue) != table.sizeCode ?? .max
      {
        report.differ(place, "its TAR or CONFIG_RW is another here")
      }
      if table.entryCount * 8 != table.byteCount ?? .max {
        report.differ(place, "its entries and bytes do not agree")
      }
      compareEntryCount(table, place)
    }
  }

  private func compareEntryCount(_ table: TraceTable, _ place: String) {
    // A longer table of a second kernel goes on into memory that the trace does not tell of.
    let start = table.driverTable.rawValue
    guard table.entryCount <= 1 << 20,
      zeroedRanges.contains(where: {
        $0.contains(start) && start + table.entryCount * 8 <= $0.upperBound
      })
    else { return }
    var count: UInt64 = 0
    for index in 0..<table.entryCount
    where memory.quadword(at: PhysicalAddress(start + 8 * index)) ?? 0 != 0 {
      count += 1
    }
    if count != table.nonzeroEntryCount {
      report.differ(place, "\(count) entries are not zero, not \(table.nonzeroEntryCount ?? 0)")
    }
  }

  /// What the driver stored is what the memory image beside the trace holds.
  func compareMemory(with image: MemoryImage) {
    for page in storedPages.sorted() {
      let address = PhysicalAddress(page << 12)
      guard let theirs = image.bytes(at: address, count: 4096) else { continue }
      report.totals.finalStates += 1
      if memory.bytes(at: address, count: 4096) != theirs {
        report.differ(image.path, "the page at \(address) is another here")
      }
    }
  }
}
