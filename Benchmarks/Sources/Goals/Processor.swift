import Foundation

/// What the times were taken on: they hold of no other.
struct Processor: CustomStringConvertible {
  let description: String

  /// The processor of this machine, as Linux tells it; nobody's where it does not.
  static var current: Processor {
    let text = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
    func value(_ key: String) -> String? {
      text.split(separator: "\n").first { $0.hasPrefix(key + "\t") }
        .flatMap { $0.split(separator: ":").last }
        .map { $0.trimmingCharacters(in: .whitespaces) }
    }
    let name = value("model name") ?? "a processor without a name"
    let number = [("cpu family", "family"), ("model", "model")].compactMap { key, word in
      value(key).map { "\(word) \($0)" }
    }
    return Processor(description: ([name] + number).joined(separator: ", "))
  }
}
