/// What may be very long: encodes its members in ascending order of their keys, so that they can be written at
/// once and need not be kept to be put in order.
package protocol StreamedEncodable: Encodable {}

/// A list whose elements are made when they are encoded.
struct StreamedList<Elements: Sequence>: Encodable where Elements.Element: Encodable {
  private let elements: Elements

  init(_ elements: Elements) { self.elements = elements }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.unkeyedContainer()
    for element in elements { try container.encode(element) }
  }
}
