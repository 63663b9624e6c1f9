import Foundation
import IOMMUTestSupport
import Testing

@testable import IOMMUHardware

@Suite struct UnitLockTests {
  @Test func `a thread that holds the lock ends with a sentence`() async {
    await #expect(processExitsWith: .failure) {
      let lock = UnitLock()
      lock.lock()
      lock.lock()
    }
  }

  /// The lock's source and five lines, as an optimised program: preconditions keep their sentence to
  /// themselves there. Takes the compiler's second or two.
  @Test func `the sentence is there in optimised programs too`() throws {
    let directory = TemporaryDirectory()
    let main = directory.file(
      "main.swift", "let lock = UnitLock()\nlock.lock()\nlock.unlock()\nlock.lock()\nlock.lock()\n")
    let source = Repository.path + "/Sources/IOMMUHardware/UnitLock.swift"
    let program = directory.path("program")
    let compiler = Process()
    compiler.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    compiler.arguments = ["swiftc", "-O", "-o", program, main, source]
    try compiler.run()
    compiler.waitUntilExit()
    try #require(compiler.terminationStatus == 0)
    let process = Process()
    let errors = Pipe()
    process.executableURL = URL(fileURLWithPath: program)
    process.environment = ["SWIFT_BACKTRACE": "enable=no"]
    process.standardError = errors
    try process.run()
    let said = errors.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    #expect(process.terminationReason == .uncaughtSignal)
    #expect(
      String(decoding: said, as: UTF8.self).contains(
        "a callback of a remapping unit calls the unit; do it after the callback returned"))
  }
}
