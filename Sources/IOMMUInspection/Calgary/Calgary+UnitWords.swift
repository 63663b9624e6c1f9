import IOMMUFormats
import IOMMUTranslation

extension Calgary.Chip: DescribedUnit {
  private var modelName: String { model == .calgary ? "IBM Calgary" : "IBM CalIOC2" }
  var name: String { "\(modelName) at \(base)" }

  var text: String {
    let tables = hostBridges.compactMap { $0?.table?.table }.map { "\($0)" }
    return "\(modelName) with TCE tables at " + (tables.isEmpty ? "no address" : listText(tables))
  }
}

extension Calgary.FoundTable: DescribedUnit {
  var name: String { "an IBM Calgary chip" }
  var text: String { "\(table.heading), of buses that nobody knows" }
}
