import IOMMUFormats

/// Text made safe for HTML and SVG: no markup, nothing that disguises anything.
package func escaped(_ text: String) -> String {
  var result = ""
  // Scalars: a character may be a bracket with an accent, which is a bracket to a browser.
  for scalar in text.visible(besides: { $0 == "\n" }).unicodeScalars {
    switch scalar {
    case "&": result += "&amp;"
    case "<": result += "&lt;"
    case ">": result += "&gt;"
    case "\"": result += "&quot;"
    default: result.unicodeScalars.append(scalar)
    }
  }
  return result
}

/// A number with one decimal, as drawings have them.
package func decimal(_ value: Double) -> String {
  let tenths = Int((value * 10).rounded())
  return tenths % 10 == 0
    ? "\(tenths / 10)" : "\(tenths < 0 ? "-" : "")\(abs(tenths) / 10).\(abs(tenths) % 10)"
}

/// Writes a page that needs nothing else: no network, no script.
///
/// - Parameters:
///   - title: The page's name, as plain text.
///   - style: CSS behind what all pages have.
///   - body: Writes what is on the page.
package func writePage<Output: TextOutputStream>(
  title: String, style: String = "", to out: inout Output, body: (inout Output) -> Void
) {
  out.write("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n")
  out.write("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n")
  out.write("<title>\(escaped(title))</title>\n<style>\n\(reportStyle)\(style)</style>\n")
  out.write("</head>\n<body>\n<main>\n")
  body(&out)
  out.write("</main>\n</body>\n</html>\n")
}

/// Shapes of a drawing in a page.
package enum Drawing {
  /// Begins a drawing; `</svg>` ends it.
  package static func open(
    width: Double, height: Double, title: String, to out: inout some TextOutputStream
  ) {
    out.write(
      "<svg viewBox=\"0 0 \(decimal(width)) \(decimal(height))\" role=\"img\" "
        + "aria-label=\"\(escaped(title))\">\n")
  }

  package static func rectangle(
    _ kind: String, _ x: Double, _ y: Double, _ width: Double, _ height: Double,
    title: String? = nil, to out: inout some TextOutputStream
  ) {
    out.write(
      "<rect class=\"\(kind)\" x=\"\(decimal(x))\" y=\"\(decimal(y))\" "
        + "width=\"\(decimal(width))\" height=\"\(decimal(height))\"")
    out.write(title.map { "><title>\(escaped($0))</title></rect>\n" } ?? "/>\n")
  }

  package static func text(
    _ kind: String, _ x: Double, _ y: Double, _ content: String,
    to out: inout some TextOutputStream
  ) {
    let attribute = kind.isEmpty ? "" : " class=\"\(kind)\""
    out.write(
      "<text\(attribute) x=\"\(decimal(x))\" y=\"\(decimal(y))\">\(escaped(content))</text>\n")
  }

  /// What colours mean: names of the style's variables, with words.
  package static func key(_ items: [(String, String)], to out: inout some TextOutputStream) {
    out.write("<div class=\"key\">")
    for (name, meaning) in items {
      let color = name == "tbl" ? "ink" : name
      out.write("<span><i style=\"background:var(--\(color))\"></i>\(escaped(meaning))</span>")
    }
    out.write("</div>\n")
  }

  private static let labelHeight = 14.0
  /// The advance of one character of the labels' font.
  private static let letterWidth = 6.7

  /// What is written above a window of an axis.
  package struct Label {
    package var text: String
    /// The whole window, for whoever points at it.
    package var title: String
    package var x: Double
    /// From the top.
    package var row: Int
  }

  /// Where each window's first address is written: whole, inside of the drawing, and beside no other.
  package static func labels(
    of windows: [AddressAxis.Window], width: Double
  ) -> [Label] {
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

  /// Where what is below the labels begins.
  package static func top(below labels: [Label]) -> Double {
    10 + labelHeight * Double((labels.map(\.row).max() ?? 0) + 1)
  }

  /// The windows of an axis from `top` to `bottom`, each with its label.
  package static func windows(
    _ axis: AddressAxis, _ labels: [Label], top: Double, bottom: Double,
    to out: inout some TextOutputStream
  ) {
    for (window, label) in zip(axis.windows, labels) {
      rectangle(
        "lane", window.x, top, window.width, bottom - top, title: label.title, to: &out)
      let base = 12 + labelHeight * Double(label.row)
      // From a label that is not in the lowest row down to its window.
      if base + labelHeight < top {
        rectangle("tick", window.x, base + 3, 1, top - base - 3, to: &out)
      }
      text("", label.x, base, label.text, to: &out)
    }
  }
}

/// How the report looks: light and dark, on screens and on paper.
private let reportStyle = """
  :root{color-scheme:light dark;--bg:#fbfaf7;--card:#fff;--ink:#1c1f26;--soft:#69707d;--line:#e4e1d9;\
  --rw:#2f6fde;--r:#2a9d6f;--w:#d9822b;--mix:#8250c4;--bad:#c8373a;--good:#22885a;--warn:#b7791f;\
  --crash:#c8373a;--shade:#f3f1ea}
  @media (prefers-color-scheme:dark){:root{--bg:#14161b;--card:#1b1e25;--ink:#e7e5df;--soft:#9aa1ad;\
  --line:#2d313a;--rw:#6ea0ff;--r:#4fc796;--w:#f0a452;--mix:#b794f4;--bad:#ff7b7b;--good:#5fd39b;\
  --warn:#e7b75a;--crash:#ff7b7b;--shade:#22262f}}
  *{box-sizing:border-box}
  body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,\
  "Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
  main{max-width:1120px;margin:0 auto;padding:40px 24px 80px}
  h1{font-size:30px;line-height:1.2;margin:0 0 6px;letter-spacing:-.02em}
  h2{font-size:19px;margin:44px 0 4px;letter-spacing:-.01em}
  p.lead{margin:0 0 20px;color:var(--soft)} p.note{margin:0 0 14px;color:var(--soft)}
  code,pre,td.n,.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",\
  monospace;font-size:13px}
  .facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(160px,1fr));gap:12px;margin:22px 0}
  .fact{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px}
  .fact b{display:block;font-size:20px;letter-spacing:-.01em}.fact span{color:var(--soft);font-size:13px}
  .card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:16px 18px;\
  overflow-x:auto}
  .rules{display:grid;grid-template-columns:repeat(auto-fill,minmax(250px,1fr));gap:8px}
  .rule{display:flex;gap:10px;background:var(--card);border:1px solid var(--line);border-left-width:4px;\
  border-radius:8px;padding:8px 12px;font-size:13px;line-height:1.4}
  .rule b{min-width:30px}.rule i{display:block;font-style:normal;color:var(--soft)}
  .rule i b{min-width:0;margin-right:5px}
  .holds{border-left-color:var(--good)}.broken{border-left-color:var(--bad)}
  .design{border-left-color:var(--warn)}.rule.unknown{border-left-style:dashed}
  .rule.none{border-left-style:dotted}
  .rule.broken i{color:var(--bad);font-weight:600}.rule.unknown i{color:var(--ink);font-weight:600}
  .rule.holds i b{color:var(--good)}.rule.design i b{color:var(--warn)}
  .verdict{display:inline-block;padding:3px 12px;border-radius:99px;color:#fff;font-weight:600;\
  margin:0 0 14px}
  .verdict.unknown{background:var(--warn)}.findings li.unknown{color:var(--soft)}
  .verdict.holds{background:var(--good)}.verdict.broken{background:var(--bad)}
  table{border-collapse:collapse;width:100%}
  th{text-align:left;font-weight:600;color:var(--soft);font-size:12px;padding:6px 12px 6px 0;\
  border-bottom:1px solid var(--line);white-space:nowrap}
  td{padding:6px 12px 6px 0;border-bottom:1px solid var(--line);vertical-align:top}
  tr:last-child td{border-bottom:0} td.n,th.n{text-align:right;white-space:nowrap}
  td.s{color:var(--soft)}
  details{margin:8px 0;background:var(--card);border:1px solid var(--line);border-radius:10px;\
  padding:8px 14px}
  details:target{border-color:var(--rw);box-shadow:0 0 0 2px var(--rw)}
  summary{cursor:pointer;font-weight:600}summary span{font-weight:400;color:var(--soft)}
  pre{margin:8px 0;white-space:pre-wrap;overflow-wrap:anywhere}
  .bad{color:var(--bad)}.good{color:var(--good)} a{color:var(--rw)}
  ol.findings{padding-left:22px;margin:0}ol.findings li{margin:0 0 8px}
  .card h3{font-size:14px;margin:14px 0 6px}.count{font-weight:400;color:var(--soft)}.card h3:first-child{margin-top:0}
  .card details{border:0;padding:0;margin:0}
  svg{display:block;width:100%;height:auto;min-width:760px}
  svg text{fill:var(--soft);font:11px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
  svg text.name{fill:var(--ink)}
  .rw{fill:var(--rw)}.ro{fill:var(--r)}.wo{fill:var(--w)}.mix{fill:var(--mix)}
  .lane{fill:var(--shade)}.tick{fill:var(--line)}.crash{fill:var(--crash);opacity:.18}.edge{stroke:var(--crash);\
  stroke-width:1;stroke-dasharray:3 3}.ram{fill:var(--shade);stroke:var(--line)}.tbl{fill:var(--ink)}
  .key{display:flex;flex-wrap:wrap;gap:16px;margin:10px 0 0;color:var(--soft);font-size:12px}
  .key i{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:6px;\
  vertical-align:-1px}
  footer{margin-top:56px;color:var(--soft);font-size:13px}
  /* Paper has all of it: nothing scrolls, nothing stays folded. */
  @media print{body{background:#fff;font-size:12px}main{max-width:none;padding:0}svg{min-width:0}\
  code,pre,td.n,.mono{font-size:10px}td{padding:1px 10px 1px 0}.card{overflow:visible}\
  h2,h3,h2+p,summary{break-after:avoid}tr,li,.fact,.rule,svg{break-inside:avoid}\
  ::details-content{content-visibility:visible;block-size:auto}}

  """
