/// A value at a place of its own: several hold a reference to it and change it where it is, without
/// exclusivity checks.
///
/// For what one thread at a time uses. Safe while nobody uses a reference after the value is gone, nor
/// while somebody else is about to change the value: a port owns both values that it is made of, gives
/// references to one of them to parts of the other, and no access to a part calls another's.
@safe
struct Pinned<Value: ~Copyable>: ~Copyable {
  let reference: Reference

  init(_ value: consuming Value) {
    // In cache lines of its own: what ports of two threads count is never in one line.
    let lines = (MemoryLayout<Value>.size + CacheLine.byteCount - 1) / CacheLine.byteCount
    let place = unsafe UnsafeMutableRawPointer.allocate(
      byteCount: lines * CacheLine.byteCount, alignment: CacheLine.byteCount
    ).bindMemory(to: Value.self, capacity: 1)
    unsafe place.initialize(to: value)
    unsafe reference = Reference(place: place)
  }

  deinit {
    unsafe reference.place.deinitialize(count: 1)
    unsafe reference.place.deallocate()
  }

  var value: Value {
    @inline(__always) unsafeAddress { unsafe UnsafePointer(reference.place) }
    @inline(__always) nonmutating unsafeMutableAddress { unsafe reference.place }
  }

  @safe
  struct Reference {
    fileprivate let place: UnsafeMutablePointer<Value>

    var value: Value {
      @inline(__always) unsafeAddress { unsafe UnsafePointer(place) }
      @inline(__always) nonmutating unsafeMutableAddress { unsafe place }
    }
  }
}
