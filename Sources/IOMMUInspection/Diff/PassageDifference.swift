import IOMMUFormats
import IOMMUTranslation

extension MapsDifference {
  /// Whose requests pass the units, before and after, where that is not the same.
  ///
  /// - Parameter rows: What is told of tables: a device that had one and passes from now on, or the
  ///   reverse, is among them, and is not told and not counted once more.
  static func passages(_ before: [Passage], _ after: [Passage], besides rows: [Row]) -> [Row] {
    let told = Set(rows.filter(\.isOfNoTable).compactMap { $0.owner?.device })
    return groups(before, after, besides: told) + requesters(before, after, besides: told)
  }

  private static func text(_ passage: Passage) -> String {
    let ranges = passage.addresses.map { IOVA($0.lowerBound)..<IOVA($0.upperBound) }
    return notTranslated
      + (passage.addresses == [0 ..< .max] ? "" : ": " + listText(ranges.map(\.text)))
  }

  private static func row(_ name: String, _ before: String?, _ after: String?) -> Row {
    let table: Row.Table =
      switch (before, after) {
      case (let before?, let after?): .replaced(before: before, after: after)
      case (let before?, nil): .gone(before)
      case (nil, let after): .new(after ?? "")
      }
    return Row(name: name, table: table, isOfPassage: true)
  }

  /// Those of all devices, of buses, and of whole units.
  private static func groups(
    _ before: [Passage], _ after: [Passage], besides told: Set<PCI.Function>
  ) -> [Row] {
    struct Entry: Equatable {
      var devices: Passage.Devices
      var text: String
    }
    func entries(_ passages: [Passage]) -> [Entry] {
      var all: [Entry] = []
      for passage in passages {
        if case .requesters = passage.devices { continue }
        let entry = Entry(devices: passage.devices, text: text(passage))
        if !all.contains(entry) { all.append(entry) }
      }
      return all
    }
    let old = entries(before)
    let new = entries(after)
    let changed = new.filter { !old.contains($0) }
    let gone = old.filter { !new.contains($0) }
    func groupRow(_ devices: Passage.Devices, _ before: String?, _ after: String?) -> Row {
      var row = Self.row("\(devices)", before, after)
      let isTold = told.contains { device in
        guard case .buses(let buses) = devices else { return true }
        return device.segment == 0 && buses.contains(device.requester.bus)
      }
      row.deviceCount = isTold ? 0 : 1
      return row
    }
    return changed.map { entry in
      groupRow(entry.devices, gone.first { $0.devices == entry.devices }?.text, entry.text)
    }
      + gone.filter { entry in !changed.contains { $0.devices == entry.devices } }
      .map { groupRow($0.devices, $0.text, nil) }
  }

  /// Those of devices by their numbers: devices next to each other of which the same is said are one row.
  private static func requesters(
    _ before: [Passage], _ after: [Passage], besides told: Set<PCI.Function>
  ) -> [Row] {
    func segments(_ passages: [Passage]) -> [UInt32] {
      passages.compactMap {
        if case .requesters(let segment, _) = $0.devices { segment } else { nil }
      }
    }
    return Set(segments(before) + segments(after)).sorted().flatMap { segment in
      var texts = PassageTexts()
      let old = texts.ofDevices(before, segment: segment, text)
      let new = texts.ofDevices(after, segment: segment, text)
      var rows: [Row] = []
      var last: (devices: ClosedRange<UInt16>, before: Int, after: Int)?
      func finish() {
        guard let (devices, before, after) = last else { return }
        var row = Self.row(
          "\(Passage.Devices.requesters(segment: segment, devices))", texts[before], texts[after])
        row.deviceCount = devices.count
        rows.append(row)
        last = nil
      }
      for number in UInt16.min...UInt16.max {
        let (before, after) = (old[Int(number)], new[Int(number)])
        let device = PCI.Function(segment: segment, Requester(rawValue: number))
        guard before != after, !told.contains(device) else {
          finish()
          continue
        }
        if let open = last, open.before == before, open.after == after {
          last = (open.devices.lowerBound...number, before, after)
        } else {
          finish()
          last = (number...number, before, after)
        }
      }
      finish()
      return rows
    }
  }
}

/// What is said of devices' passages, each text once; 0 is nothing.
private struct PassageTexts {
  private struct Step: Hashable {
    var text: Int
    var addition: String
  }
  private var texts: [String?] = [nil]
  private var steps: [Step: Int] = [:]

  subscript(number: Int) -> String? { texts[number] }

  /// The text of each device of a segment.
  mutating func ofDevices(
    _ passages: [Passage], segment: UInt32, _ words: (Passage) -> String
  ) -> [Int] {
    var devices = [Int](repeating: 0, count: 1 << 16)
    for passage in passages {
      guard case .requesters(segment, let range) = passage.devices else { continue }
      let addition = words(passage)
      for number in range {
        let step = Step(text: devices[Int(number)], addition: addition)
        let next = steps[step] ?? texts.count
        if next == texts.count {
          steps[step] = next
          texts.append(texts[step.text].map { "\($0); \(addition)" } ?? addition)
        }
        devices[Int(number)] = next
      }
    }
    return devices
  }
}
