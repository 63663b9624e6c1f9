import Glibc
import IOMMUTestSupport
import Testing

@testable import IOMMUImages

/// A file that is written appears whole or not at all, and is nobody's who may not read what it is
/// made of.
@Suite struct UnnamedOutputTests {
  let scratch = TemporaryDirectory()

  private func mode(_ name: String) -> mode_t {
    var status = stat()
    stat(scratch.path(name), &status)
    return status.st_mode & 0o777
  }

  private func input(_ name: String, _ mode: mode_t) -> String {
    let path = scratch.file(name, [1])
    chmod(path, mode)
    return path
  }

  @Test(arguments: [false, true])
  func `until it is committed there is no file, or one that goes away`(isNamed: Bool) throws {
    do {
      let file = try OutputFile(path: scratch.path("new"), from: [], isNamed: isNamed)
      try file.write([1, 2, 3])
      #expect(!scratch.files.contains("new"))
      #expect(scratch.files.count == (isNamed ? 1 : 0))
    }
    #expect(scratch.files == [])
    let file = try OutputFile(path: scratch.path("new"), from: [], isNamed: isNamed)
    try file.write([1, 2, 3])
    try file.commit()
    #expect(scratch.files == ["new"])
    #expect(scratch.contents("new") == [1, 2, 3])
  }

  @Test(arguments: [false, true])
  func `an older file is there until the new one is`(isNamed: Bool) throws {
    _ = scratch.file("report", [9])
    do {
      let file = try OutputFile(path: scratch.path("report"), from: [], isNamed: isNamed)
      try file.write([1])
      #expect(scratch.contents("report") == [9])
    }
    #expect(scratch.contents("report") == [9])
    let file = try OutputFile(path: scratch.path("report"), from: [], isNamed: isNamed)
    try file.write([1])
    try file.commit()
    #expect(scratch.contents("report") == [1])
    #expect(scratch.files == ["report"])
  }

  @Test(arguments: [false, true])
  func `nobody may read it who may not read all that it is made of`(isNamed: Bool) throws {
    let mask = umask(0)
    umask(mask)
    let all = 0o666 & ~mask
    for (inputs, expected) in [
      ([], all), ([0o644], all), ([0o600], 0o600), ([0o644, 0o600], 0o600),
      ([0o640], all & 0o660), ([0o604], all & 0o606), ([0o444], all),
    ] as [([mode_t], mode_t)] {
      let paths = inputs.enumerated().map { input("input\($0.offset)", $0.element) }
      let file = try OutputFile(path: scratch.path("output"), from: paths, isNamed: isNamed)
      try file.commit()
      #expect(mode("output") == expected, "\(inputs)")
      unlink(scratch.path("output"))
    }
  }

  @Test func `a file that is replaced keeps its permissions, but for what the inputs forbid`()
    throws
  {
    for (old, input, expected) in [
      (0o600, 0o644, 0o600), (0o644, 0o600, 0o600), (0o640, 0o640, 0o640),
    ] as [(mode_t, mode_t, mode_t)] {
      let source = self.input("input", input)
      _ = self.input("output", old)
      try OutputFile(path: scratch.path("output"), from: [source]).commit()
      #expect(mode("output") == expected)
    }
  }

  @Test func `the list of what a signal removes forgets what is done`() {
    Leftovers.add(scratch.path("one"))
    Leftovers.add(scratch.path("two"))
    #expect(Leftovers.remove(scratch.path("two")))
    #expect(!Leftovers.remove(scratch.path("two")))
    #expect(!Leftovers.remove(scratch.path("three")))
    #expect(Leftovers.remove(scratch.path("one")))
  }
}
