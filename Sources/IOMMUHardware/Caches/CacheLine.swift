/// What processors hand from one to the other.
enum CacheLine {
  /// Two lines of 64 bytes: processors fetch the neighbour of a line with it.
  static var byteCount: Int { 128 }
}
