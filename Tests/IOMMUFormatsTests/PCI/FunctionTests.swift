import IOMMUFormats
import Testing

@Suite struct FunctionTests {
  @Test func `a literal names a function, with its segment or without`() {
    let functions: [PCI.Function] = ["00:1f.2", "0001:3a:00.7", "0000:00:03.0"]
    #expect(functions.map(\.segment) == [0, 1, 0])
    #expect(functions.map(\.requester.rawValue) == [0x00fa, 0x3a07, 0x0018])
  }

  @Test func `text from outside is read, or refused with what would be right`() throws {
    let text = ["0002:00:03.0", "nothing"]
    #expect(try PCI.Function(text[0]) == "0002:00:03.0")
    #expect(throws: NotationError.self) { try PCI.Function(text[1]) }
  }

  @Test func `a literal that names none ends the program`() async {
    await #expect(processExitsWith: .failure) { _ = "00:20.0" as PCI.Function }
  }
}
