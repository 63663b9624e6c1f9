import IOMMUFormats

extension AMDVi {
  /// More entries of interrupt tables are not looked at, and said to be left out: a device has 2,048 at
  /// most and few of its own, but entries of a broken device table may name any place.
  package static let interruptEntryLimit = 1 << 24
  /// More entries that are present are left out, and said to be: so many a table of VT-d has.
  package static let interruptMappingLimit = 1 << 16
}

// Every device has an interrupt table of its own, or shares one. Specification: AMD IOMMU 2.2.5.

extension AMDVi.Unit {
  package var unknownInterruptTable: String? {
    translates && control == nil
      ? "whether entries have 32 bits or 128 (GAEn) is in the control register, which is not known"
      : nil
  }

  /// Entries may name a guest's virtual APIC.
  package var mayPostInterrupts: Bool {
    guard translates else { return false }
    return control.map { AMDVi.InterruptRemapping($0, features).reachesGuests } ?? true
  }

  package func interruptMappings(in memory: some PhysicalMemory) -> InterruptTables {
    var all = InterruptTables()
    guard translates, let control else { return all }
    let remapping = AMDVi.InterruptRemapping(control, features)
    let segment = UInt32(segment ?? 0)
    var places: [Place: Int] = [:]
    var tables: [(first: AMDVi.InterruptRemapping.EntryPlace, place: Place)] = []
    var devices: [[ClosedRange<UInt16>]] = []
    forEachCountedDevice(
      in: memory,
      { device in
        let entry = device.entry
        guard scope?.answer(for: device.requester) != .outside,
          case .entry(let first) = remapping.locate(
            AMDVi.InterruptRequest(index: 0), from: device.requester, entry: entry)
        else { return }
        // Modes of delivery leave 512 indices where they are no part of them.
        let count = min(1 << entry.interruptTableLengthCode, remapping.usesLargeTables ? 2048 : 512)
        let place = Place(start: first.address, entryCount: count)
        let number = device.requester.rawValue
        guard let index = places[place] else {
          places[place] = tables.count
          tables.append((first, place))
          devices.append([number...number])
          return
        }
        if let last = devices[index].last, UInt32(last.upperBound) + 1 == UInt32(number) {
          devices[index][devices[index].count - 1] = last.lowerBound...number
        } else {
          devices[index].append(number...number)
        }
      },
      missing: { devices, source in
        let place =
          switch entryPlace(of: source) {
          case .at(let address): address
          case .beyond, .unknown: deviceTable.address
          }
        var gap = TableGap(
          .absent, devices == 0...0xffff ? .unit : .requesters(devices),
          in: .upper(AMDVi.deviceTableKind), at: place)
        gap.segment = segment
        all.gaps.append(gap)
      })
    var entriesLeft = AMDVi.interruptEntryLimit
    var mappingsLeft = AMDVi.interruptMappingLimit
    for (table, users) in zip(tables, devices) {
      guard entriesLeft > 0, mappingsLeft > 0 else {
        var gap = TableGap(
          .tooMany, .requesters(users[0].lowerBound...0xffff),
          in: .upper(AMDVi.interruptTableKind), at: table.place.start)
        gap.segment = segment
        all.gaps.append(gap)
        break
      }
      entriesLeft -= table.place.entryCount
      var mappings = remapping.mappings(
        from: table.first, count: table.place.entryCount, of: users, segment: segment,
        limit: mappingsLeft, in: memory)
      mappings.devices = users
      mappingsLeft -= mappings.mappings.count
      all.tables.append(mappings)
    }
    return all
  }

  /// Tables of one place and one length are one.
  private struct Place: Hashable {
    var start: PhysicalAddress
    var entryCount: Int
  }
}

extension AMDVi.InterruptRemapping {
  /// Every entry of a table that is in force.
  fileprivate func mappings(
    from first: EntryPlace, count: Int, of devices: [ClosedRange<UInt16>], segment: UInt32,
    limit: Int, in memory: some PhysicalMemory
  ) -> InterruptMappings {
    var all = InterruptMappings(table: first.address, entryCount: count)
    var missing: ClosedRange<UInt32>?
    func address(_ index: UInt32) -> PhysicalAddress {
      PhysicalAddress(first.address.rawValue + UInt64(index) * (usesWideEntries ? 16 : 4))
    }
    func addGap(_ cause: TableGap.Cause, _ range: ClosedRange<UInt32>) {
      var gap = TableGap(
        cause, .interrupts(range), in: .upper(AMDVi.interruptTableKind),
        at: address(range.lowerBound))
      gap.segment = segment
      all.gaps.append(gap)
    }
    for index in 0..<UInt32(count) {
      guard all.mappings.count < limit else {
        addGap(.tooMany, index...UInt32(count) - 1)
        break
      }
      var place = first
      place.index = Int(index)
      place.address = address(index)
      guard let entry = entry(at: place, in: memory) else {
        missing = (missing?.lowerBound ?? index)...index
        continue
      }
      if let gap = missing { addGap(.absent, gap) }
      missing = nil
      guard entry.remaps else { continue }
      all.mappings.append(
        InterruptMapping(
          index: index, entryAddress: place.address, source: .requesters(devices, segment: segment),
          decision: InterruptMapping.Outcome(decide(entry, from: place))))
    }
    if let gap = missing { addGap(.absent, gap) }
    return all
  }
}

extension AMDVi.InterruptRemapping.Entry {
  /// RemapEn.
  fileprivate var remaps: Bool {
    switch self {
    case .narrow(let entry): entry.remaps
    case .wide(let entry): entry.remaps
    }
  }
}

extension InterruptMapping.Outcome {
  fileprivate init(_ decision: AMDVi.InterruptRemapping.Decision) {
    self =
      switch decision {
      case .passed: .passed
      case .delivered(let delivery): .delivered(delivery)
      case .guest(let interrupt): .guest(interrupt)
      case .blocked(let fault): .stopped(fault)
      }
  }
}
