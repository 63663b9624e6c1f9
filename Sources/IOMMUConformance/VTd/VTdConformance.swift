import FoundationEssentials
import IOMMUFormats
import IOMMUHardware

/// Answers recorded cases of remapping units, each on a unit and a memory of its own.
package struct VTdConformance {
  /// What is wrong with a case: `ops[3].pa: is missing`.
  package struct CaseError: Error, CustomStringConvertible {
    package var description: String
    init(_ text: String) { description = text }
  }

  private let machine: VTdCaseMachine
  private let decoder = JSONDecoder()

  package init(caches: CacheConfiguration) throws(MemoryError) {
    machine = try VTdCaseMachine(caches: caches)
  }

  /// The answers to a case, one for each of its operations.
  ///
  /// - Parameter json: One JSON object.
  package func answers(
    to json: UnsafeRawBufferPointer
  ) throws(CaseError) -> VTdAnswers {
    do {
      // Safe: the bytes are copied.
      let json = unsafe Data(json)
      return try machine.answers(to: try decoder.decode(VTdCase.self, from: json))
    } catch let error as CaseError {
      throw error
    } catch let error as DecodingError {
      throw CaseError(Self.text(error))
    } catch {
      throw CaseError("\(error)")
    }
  }

  private static func text(_ error: DecodingError) -> String {
    switch error {
    case .keyNotFound(let key, let context):
      "\(path(context.codingPath + [key])): is missing"
    case .typeMismatch(_, let context), .valueNotFound(_, let context),
      .dataCorrupted(let context):
      "\(path(context.codingPath)): \(context.debugDescription)"
    @unknown default: "is no case: \(error)"
    }
  }

  /// `ops[3].pa`, or the whole line.
  private static func path(_ keys: [any CodingKey]) -> String {
    keys.isEmpty
      ? "the line"
      : keys.reduce(into: "") { text, key in
        if let index = key.intValue {
          text += "[\(index)]"
        } else {
          text += (text.isEmpty ? "" : ".") + key.stringValue
        }
      }
  }
}
