/// Takes results, so that the work for them is done.
final class Sink {
  private var sum: UInt64 = 0

  @inline(never)
  func add(_ value: UInt64) { sum &+= value }
}
