import Synchronization

extension Atomic where Value == UInt {
  /// Stores `value` if it is lower than what is there.
  ///
  /// Not `min`: in Swift 6.3.1 that compares as if the words had signs, and `UInt.max`, which stands for
  /// nothing yet, would stay for good.
  package func storeLower(_ value: UInt) {
    var known = load(ordering: .relaxed)
    while value < known {
      let exchange = weakCompareExchange(
        expected: known, desired: value, successOrdering: .releasing, failureOrdering: .relaxed)
      if exchange.exchanged { return }
      known = exchange.original
    }
  }
}
