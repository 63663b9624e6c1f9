/// A fixed number of elements at a place of their own, changed where they are.
@safe
struct Slots<Element>: ~Copyable {
  private let start: UnsafeMutablePointer<Element>
  let count: Int

  init(repeating element: Element, count: Int) {
    unsafe start = .allocate(capacity: count)
    unsafe start.initialize(repeating: element, count: count)
    self.count = count
  }

  deinit {
    unsafe start.deinitialize(count: count)
    unsafe start.deallocate()
  }

  subscript(index: Int) -> Element {
    @inline(__always) unsafeAddress { unsafe UnsafePointer(place(of: index)) }
    @inline(__always) unsafeMutableAddress { unsafe place(of: index) }
  }

  @inline(__always)
  private func place(of index: Int) -> UnsafeMutablePointer<Element> {
    // Safe: all elements are there from the first moment to the last.
    precondition(0 <= index && index < count, "a slot lies inside its cache")
    return unsafe start + index
  }
}
