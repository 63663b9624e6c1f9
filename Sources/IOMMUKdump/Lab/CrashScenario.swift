import IOMMUFormats
import IOMMUTranslation

/// A question about a crash that somebody has asked, and what was expected before it was played.
public struct CrashScenario: Sendable {
  /// K01 to K34, N01 to N08.
  public var name: String
  /// The question in a few words.
  public var title: String
  private let body: @Sendable (inout ScenarioResult) throws(SetUpError) -> Void

  init(
    _ name: String, _ title: String,
    body: @escaping @Sendable (inout ScenarioResult) throws(SetUpError) -> Void
  ) {
    self.name = name
    self.title = title
    self.body = body
  }

  /// Plays the crashes of the scenario.
  ///
  /// - Throws: where a machine cannot be; what fails in the model is a line of the result.
  public func play() throws(SetUpError) -> ScenarioResult {
    var result = ScenarioResult(name: name, title: title)
    try body(&result)
    return result
  }
}

/// What came of a scenario.
public struct ScenarioResult: Sendable {
  public var name: String
  public var title: String
  public var lines: [Line] = []
  /// The crashes that were played, each with a name.
  public var runs: [(name: String, run: LabRun)] = []

  /// One thing that was expected, and what was found.
  public struct Line: Sendable, Equatable {
    /// What was looked at: `a`, `S3x: c`, `R8 of the third device`.
    public var subject: String
    /// Worked out by hand, before anything was played.
    public var expected: String
    /// Decided by bytes, logs and buses.
    public var found: String
    public var agrees: Bool
    /// Why what was found is right where it is not what was expected.
    public var remark: String?
  }

  public var agreementCount: Int { lines.count(where: \.agrees) }

  /// - Parameters:
  ///   - subject: What is looked at.
  ///   - expected: Worked out by hand.
  ///   - found: Decided by bytes, logs and buses.
  ///   - agrees: Whether both are the same; `nil` for the same words.
  ///   - remark: Why what was found is right where it is not what was expected.
  mutating func expect(
    _ subject: String, _ expected: String, found: String, agrees: Bool? = nil,
    remark: String? = nil
  ) {
    let agrees = agrees ?? (expected == found)
    lines.append(
      Line(
        subject: subject, expected: expected, found: found, agrees: agrees,
        remark: agrees ? nil : remark))
  }
}
