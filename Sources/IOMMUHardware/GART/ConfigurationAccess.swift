/// Calls `body` for every aligned doubleword that an access touches.
///
/// - Parameter body: Gets the doubleword's offset, the bits of it that are touched, and how far
///   left its bit 0 lies in the access's value; negative for right.
func forEachDoubleword(
  at offset: Int, byteCount: Int, _ body: (_ offset: Int, _ mask: UInt32, _ shift: Int) -> Void
) {
  precondition(0...8 ~= byteCount, "a configuration access has at most eight bytes")
  // Offsets near the ends of Int touch nothing that exists; keep the sums below from overflowing.
  let start = min(max(offset, -16), 1 << 20)
  guard byteCount > 0 else { return }
  let first = start & ~3
  for doubleword in stride(from: first, to: start + byteCount, by: 4) {
    var mask: UInt32 = 0
    for byte in 0..<4 where (start..<(start + byteCount)).contains(doubleword + byte) {
      mask |= 0xff << UInt32(8 * byte)
    }
    body(doubleword, mask, 8 * (doubleword - start))
  }
}
