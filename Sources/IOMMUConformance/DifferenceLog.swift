/// The places where the model and a recording part ways: all are counted, the first ones are kept.
struct DifferenceLog {
  private(set) var count = 0
  private(set) var kept: [String] = []
  let limit: Int

  init(limit: Int) { self.limit = limit }

  mutating func add(_ text: @autoclosure () -> String) {
    count += 1
    if kept.count < limit { kept.append(text()) }
  }

  /// Compares two values.
  mutating func compare<Value: Equatable>(
    _ found: Value, _ expected: Value, _ what: @autoclosure () -> String,
    show: (Value) -> String = { "\($0)" }
  ) {
    if found != expected { add("\(what()) is \(show(found)), not \(show(expected))") }
  }
}
