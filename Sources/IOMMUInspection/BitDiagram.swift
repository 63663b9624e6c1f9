import IOMMUFormats

/// The fields of a quadword as rows of boxes with the highest bit on the left, as manuals draw them.
///
/// A box is as wide as what stands in it, and the rest of a row is shared out by bits: names stay
/// readable, and a row is full.
struct BitDiagram {
  /// Columns of a row.
  static let width = 79

  /// What stands in the box of a reserved or ignored run.
  static func label(of field: BitField) -> String {
    switch field.use {
    case .reserved: "0"
    case .ignored where "\(field.name)" == "ignored": "-"
    default: "\(field.name)"
    }
  }

  /// Draws fields that follow each other from the highest down.
  ///
  /// - Precondition: They lie in one quadword.
  static func write(_ fields: [BitField], to out: inout some TextOutputStream) {
    let boxes = fields.map(Box.init)
    for row in rows(boxes) { draw(boxes[row], to: &out) }
  }

  private struct Box {
    let name: String
    let high: String
    let low: String
    let bitCount: Int

    init(_ field: BitField) {
      name = BitDiagram.label(of: field)
      bitCount = field.bits.count
      high = "\(field.bits.upperBound)"
      low = bitCount == 1 ? "" : "\(field.bits.lowerBound)"
    }

    /// Columns between the box's sides, with a blank on either side of what stands there.
    var minimum: Int { 2 + max(name.count, high.count + (low.isEmpty ? 0 : 1 + low.count)) }
  }

  /// As few rows as there can be, as even as they can be.
  private static func rows(_ boxes: [Box]) -> [Range<Int>] {
    // For the boxes from an index on: rows, the sum of the squares of their rests, where the first ends.
    var best = [(rows: Int, unevenness: Int, end: Int)](
      repeating: (0, 0, 0), count: boxes.count + 1)
    for start in boxes.indices.reversed() {
      var columns = 1
      var found: (rows: Int, unevenness: Int, end: Int)?
      for end in start..<boxes.count {
        columns += boxes[end].minimum + 1
        if columns > width && end > start { break }
        let rest = best[end + 1]
        let unevenness = rest.unevenness + (width - columns) * (width - columns)
        let candidate = (rows: rest.rows + 1, unevenness: unevenness, end: end + 1)
        if found.map({ (candidate.rows, candidate.unevenness) < ($0.rows, $0.unevenness) }) ?? true
        {
          found = candidate
        }
      }
      best[start] = found ?? (0, 0, boxes.count)
    }
    var rows: [Range<Int>] = []
    var start = 0
    while start < boxes.count {
      rows.append(start..<best[start].end)
      start = best[start].end
    }
    return rows
  }

  private static func draw(_ boxes: ArraySlice<Box>, to out: inout some TextOutputStream) {
    let rest = max(0, width - 1 - boxes.reduce(0) { $0 + $1.minimum + 1 })
    let bitCount = boxes.reduce(0) { $0 + $1.bitCount }
    var numbers = ""
    var names = "|"
    var side = "+"
    var bitsBefore = 0
    for box in boxes {
      let columns =
        box.minimum + rest * (bitsBefore + box.bitCount) / bitCount - rest * bitsBefore / bitCount
      bitsBefore += box.bitCount
      numbers +=
        box.low.isEmpty
        ? " " + centered(box.high, columns)
        : "  " + box.high + box.low.paddedLeft(to: columns - 2 - box.high.count) + " "
      names += centered(box.name, columns) + "|"
      side += String(repeating: "-", count: columns) + "+"
    }
    for line in [numbers.withoutTrailingSpaces, side, names, side] { out.write(line + "\n") }
  }

  private static func centered(_ text: String, _ columns: Int) -> String {
    let left = (columns - text.count) / 2
    return (String(repeating: " ", count: max(0, left)) + text).padded(to: columns)
  }
}
