import IOMMUFormats
import Testing

@Suite struct RequesterTests {
  /// Source ids as the VT-d manual's example rows have them.
  static let good: [(String, UInt16)] = [
    ("00:04.0", 0x0020), ("3a:1f.7", 0x3aff), ("ff:10.0", 0xff80), ("00:00.0", 0),
    ("ff:1f.7", 0xffff),
    ("0000:00:18.3", 0x00c3), ("0:4.0", 0x0020), ("3A:1F.7", 0x3aff), ("0000:3a:1f.7", 0x3aff),
    ("0000:0:4.0", 0x0020), ("05:00.0", 0x0500),
  ]

  @Test(arguments: good)
  func `a requester is bus, device and function in hexadecimal`(text: String, value: UInt16) {
    #expect(Requester(text)?.rawValue == value)
  }

  @Test(arguments: [
    "", ":", ".", ":.", "00", "00:04", "00:04.", "00:.0", ":04.0", "00:04.8", "00:20.0", "00:04.00",
    "000:04.0", "00:004.0", "0001:00:04.0", "000:00:04.0", "00000:00:04.0", "0000:00:04",
    "00:00:04.0",
    "0000::04.0", "0000:00:00:04.0", "100:04.0", "0000:04.0", "00:04:0", "00.04.0", "00:04.0.0",
    "00:04.0:",
    " 00:04.0", "00:04.0 ", "00:0g.0", "-0:04.0", "00:04.0\u{0}", "００:04.0", ":00:04.0", "00:40.0",
  ])
  func `anything else is no requester`(text: String) {
    #expect(Requester(text) == nil)
  }

  @Test func `all 65,536 requesters are printed as they are read`() {
    for value in UInt16.min...UInt16.max {
      let requester = Requester(rawValue: value)
      let again = Requester("\(requester)")
      let withSegment = Requester("0000:\(requester)")
      let fromParts = Requester(
        bus: requester.bus, device: requester.device, function: requester.function)
      if again != requester || withSegment != requester || fromParts != requester {
        Issue.record("\(requester) is not read back")
      }
    }
  }

  @Test func `device and function share the low byte`() {
    let requester = Requester(bus: 0x3a, device: 0x1f, function: 7)
    #expect(requester.deviceFunction == 0xff)
    #expect(requester.bus == 0x3a)
    #expect(requester.device == 31)
    #expect(requester.function == 7)
    #expect("\(requester)" == "3a:1f.7")
    #expect("\(Requester(rawValue: 0x00c3))" == "00:18.3")
  }

  @Test func `requesters sort by bus, device, function`() {
    #expect(Requester("00:1f.7")! < Requester("01:00.0")!)
    #expect(Requester("00:04.0")! < Requester("00:04.1")!)
  }

  @Test(arguments: seeds)
  func `garbage is refused or read the same again`(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    let alphabet = Array("0123456789abcdefABCDEFg:.: ")
    for _ in 0..<5000 {
      let count = Int.random(in: 0...14, using: &generator)
      let text = String((0..<count).map { _ in alphabet.randomElement(using: &generator)! })
      guard let requester = Requester(text) else { continue }
      #expect(Requester("\(requester)") == requester)
      #expect(text.lowercased().hasSuffix(".\(requester.function)"))
    }
  }

  @Test func `one byte is a hexadecimal digit or nothing`() {
    for byte in UInt8.min...UInt8.max {
      let character = Character(Unicode.Scalar(byte))
      let expected = byte < 128 && character.isHexDigit ? character.hexDigitValue : nil
      #expect(hexadecimalDigit(byte) == expected)
    }
  }
}
