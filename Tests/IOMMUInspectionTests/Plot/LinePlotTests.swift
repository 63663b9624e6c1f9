import IOMMUInspection
import Testing

@Suite struct LinePlotTests {
  static func svg(_ plot: LinePlot) -> String {
    var text = ""
    plot.write(to: &text)
    return text
  }

  @Test func `points lie where the axes say`() {
    let text = Self.svg(
      LinePlot(
        title: "cost <here>", xLabel: "entries", yLabel: "percent",
        series: [.init("lru & co", [(x: 16, y: 0), (x: 64, y: 50), (x: 256, y: 100)])]))
    // Twofold is the same step everywhere: 64 is half way from 16 to 256.
    #expect(text.contains("points=\"70.0,380.0 350.0,210.0 630.0,40.0\""))
    #expect(text.contains(">cost &lt;here&gt;</text>"))
    #expect(text.contains(">lru &amp; co</text>"))
    for label in ["16", "64", "256", "20", "40", "60", "80", "100", "entries", "percent"] {
      #expect(text.contains(">\(label)</text>"), "no label \(label)")
    }
    #expect(text.hasPrefix("<svg ") && text.hasSuffix("</svg>\n"))
  }

  @Test func `a plot of nothing is axes, and one point is in the middle`() {
    #expect(Self.svg(LinePlot(title: "", xLabel: "", yLabel: "", series: [])).contains("</svg>"))
    let one = Self.svg(
      LinePlot(title: "", xLabel: "", yLabel: "", series: [.init("a", [(x: 8, y: 3)])]))
    #expect(one.contains("points=\"350.0,40.0\""))
  }

  @Test(arguments: [
    (0.5, 2, "0.50"), (3.14159, 2, "3.14"), (-1.005, 1, "-1.0"), (2.5, 0, "3"), (0, 3, "0.000"),
    (999.999, 2, "1000.00"), (.infinity, 2, "inf"),
  ])
  func `numbers have the digits that were asked for`(value: Double, digits: Int, text: String) {
    #expect(fixed(value, digits: digits) == text)
  }
}
