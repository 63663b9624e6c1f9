import IOMMUFormats
import IOMMUTranslation

/// Draws where each device's numbers lie, and where in memory they lead.
struct SpaceDrawing {
  let maps: [TableMaps]
  let crashKernel: [Range<PhysicalAddress>]
  let ram: [Range<PhysicalAddress>]
  /// The pages that tables are made of.
  let tables: [Range<PhysicalAddress>]
  /// All tables are known.
  let isComplete: Bool

  private static let width = 1060.0
  private static let left = 96.0
  private static let laneHeight = 18.0

  private var lineWidth: Double { Self.width - Self.left - 4 }

  // MARK: I/O addresses

  /// Lanes that are drawn: nobody looks at more.
  private static let laneLimit = 256

  /// A lane for each table with mappings, over one line of I/O addresses.
  func writeIOVASpace(to out: inout some TextOutputStream) {
    let all = maps.filter { !$0.runs.isEmpty && $0.sharedWith == nil }
    let drawn = Array(all.prefix(Self.laneLimit))
    var others: [String: Int] = [:]
    for map in maps { if let first = map.sharedWith { others[first, default: 0] += 1 } }
    guard !drawn.isEmpty else {
      out.write("<p class=\"note\">No table \(isComplete ? "" : "that is in this dump ")maps ")
      out.write("anything.</p>\n")
      return
    }
    let axis = AddressAxis(
      drawn.flatMap { $0.runs.map { closed($0.iova) } }, start: Self.left, width: lineWidth)
    let labels = Self.labels(of: axis.windows)
    let top = 10 + Self.labelHeight * Double((labels.map(\.row).max() ?? 0) + 1)
    let height = top + Double(drawn.count) * (Self.laneHeight + 6) + 8
    open(height, "I/O address space: a lane for each device", to: &out)
    for (window, label) in zip(axis.windows, labels) {
      rectangle(
        "lane", window.x, top, window.width, height - top - 4, title: label.title, to: &out)
      let base = 12 + Self.labelHeight * Double(label.row)
      // From a label that is not in the lowest row down to its window.
      if base + Self.labelHeight < top {
        rectangle("tick", window.x, base + 3, 1, top - base - 3, to: &out)
      }
      text("", label.x, base, label.text, to: &out)
    }
    crashNumbers(axis, top: top, height: height, to: &out)
    for (index, map) in drawn.enumerated() {
      let y = top + 4 + Double(index) * (Self.laneHeight + 6)
      let more = others[map.table.name].map { " +\($0)" } ?? ""
      text("name", 0, y + 13, map.table.name + more, to: &out)
      var lane = Lane(start: Self.left, width: lineWidth)
      for run in map.runs {
        for span in axis.spans(of: closed(run.iova)) { lane.mark(span, run.permissions.rawValue) }
      }
      for run in lane.runs {
        rectangle(Self.kind(run.state), run.x, y, run.width, Self.laneHeight, to: &out)
      }
    }
    out.write("</svg>\n")
    if all.count > drawn.count {
      out.write("<p class=\"note\">\(all.count - drawn.count) more tables are not drawn.</p>\n")
    }
    key(
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
        rectangle("crash", span.x, top, max(2, span.width), height - top - 4, to: &out)
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
    let places = ram + crashKernel + tables
    let end = max(1, places.map(\.upperBound.rawValue).max() ?? 1)
    let scale = lineWidth / Double(end)
    func span(_ range: Range<PhysicalAddress>) -> (x: Double, width: Double)? {
      let last = min(range.upperBound.rawValue, end)
      guard range.lowerBound.rawValue < last else { return nil }
      return (
        Self.left + Double(range.lowerBound.rawValue) * scale,
        Double(last - range.lowerBound.rawValue) * scale
      )
    }
    let height = 142.0
    open(height, "physical memory", to: &out)
    for range in ram.isEmpty ? [PhysicalAddress(0)..<PhysicalAddress(end)] : ram {
      guard let span = span(range) else { continue }
      rectangle("ram", span.x, 24, max(1, span.width), 92, to: &out)
    }
    text("name", 0, 50, "reached", to: &out)
    text("name", 0, 98, "tables", to: &out)
    var lane = Lane(start: Self.left, width: lineWidth)
    for map in maps where map.sharedWith == nil {
      for run in map.runs {
        if let span = span(run.physicalRange) { lane.mark(span, run.permissions.rawValue) }
      }
    }
    for run in lane.runs {
      rectangle(Self.kind(run.state), run.x, 30, run.width, 40, to: &out)
    }
    var tableLane = Lane(start: Self.left, width: lineWidth)
    for range in tables {
      if let span = span(range) { tableLane.mark(span, 1) }
    }
    for run in tableLane.runs { rectangle("tbl", run.x, 86, run.width, 18, to: &out) }
    for range in crashKernel {
      guard let span = span(range) else { continue }
      rectangle("crash", span.x, 18, max(2, span.width), 104, to: &out)
      text("", span.x, 12, "crash kernel \(range.text)", to: &out)
    }
    text("", Self.left, 134, "0", to: &out)
    let last = hexadecimal(end)
    text("", Self.width - 7 * Double(last.count) - 4, 134, last, to: &out)
    out.write("</svg>\n")
    key(
      [
        ("rw", "a device may read and write"), ("r", "read only"), ("w", "write only"),
        ("tbl", "pages of tables"), ("crash", "the crash kernel"),
      ], to: &out)
  }

  // MARK: Shapes

  private func closed<Bound: Address>(_ range: Range<Bound>) -> ClosedRange<UInt64> {
    range.lowerBound.rawValue...max(range.lowerBound.rawValue, range.upperBound.rawValue &- 1)
  }

  private static let labelHeight = 14.0
  /// The advance of one character of the labels' font.
  private static let letterWidth = 6.7

  private struct Label {
    var text: String
    /// The whole window, for whoever points at it.
    var title: String
    var x: Double
    /// From the top.
    var row: Int
  }

  /// Where each window's first address is written: whole, inside of the drawing, and beside no other.
  private static func labels(of windows: [AddressAxis.Window]) -> [Label] {
    // Where the last label of each row ends.
    var ends: [Double] = []
    return windows.map { window in
      let text = hexadecimal(window.range.lowerBound)
      let x = min(window.x, width - letterWidth * Double(text.count))
      let row = ends.firstIndex { $0 + letterWidth < x } ?? ends.count
      if row == ends.count { ends.append(0) }
      ends[row] = x + letterWidth * Double(text.count)
      return Label(
        text: text, title: "\(text) to \(hexadecimal(window.range.upperBound))", x: x, row: row)
    }
  }

  private func open(_ height: Double, _ title: String, to out: inout some TextOutputStream) {
    out.write(
      "<svg viewBox=\"0 0 \(decimal(Self.width)) \(decimal(height))\" role=\"img\" "
        + "aria-label=\"\(escaped(title))\">\n")
  }

  private func rectangle(
    _ kind: String, _ x: Double, _ y: Double, _ width: Double, _ height: Double,
    title: String? = nil, to out: inout some TextOutputStream
  ) {
    out.write(
      "<rect class=\"\(kind)\" x=\"\(decimal(x))\" y=\"\(decimal(y))\" "
        + "width=\"\(decimal(width))\" height=\"\(decimal(height))\"")
    out.write(title.map { "><title>\(escaped($0))</title></rect>\n" } ?? "/>\n")
  }

  private func text(
    _ kind: String, _ x: Double, _ y: Double, _ content: String,
    to out: inout some TextOutputStream
  ) {
    let attribute = kind.isEmpty ? "" : " class=\"\(kind)\""
    out.write(
      "<text\(attribute) x=\"\(decimal(x))\" y=\"\(decimal(y))\">\(escaped(content))</text>\n")
  }

  private func key(_ items: [(String, String)], to out: inout some TextOutputStream) {
    out.write("<div class=\"key\">")
    for (name, meaning) in items {
      let color = name == "tbl" ? "ink" : name
      out.write("<span><i style=\"background:var(--\(color))\"></i>\(escaped(meaning))</span>")
    }
    out.write("</div>\n")
  }
}
