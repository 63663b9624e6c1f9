import IOMMUFormats
import IOMMUTranslation

/// Draws where each device's numbers lie, and where in memory they lead.
///
/// Takes the tables one by one, and keeps of them what is drawn.
struct SpaceDrawing: Sendable {
  /// A table that has a lane.
  private struct Drawn {
    var name: String
    var runs: [MappingRun]
  }

  private let crashKernel: [Range<PhysicalAddress>]
  private let ram: [Range<PhysicalAddress>]
  /// The pages that tables are made of.
  private let tables: [Range<PhysicalAddress>]
  private var drawn: [Drawn] = []
  private var undrawnCount = 0
  /// How many more have the table of the device of this name.
  private var others: [String: Int] = [:]
  private var runsLeft = 1 << 21
  /// Memory that is reached, up to the end of all that is drawn.
  private var reached = Lane(start: Self.left, width: Self.lineWidth)
  private let end: UInt64

  private static let width = 1060.0
  private static let left = 96.0
  private static let laneHeight = 18.0

  private static let lineWidth = width - left - 4

  init(
    crashKernel: [Range<PhysicalAddress>], ram: [Range<PhysicalAddress>],
    tables: [Range<PhysicalAddress>]
  ) {
    self.crashKernel = crashKernel
    self.ram = ram
    self.tables = tables
    let places = ram + crashKernel + tables
    end = max(1, places.map(\.upperBound.rawValue).max() ?? 1)
  }

  /// Takes a table, in the order of the lanes.
  mutating func add(_ maps: TableMaps) {
    if let first = maps.sharedWith {
      others[first, default: 0] += 1
      return
    }
    guard !maps.runs.isEmpty else { return }
    for run in maps.runs {
      if let span = span(run.physicalRange) { reached.mark(span, run.permissions.rawValue) }
    }
    guard drawn.count < Self.laneLimit, maps.runs.count <= runsLeft else {
      undrawnCount += 1
      return
    }
    runsLeft -= maps.runs.count
    drawn.append(Drawn(name: maps.table.name, runs: maps.runs))
  }

  // MARK: I/O addresses

  /// Lanes that are drawn: nobody looks at more.
  private static let laneLimit = 256

  /// A lane for each table with mappings, over one line of I/O addresses.
  ///
  /// - Parameter isComplete: All tables are known.
  func writeIOVASpace(isComplete: Bool, to out: inout some TextOutputStream) {
    guard !drawn.isEmpty || undrawnCount > 0 else {
      out.write("<p class=\"note\">No table \(isComplete ? "" : "that is in this dump ")maps ")
      out.write("anything.</p>\n")
      return
    }
    let axis = AddressAxis(
      drawn.flatMap { $0.runs.map { closed($0.iova) } }, start: Self.left, width: Self.lineWidth)
    let labels = Drawing.labels(of: axis.windows, width: Self.width)
    let top = Drawing.top(below: labels)
    let height = top + Double(drawn.count) * (Self.laneHeight + 6) + 8
    Drawing.open(
      width: Self.width, height: height, title: "I/O address space: a lane for each device",
      to: &out)
    Drawing.windows(axis, labels, top: top, bottom: height - 4, to: &out)
    crashNumbers(axis, top: top, height: height, to: &out)
    for (index, map) in drawn.enumerated() {
      let y = top + 4 + Double(index) * (Self.laneHeight + 6)
      let more = others[map.name].map { " +\($0)" } ?? ""
      Drawing.text("name", 0, y + 13, map.name + more, to: &out)
      var lane = Lane(start: Self.left, width: Self.lineWidth)
      for run in map.runs {
        for span in axis.spans(of: closed(run.iova)) { lane.mark(span, run.permissions.rawValue) }
      }
      for run in lane.runs {
        Drawing.rectangle(Self.kind(run.state), run.x, y, run.width, Self.laneHeight, to: &out)
      }
    }
    out.write("</svg>\n")
    if undrawnCount > 0 {
      out.write("<p class=\"note\">\(undrawnCount) more tables are not drawn.</p>\n")
    }
    Drawing.key(
      [
        ("rw", "read and write"), ("r", "read only"), ("w", "write only"),
        ("mix", "several of these, too close to tell apart"),
        ("crash", "numbers of the crash kernel"),
      ], to: &out)
  }

  /// The crash kernel's numbers, where the line has them.
  private func crashNumbers(
    _ axis: AddressAxis, top: Double, height: Double, to out: inout some TextOutputStream
  ) {
    for range in crashKernel where !range.isEmpty {
      for span in axis.spans(of: closed(range)) {
        Drawing.rectangle("crash", span.x, top, max(2, span.width), height - top - 4, to: &out)
      }
    }
  }

  private static func kind(_ state: UInt8) -> String {
    switch Permissions(rawValue: state & Permissions.readWrite.rawValue) {
    case .readWrite: "rw"
    case .read: "ro"
    case .write: "wo"
    default: "mix"
    }
  }

  // MARK: Physical memory

  /// Memory from 0 to its end: what devices reach, the tables, the crash kernel.
  func writeMemory(to out: inout some TextOutputStream) {
    let height = 142.0
    Drawing.open(width: Self.width, height: height, title: "physical memory", to: &out)
    for range in ram.isEmpty ? [PhysicalAddress(0)..<PhysicalAddress(end)] : ram {
      guard let span = span(range) else { continue }
      Drawing.rectangle("ram", span.x, 24, max(1, span.width), 92, to: &out)
    }
    Drawing.text("name", 0, 50, "reached", to: &out)
    Drawing.text("name", 0, 98, "tables", to: &out)
    for run in reached.runs {
      Drawing.rectangle(Self.kind(run.state), run.x, 30, run.width, 40, to: &out)
    }
    var tableLane = Lane(start: Self.left, width: Self.lineWidth)
    for range in tables {
      if let span = span(range) { tableLane.mark(span, 1) }
    }
    for run in tableLane.runs { Drawing.rectangle("tbl", run.x, 86, run.width, 18, to: &out) }
    for range in crashKernel {
      guard let span = span(range) else { continue }
      Drawing.rectangle("crash", span.x, 18, max(2, span.width), 104, to: &out)
      Drawing.text("", span.x, 12, "crash kernel \(range.text)", to: &out)
    }
    Drawing.text("", Self.left, 134, "0", to: &out)
    let last = hexadecimal(end)
    Drawing.text("", Self.width - 7 * Double(last.count) - 4, 134, last, to: &out)
    out.write("</svg>\n")
    Drawing.key(
      [
        ("rw", "a device may read and write"), ("r", "read only"), ("w", "write only"),
        ("tbl", "pages of tables"), ("crash", "the crash kernel"),
      ], to: &out)
  }

  // MARK: Shapes

  /// The part of the line of memory that a range takes.
  private func span(_ range: Range<PhysicalAddress>) -> (x: Double, width: Double)? {
    let last = min(range.upperBound.rawValue, end)
    guard range.lowerBound.rawValue < last else { return nil }
    let scale = Self.lineWidth / Double(end)
    return (
      Self.left + Double(range.lowerBound.rawValue) * scale,
      Double(last - range.lowerBound.rawValue) * scale
    )
  }

  private func closed<Bound: Address>(_ range: Range<Bound>) -> ClosedRange<UInt64> {
    range.lowerBound.rawValue...max(range.lowerBound.rawValue, range.upperBound.rawValue &- 1)
  }
}
