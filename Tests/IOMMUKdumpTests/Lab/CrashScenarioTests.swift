import IOMMUKdump
import Testing

/// K01 to K34: what was worked out by hand, and what is found by playing it.
@Suite struct CrashScenarioTests {
  /// Lines in which the lab finds something else, and why, is said in the scenario itself.
  static let disagreements: [String: [String: String]] = [
    "K16": [
      "S1, no low part: d": "NOMAP",
      "S11 on AMD-Vi, no low part: d": "none",
    ],
    "K25": ["its reason": "0x1"],
    "K28": [
      "S14a on Arm SMMUv3: a": "OWN/BLK-S/BLK-S",
      "S14a on Arm SMMUv3: b": "BLK-F/BLK-S/BLK-S",
      "S14a on Arm SMMUv3: c": "OWN/BLK-S/BLK-S",
      "S14c on Arm SMMUv3: a": "OWN/OWN/BLK-S",
      "S14c on Arm SMMUv3: b": "BLK-F/BLK-S/BLK-S",
      "S14c on Arm SMMUv3: c": "OWN/OWN/BLK-S",
    ],
    "K29": [
      "S3: translated request, P2": "BLK-F",
      "S3: translated request, P4": "BLK-F",
    ],
  ]

  /// Lines of each scenario, so that none falls silent.
  static let lineCounts = [
    "K01": 4, "K02": 6, "K03": 4, "K04": 9, "K05": 14, "K06": 10, "K07": 7, "K08": 6, "K09": 2,
    "K10": 4, "K11": 7, "K12": 13, "K13": 4, "K14": 3, "K15": 3, "K16": 12, "K17": 2, "K18": 2,
    "K19": 7, "K20": 2, "K21": 12, "K22": 2, "K23": 8, "K24": 2, "K25": 2, "K26": 5, "K27": 6,
    "K28": 15, "K29": 6, "K30": 12, "K31": 2, "K32": 3, "K33": 3, "K34": 2, "N01": 4, "N02": 6,
    "N03": 6, "N04": 5, "N05": 3, "N06": 3, "N07": 18, "N08": 21,
  ]

  @Test func `there are thirty-four, and eight that came after them`() {
    func names(_ letter: String, _ numbers: ClosedRange<Int>) -> [String] {
      numbers.map { letter + ($0 < 10 ? "0" : "") + "\($0)" }
    }
    #expect(CrashScenario.all.map(\.name) == names("K", 1...34) + names("N", 1...8))
    #expect(CrashScenario(named: "k07")?.name == "K07")
    #expect(CrashScenario(named: "K35") == nil)
  }

  @Test(arguments: CrashScenario.all.map(\.name))
  func `a scenario comes to what was expected, but for what is known`(name: String) throws {
    let result = try #require(CrashScenario(named: name)).play()
    #expect(result.lines.count == Self.lineCounts[name])
    let found = Dictionary(
      uniqueKeysWithValues: result.lines.filter { !$0.agrees }.map { ($0.subject, $0.found) })
    #expect(found == Self.disagreements[name] ?? [:])
    for line in result.lines where !line.agrees { #expect(line.remark != nil, "\(line)") }
  }
}
