/// Lines over a logarithmic axis, as an SVG file that a browser shows.
package struct LinePlot {
  package struct Series {
    package var name: String
    package var points: [(x: Double, y: Double)]
    /// Drawn dashed: something to compare with.
    package var isReference: Bool

    package init(_ name: String, _ points: [(x: Double, y: Double)], isReference: Bool = false) {
      self.name = name
      self.points = points
      self.isReference = isReference
    }
  }

  package var title: String
  package var xLabel: String
  package var yLabel: String
  package var series: [Series]
  /// Text of a value on the x axis.
  package var xText: (Double) -> String

  package init(
    title: String, xLabel: String, yLabel: String, series: [Series],
    xText: @escaping (Double) -> String = { fixed($0, digits: 0) }
  ) {
    self.title = title
    self.xLabel = xLabel
    self.yLabel = yLabel
    self.series = series
    self.xText = xText
  }

  private static let colors = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000",
  ]
  private static let (left, top, width, height) = (70.0, 40.0, 560.0, 340.0)

  /// Writes the file. Nothing but axes without points.
  package func write(to out: inout some TextOutputStream) {
    let points = series.flatMap(\.points)
    let xs = points.map(\.x).filter { $0 > 0 }
    let (low, high) = (xs.min() ?? 1, xs.max() ?? 2)
    let ticks = Self.ticks(upTo: points.map(\.y).max() ?? 1)
    let ceiling = ticks[ticks.count - 1]
    func x(_ value: Double) -> String {
      let whole = Self.log2(high / low)
      let part = whole > 0 ? Self.log2(max(value, low) / low) / whole : 0.5
      return fixed(Self.left + part * Self.width, digits: 1)
    }
    func y(_ value: Double) -> String {
      fixed(Self.top + Self.height * (1 - value / ceiling), digits: 1)
    }
    let bottom = fixed(Self.top + Self.height, digits: 1)
    let right = fixed(Self.left + Self.width, digits: 1)
    out.write(
      """
      <svg xmlns="http://www.w3.org/2000/svg" width="880" height="440" viewBox="0 0 880 440" \
      font-family="sans-serif" font-size="13">
      <rect width="880" height="440" fill="white"/>
      <text x="350" y="24" text-anchor="middle" font-size="16">\(escaped(title))</text>

      """)
    for tick in ticks {
      out.write(
        """
        <line x1="\(fixed(Self.left, digits: 1))" y1="\(y(tick))" x2="\(right)" y2="\(y(tick))" \
        stroke="#dddddd"/>
        <text x="62" y="\(y(tick))" dy="4" text-anchor="end">\(Self.number(tick))</text>

        """)
    }
    for value in Set(xs).sorted() {
      out.write(
        """
        <line x1="\(x(value))" y1="\(bottom)" x2="\(x(value))" y2="\(fixed(Self.top + Self.height + 5, digits: 1))" \
        stroke="black"/>
        <text x="\(x(value))" y="398" text-anchor="middle">\(escaped(xText(value)))</text>

        """)
    }
    out.write(
      """
      <rect x="70" y="40" width="560" height="340" fill="none" stroke="black"/>
      <text x="350" y="424" text-anchor="middle">\(escaped(xLabel))</text>
      <text x="18" y="210" text-anchor="middle" transform="rotate(-90 18 210)">\
      \(escaped(yLabel))</text>

      """)
    for (index, line) in series.enumerated() {
      let color = Self.colors[index % Self.colors.count]
      let dash = line.isReference ? " stroke-dasharray=\"6 4\"" : ""
      let path = line.points.map { "\(x($0.x)),\(y($0.y))" }.joined(separator: " ")
      let place = 56 + 20 * index
      out.write(
        """
        <polyline points="\(path)" fill="none" stroke="\(color)" stroke-width="2"\(dash)/>
        <line x1="644" y1="\(place)" x2="672" y2="\(place)" stroke="\(color)" stroke-width="2"\(dash)/>
        <text x="678" y="\(place + 4)">\(escaped(line.name))</text>

        """)
      for point in line.points {
        out.write("<circle cx=\"\(x(point.x))\" cy=\"\(y(point.y))\" r=\"3\" fill=\"\(color)\"/>\n")
      }
    }
    out.write("</svg>\n")
  }

  /// Round numbers from 0 to at least `most`, four to eleven of them.
  static func ticks(upTo most: Double) -> [Double] {
    guard most > 0, most.isFinite else { return [0, 1] }
    var step = 1.0
    while step * 10 > most { step /= 10 }
    while step * 10 <= most { step *= 10 }
    for part in [0.1, 0.2, 0.5, 1] where most / (step * part) <= 10 {
      step *= part
      break
    }
    let count = Int((most / step).rounded(.up))
    return (0...max(1, count)).map { Double($0) * step }
  }

  private static func number(_ value: Double) -> String {
    value >= 10 || value.rounded() == value ? fixed(value, digits: 0) : fixed(value, digits: 2)
  }

  static func log2(_ value: Double) -> Double {
    // Enough for an axis, and no library: the exponent, and the rest by halves.
    var rest = value
    var result = 0.0
    while rest >= 2 {
      rest /= 2
      result += 1
    }
    while rest < 1 {
      rest *= 2
      result -= 1
    }
    var part = 0.5
    for _ in 0..<20 {
      rest *= rest
      if rest >= 2 {
        rest /= 2
        result += part
      }
      part /= 2
    }
    return result
  }
}

/// A number with so many digits behind the point, rounded: `3.14`.
public func fixed(_ value: Double, digits: Int) -> String {
  guard value.isFinite, abs(value) < 1e15 else { return "\(value)" }
  let scale = (0..<digits).reduce(1.0) { product, _ in product * 10 }
  let scaled = Int64((abs(value) * scale).rounded())
  let sign = value < 0 && scaled > 0 ? "-" : ""
  guard digits > 0 else { return sign + String(scaled) }
  let fraction = String(scaled % Int64(scale))
  return sign + String(scaled / Int64(scale)) + "."
    + String(repeating: "0", count: digits - fraction.count) + fraction
}
