import IOMMUFormats

/// Reads what one kind of unit has logged, by one kernel or several.
///
/// The engine, ``FaultLogReader``, cuts a log at marks into messages, each from a mark up to the next
/// of any reader, over as many lines as mail programs have made of one. A reader says which marks
/// begin its messages and what a message says.
protocol LogReader: Sendable {
  /// What the reader is called where its lines are named: `Intel VT-d`.
  static var unit: String { get }

  /// The forms it knows, one of every kind that differs; each is read to a fault.
  static var examples: [LogExample] { get }

  /// Where a message of this reader begins.
  static var marks: [StaticString] { get }

  /// Whether a message goes on at a mark, instead of ending there.
  static func continues(_ message: Substring, at mark: Substring) -> Bool

  /// What a message says, as far as it is there.
  static func read(_ message: LogMessage) -> LogReading

  /// Two readings of the same fault as one; `nil` when they are two faults.
  static func joined(_ first: FaultRecord, _ second: FaultRecord) -> FaultRecord?
}

extension LogReader {
  static func continues(_: Substring, at _: Substring) -> Bool { false }
  static func joined(_: FaultRecord, _: FaultRecord) -> FaultRecord? { nil }
}

/// A form of a fault in a log, for people and for tests.
public struct LogExample: Sendable {
  /// Who writes it: `Linux 2.6.24 to 3.x`.
  public var writer: String
  /// The lines.
  public var text: String
  init(_ writer: String, _ text: String) {
    self.writer = writer
    self.text = text
  }
}

/// A message: from a mark on, and what stands before it in its line.
struct LogMessage {
  /// From the mark on; lines are joined by blanks.
  var text: String
  /// All that stands before the mark in its line: time, host, driver.
  var prefix: String
}

/// What a reader makes of a message.
enum LogReading {
  /// A whole fault; no more is to come.
  case fault(FaultRecord)
  /// A fault, of which more may come in lines below.
  case unfinished(FaultRecord)
  /// The beginning of something; when no more comes, a fault that is not understood, and why.
  case begun(String)
  /// The beginning of something that is no fault by itself.
  case begunTable
  /// A fault that is not understood, whatever follows.
  case unread(String, unit: String? = nil)
  /// Something of tables, which belongs to the fault before it.
  case table(LoggedTables.Piece)
  /// Words that belong to the fault before it.
  case words(LoggedWords)
  /// The kernel says that it has left out so many messages.
  case suppressed(Int)
  /// A syslog daemon says that the line before came so many times more.
  case repeated(Int)
  /// Nothing about faults.
  case nothing
}

/// All readers there are.
public enum LogReaders {
  static let all: [any LogReader.Type] = [
    VTdLogReader.self, VTdTableLogReader.self, AMDViLogReader.self, SMMUv3LogReader.self,
    QEMULogReader.self, FreeBSDLogReader.self, CalgaryLogReader.self, SuppressionLogReader.self,
    OtherUnitsLogReader.self,
  ]

  /// The units whose faults are understood, in a list.
  public static var unitNames: [String] {
    var seen: Set<String> = []
    return all.filter { !$0.examples.isEmpty }.map { $0.unit }.filter { seen.insert($0).inserted }
  }

  /// Every form that is read, with the unit it is of.
  public static var examples: [(unit: String, example: LogExample)] {
    all.flatMap { reader in reader.examples.map { (reader.unit, $0) } }
  }
}
