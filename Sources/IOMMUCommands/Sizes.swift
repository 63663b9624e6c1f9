/// `4 GiB`, `256 KiB`, `512 B`: the largest unit that leaves a whole number.
func sizeText(_ byteCount: UInt64) -> String {
  for (shift, unit) in [(UInt64(40), "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")]
  where byteCount != 0 && byteCount % (1 << shift) == 0 {
    return "\(byteCount >> shift) \(unit)"
  }
  return "\(byteCount) B"
}

/// `1,048,576`.
func grouped(_ number: some BinaryInteger) -> String {
  var digits = Array(String(number))
  var index = digits.count - 3
  while index > 0 {
    digits.insert(",", at: index)
    index -= 3
  }
  return String(digits)
}

/// `1 line`, `2,048 lines`.
func groupedCount(_ count: Int, _ noun: String) -> String {
  "\(grouped(count)) \(noun)" + (count == 1 ? "" : "s")
}
