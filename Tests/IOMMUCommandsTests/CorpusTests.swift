import ArgumentParser
import Foundation
import IOMMUTestSupport
import IOMMUTesting
import Testing

@testable import IOMMUCommands

/// Corpora: what is written, and what becomes of programs that are held against them.
@Suite struct CorpusTests {
  /// A directory that goes away with all that is in it.
  final class Place {
    let scratch = TemporaryDirectory()
    deinit { try? FileManager.default.removeItem(atPath: scratch.path) }

    var corpus: String { scratch.path("corpus") }

    /// Writes a corpus, and says what was printed.
    func write(_ arguments: String...) throws -> String {
      var text = ""
      try Corpus.parse(["-o", corpus] + arguments).report(to: &text)
      return text
    }

    /// Holds a line of shell against it.
    func check(
      _ program: String, _ arguments: String...
    ) throws -> (answer: IOMMUCommands.Answer, text: String) {
      var text = ""
      let answer = try Corpus.parse(["--check", program, corpus] + arguments).report(to: &text)
      return (answer, text)
    }

    func text(_ file: String) throws -> String { try Examples.text("\(corpus)/\(file)") }
  }

  /// The program that answers right.
  static let translate = "'\(HelpTests.toolDirectory)/iommu' translate"

  // MARK: Writing

  @Test func `the tool answers a corpus of every kind as it must`() throws {
    let place = Place()
    let written = try place.write("--seed", "3", "--count", "2")
    #expect(written.contains("total                36       18"))
    #expect(written.hasSuffix("\(place.corpus)/README says what each case is\n"))
    let (answer, text) = try place.check(Self.translate)
    #expect(answer == .yes, "\(text)")
    #expect(text.hasSuffix("36 passed, 0 failed\n"))
    for kind in TableCase.Kind.allCases {
      #expect(text.contains("ok    \(kind.rawValue)-4-damaged: "))
    }
  }

  @Test func `a case is an image, a machine file, and requests with answers`() throws {
    let place = Place()
    _ = try place.write("--kind", "gart", "--seed", "1", "--tables", "whole")
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: place.corpus).sorted()
        == ["README", "gart-1", "index.json"])
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: place.corpus + "/gart-1").sorted()
        == ["image.elf", "machine.json", "translate.tsv"])
    let lines = try place.text("gart-1/translate.tsv").split(separator: "\n")
    #expect(lines[0] == "#requester\tiova\taccess\tanswer")
    // What is outside of the aperture passes: it begins at 2 GiB.
    #expect(lines.contains("02:00.0\t0x7fffffff\tr\t0x7fffffff"))
    #expect(lines.contains { $0.hasPrefix("02:00.0\t0x8") && $0.hasSuffix("\tw\tfault") })
    let index = try CorpusIndex(directory: place.corpus)
    #expect(index.cases.map(\.name) == ["gart-1"])
    #expect(index.cases[0].requests == lines.count - 1)
    #expect(index.cases[0].faults.map(\.number) == [nil])
    #expect(try place.text("README").contains("\ngart-1\n  AMD GART: a GATT\n"))
  }

  @Test func `the index says what was damaged and where the manual has it`() throws {
    let place = Place()
    let json = try place.write(
      "--kind", "vtd-pasids", "--count", "30", "--tables", "damaged", "--format", "json")
    #expect(json == (try place.text("index.json")))
    let index = try CorpusIndex(directory: place.corpus)
    let entry = try #require(
      index.cases.first { $0.damage?.contains("PASID directory entry") == true })
    #expect(entry.damageSource == "Intel VT-d 9.5")
    #expect(entry.faultSource == "Intel VT-d 7.1.3, fault reasons")
    // 50h to 52h are the directory's, 58h to 5Bh the table's: 7.1.3.
    #expect(entry.faults.contains { ["0x51", "0x52", "0x58"].contains($0.number) })
    #expect(try place.text("README").split(separator: "\n").allSatisfy { $0.count <= 80 })
  }

  @Test func `the same seeds give the same files`() throws {
    let (one, other) = (Place(), Place())
    _ = try one.write("--seed", "9")
    _ = try other.write("--seed", "9")
    #expect(
      FileManager.default.contentsEqual(atPath: one.corpus, andPath: other.corpus))
  }

  @Test func `nothing is written over`() throws {
    let place = Place()
    let file = place.scratch.file("corpus", "a file")
    let error = #expect(throws: InputError.self) { try place.write() }
    #expect(
      error?.text
        == "\(file): is there already, and nothing is written over; choose another --output")
    #expect(place.scratch.contents("corpus") == Array("a file".utf8))
    unlink(file)
    mkdir(file, 0o700)
    // An empty directory is nothing.
    _ = try place.write("--kind", "gart")
    #expect(throws: InputError.self) { try place.write("--kind", "calgary") }
    #expect(try CorpusIndex(directory: file).cases.map(\.kind) == ["gart", "gart"])
    #expect(place.scratch.files == ["corpus"])
    symlink("nowhere", place.scratch.path("link"))
    #expect(throws: InputError.self) {
      var text = ""
      try Corpus.parse(["-o", place.scratch.path("link")]).report(to: &text)
    }
  }

  @Test func `what cannot be written whole leaves nothing`() throws {
    let place = Place()
    let command = try Command.run(["corpus", "-o", place.corpus], shell: "ulimit -f 16")
    #expect(command.status == 2)
    #expect(command.errors.hasSuffix(": cannot be written: File too large\n"))
    #expect(place.scratch.files == [])
    let nowhere = try Command.run(["corpus", "-o", "/nowhere/corpus"])
    #expect(nowhere.status == 2)
    #expect(
      nowhere.errors
        == "iommu: /nowhere/corpus: No such file or directory; choose another --output\n")
  }

  @Test(arguments: [SIGINT, SIGTERM, SIGHUP])
  func `a signal leaves nothing of a corpus`(signal: Int32) throws {
    let place = Place()
    let started = try Command.started(["corpus", "-o", place.corpus, "--count", "50000"])
    while place.scratch.files.isEmpty, started.process.isRunning { usleep(10_000) }
    usleep(100_000)
    kill(started.process.processIdentifier, signal)
    started.process.waitUntilExit()
    #expect(started.finish().status == nil)
    #expect(place.scratch.files == [])
  }

  @Test func `what the documentation shows is what is printed`() {
    let blocks = Repository.text("docs/corpus.md")
      .split(separator: "```\n", omittingEmptySubsequences: false)
      .filter { $0.hasPrefix("$ ") }
      .map {
        $0.dropFirst(2).split(separator: "\n", maxSplits: 1, omittingEmptySubsequences: false)
      }
    #expect(blocks.count >= 4)
    // One directory for all of them.
    let script = blocks.map { $0[0] }.joined(separator: "; ")
    #expect(HelpTests.run(script).output == blocks.map { $0[1] }.joined())
  }

  // MARK: Programs that answer otherwise

  /// A line of shell, and what is said of it. `$T` is the program that answers right.
  static let programs: [(program: String, text: String)] = [
    ("kill -SEGV $$; :", "ended by signal 11 after 0 of 80 answers"),
    ("sh -c 'kill -BUS $$; :'; exit $?; :", "ended by signal 7"),
    ("exec sleep 1000; :", "not done in 1 s, and ended after 0 of 80 answers"),
    ("exec >&- 2>&-; sleep 1000; :", "not done in 1 s, and ended after 0 of 80 answers"),
    ("f() { $T \"$@\" | head -n 7; }; f", "7 of 80 answers"),
    (":", "0 of 80 answers"),
    ("f() { $T \"$@\"; echo 0x1000; }; f", "more answers than 80 requests"),
    ("yes 0x0; :", "more output than any answers have, and ended after 80 of 80 answers"),
    ("yes '' ; :", "more output than any answers have, and ended after 0 of 80 answers"),
    (
      "head -c 100000000 /dev/zero; :",
      "more output than any answers have, and ended after 0 of 80"
    ),
    ("printf x; head -c 5000 /dev/urandom | tr '\\n\\t ' x; :", "is no answer to '01:01.0 0x"),
    ("cat; :", "is no answer to '01:01.0 0x"),
    ("f() { $T \"$@\" | tac; }; f", "is no answer to '01:01.0 0x"),
    (
      "f() { $T \"$@\"; echo it is broken >&2; exit 3; }; f",
      "exit status 3 (it is broken) after 80"
    ),
    ("f() { $T \"$@\" | sed 's/fault/unknown/'; }; f", "unknown, expected fault"),
    ("f() { $T \"$@\" | sed 's/.*/0x0/'; }; f", "0x0, expected fault"),
    ("f() { $T \"$@\" | sed 's/0x[0-9a-f]*$/fault:0x5/'; }; f", "fault:0x5, expected 0x"),
  ]

  @Test(arguments: programs)
  func `what a program does wrong is told`(program: String, text: String) throws {
    let place = Place()
    _ = try place.write("--kind", "calgary", "--tables", "whole")
    let (answer, found) = try place.check(
      program.replacing("$T", with: Self.translate), "--time-limit", "1", "--show", "1000")
    #expect(answer == .no)
    // Lines of 80 columns.
    #expect(found.replacing("\n        ", with: " ").contains(text), "\(found)")
    #expect(found.hasSuffix("0 passed, 1 failed\n"))
    #expect(found.split(separator: "\n").allSatisfy { $0.count <= 80 })
  }

  @Test func `a program may leave others behind, and answer in its own spelling`() throws {
    let place = Place()
    _ = try place.write("--kind", "vtd-pasids", "--tables", "whole")
    for program in [
      // Holds the pipes; ends with the program.
      "f() { sleep 1000 & \(Self.translate) \"$@\"; }; f",
      "f() { \(Self.translate) \"$@\" | sed 's/0x/0x000/; s/^/0000:/; 1i # answers'; }; f",
      "f() { \(Self.translate) \"$@\" | cut -f 4; }; f",
      "f() { \(Self.translate) \"$@\"; return 1; }; f",
    ] {
      let (answer, text) = try place.check(program)
      #expect(answer == .yes, "\(program): \(text)")
    }
  }

  @Test func `the number of a fault counts unless it is told not to`() throws {
    let place = Place()
    _ = try place.write("--kind", "vtd-first-stage", "--kind", "gart", "--tables", "whole")
    let program = "f() { \(Self.translate) \"$@\" | sed 's/fault:.*/fault:0x1/'; }; f"
    let (answer, json) = try place.check(program, "--format", "json", "--show", "1")
    #expect(answer == .no)
    let result = try #require(
      JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any])
    let cases = try #require(result["cases"] as? [[String: Any]])
    #expect(result["failed"] as? Int == 1)
    #expect((cases[0]["wrong_numbers"] as? Int ?? 0) > 10)
    #expect(cases[0]["wrong_outcomes"] as? Int == 0)
    #expect((cases[0]["differences"] as? [[String: String]])?.count == 1)
    // Faults of a GART have no number: any will do.
    #expect(cases[1]["wrong_numbers"] as? Int == 0)
    #expect(try place.check(program, "--any-fault").answer == .yes)
    #expect(try place.check(program, "--kind", "gart").answer == .yes)
  }

  @Test func `a program that cannot be run is no answer`() throws {
    let place = Place()
    _ = try place.write("--kind", "gart")
    for program in ["no-such-program", "/etc/passwd"] {
      let error = #expect(throws: InputError.self) { try place.check(program) }
      #expect(error?.text.hasPrefix("\(program): cannot be run (") == true)
    }
  }

  @Test func `a signal ends the program too`() throws {
    let place = Place()
    _ = try place.write("--kind", "gart")
    let number = place.scratch.path("number")
    let started = try Command.started([
      "corpus", "--check", "echo $$ > '\(number)'; exec sleep 1000; :", place.corpus,
      "--time-limit", "600",
    ])
    while place.scratch.contents("number").isEmpty, started.process.isRunning { usleep(10_000) }
    let text = String(decoding: place.scratch.contents("number"), as: UTF8.self)
    kill(started.process.processIdentifier, SIGTERM)
    started.process.waitUntilExit()
    #expect(started.finish().status == nil)
    let process = try #require(pid_t(text.trimmingCharacters(in: .newlines)))
    #expect(kill(process, 0) != 0)
  }

  // MARK: Corpora that are none

  @Test func `a damaged corpus is named with what is wrong`() throws {
    let place = Place()
    func complaint() -> String {
      do {
        return try place.check(Self.translate).text.replacing("\n        ", with: " ")
      } catch {
        return "\((error as? InputError)?.text ?? "\(error)")"
      }
    }
    #expect(complaint().hasPrefix("\(place.corpus)/index.json: cannot be opened"))
    _ = try place.write("--kind", "gart", "--tables", "whole")
    let answers = place.corpus + "/gart-1/translate.tsv"
    let whole = try Examples.text(answers)
    func write(_ text: String, _ path: String) throws {
      try Data(text.utf8).write(to: URL(fileURLWithPath: path))
    }
    for line in ["02:00.0\t0x1000\tr", "02:00.0\t0x1000\tr\tperhaps", "02:00.0 0x1000 r 0x1000"] {
      try write("# a comment\n\(line)\n", answers)
      #expect(complaint().hasPrefix("\(answers), line 2: "), "\(complaint())")
    }
    unlink(answers)
    #expect(complaint().hasPrefix("\(answers): cannot be opened"))
    try write(whole, answers)
    #expect(complaint().hasSuffix("1 passed, 0 failed\n"))
    // A machine file that is none: the program's own affair, and told.
    try write("{}", place.corpus + "/gart-1/machine.json")
    #expect(complaint().contains("exit status 2 (iommu: \(place.corpus)/gart-1/"), "\(complaint())")
    let index = place.corpus + "/index.json"
    let text = try Examples.text(index)
    try write(text.replacing("\"version\" : 1", with: "\"version\" : 2"), index)
    #expect(complaint().hasPrefix("\(index): version 2 of a corpus is not known"))
    for damaged in [String(text.dropLast(20)), "[]", "", "{\"cases\": 1}", "\u{0}"] {
      try write(damaged, index)
      #expect(complaint().hasPrefix("\(index)"), "\(complaint())")
    }
  }

  @Test func `a wrong command line is refused`() {
    for arguments in [
      [], ["-o", "a", "--check", "b"], ["-o", "a", "b"], ["--check", "a"], ["b"],
      ["--check", "a", "b", "--seed", "1"], ["--check", "a", "b", "--tables", "both"],
      ["-o", "a", "--any-fault"], ["-o", "a", "--kind", "no-kind"], ["-o", "a", "--count", "0"],
      ["-o", "a", "--seed", "18446744073709551615"], ["-o", "a", "--time-limit", "1"],
      ["--check", "a", "b", "--time-limit", "0"],
    ] {
      #expect(throws: (any Error).self, "\(arguments)") { try Corpus.parse(arguments) }
    }
    #expect(throws: Never.self) {
      try Corpus.parse(["-o", "a", "--seed", "18446744073709551614"])
    }
  }
}
