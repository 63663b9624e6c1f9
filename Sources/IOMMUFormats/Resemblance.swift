/// How many letters have to be put in, taken out, replaced, or swapped with the next one, to make one text
/// of the other; of what is longer than any name the beginning counts.
///
/// - Complexity: O(64²) at most.
package func editDistance(_ first: String, _ second: String) -> Int {
  let (first, second) = (Array(first.utf8.prefix(64)), Array(second.utf8.prefix(64)))
  var older: [Int] = []
  var old = Array(0...second.count)
  for row in first.indices {
    var new = [row + 1]
    for column in second.indices {
      var changes = min(
        old[column + 1] + 1, new[column] + 1,
        old[column] + (first[row] == second[column] ? 0 : 1))
      if row > 0, column > 0, first[row] == second[column - 1], first[row - 1] == second[column] {
        changes = min(changes, older[column - 1] + 1)
      }
      new.append(changes)
    }
    (older, old) = (old, new)
  }
  return old[second.count]
}

/// The name that somebody meant who wrote `text`: one that is a letter away, or two of a long one,
/// whatever the case; `nil` when there is none.
package func likelyName(for text: String, among names: [String]) -> String? {
  let text = text.lowercased()
  let distances = names.map { (name: $0, distance: editDistance(text, $0)) }
  guard let best = distances.min(by: { $0.distance < $1.distance }) else { return nil }
  return best.distance <= (text.utf8.count < 6 ? 1 : 2) ? best.name : nil
}
