import IOMMUFormats
import Testing

/// What is read, and the beginning of the reason where nothing is.
@Suite struct NotationTests {
  /// The words in front of the reminder of what is right.
  static func reason(_ body: () throws(NotationError) -> Void) -> String? {
    do {
      try body()
      return nil
    } catch {
      return String(error.description.prefix { $0 != ";" })
    }
  }

  // MARK: Addresses

  static let addresses: [(String, UInt64)] = [
    // Bare digits are hexadecimal, whatever they look like.
    ("0", 0), ("10", 0x10), ("4096", 0x4096), ("7663000", 0x766_3000), ("07663000", 0x766_3000),
    ("1e", 0x1e), ("1E", 0x1e), ("10b", 0x10b), ("e", 0xe), ("b", 0xb), ("DEADbeef", 0xdead_beef),
    ("ffffffffffffffff", .max), ("00000000000000000001", 1),
    ("0x10", 0x10), ("0X1F", 0x1f), ("0x0", 0), ("0xffffffffffffffff", .max),
    // Decimal, as debuggers have it.
    ("0n10", 10), ("0N4096", 4096), ("0n18446744073709551615", .max),
    // A last letter counts, and makes the digits before it decimal.
    ("16M", 16 << 20), ("16m", 16 << 20), ("10K", 10 << 10), ("4G", 4 << 30), ("2T", 2 << 40),
    ("336M", 336 << 20), ("0n16M", 16 << 20), ("0M", 0),
    ("16777215T", 16_777_215 << 40),
  ]

  @Test(arguments: addresses)
  func `an address is hexadecimal`(text: String, value: UInt64) throws {
    #expect(try Notation.address(text) == value)
    #expect(try Notation.address(utf8: text.utf8) == value)
  }

  @Test(arguments: [
    ("", "nothing is there"), ("0x", "digits are missing"), ("0n", "digits are missing"),
    ("M", "digits are missing"), ("0x10M", "'M' is no hexadecimal digit"),
    ("0x1g", "'g' is no hexadecimal digit"),
    ("-1", "numbers have no sign"), ("+1", "numbers have no sign"),
    ("0x-1", "'-' is no hexadecimal digit"), ("x1", "'x' is no hexadecimal digit"),
    ("1g2", "'g' is no hexadecimal digit"), (" 1", "' ' is no hexadecimal digit"),
    ("1 ", "' ' is no hexadecimal digit"), ("1_000", "'_' is no hexadecimal digit"),
    ("0x0x1", "'x' is no hexadecimal digit"), ("0n1f", "'f' is no decimal digit"),
    ("1eM", "'e' is no decimal digit"), ("1 M", "' ' is no decimal digit"),
    ("1GB", "'G' is no hexadecimal digit"), ("1MiB", "'M' is no hexadecimal digit"),
    ("1P", "'P' is no hexadecimal digit"), ("１", "'１' is no hexadecimal digit"),
    ("1\u{0}", "'\\u{0}' is no hexadecimal digit"), ("\u{1b}[1m", "'\\u{1B}' is no decimal digit"),
    ("10000000000000000", "it has more than 64 bits"),
    ("0n18446744073709551616", "it has more than 64 bits"),
    ("16777216T", "it has more than 64 bits"),
    ("99999999999999999999T", "it has more than 64 bits"),
  ])
  func `what is no address is refused with the reason`(text: String, reason: String) {
    #expect(Self.reason { () throws(NotationError) in _ = try Notation.address(text) } == reason)
    #expect(
      Self.reason { () throws(NotationError) in _ = try Notation.address(utf8: text.utf8) }
        == reason)
  }

  @Test func `a refusal says what an address is`() {
    #expect(
      throws: NotationError(
        "'g' is no hexadecimal digit; an address is hexadecimal (7663000 or 0x7663000), decimal "
          + "behind 0n, or a size such as 16M")
    ) { try Notation.address("1g2") }
  }

  // MARK: Sizes

  @Test(arguments: [
    ("0", 0 as UInt64), ("17", 17), ("4096", 4096), ("010", 10), ("0x1000", 4096), ("0n10", 10),
    ("64k", 65_536), ("128M", 128 << 20), ("4G", 4 << 30), ("2T", 2 << 40), ("0x10M", 16 << 20),
    ("18446744073709551615", .max),
  ])
  func `a size is decimal`(text: String, value: UInt64) throws {
    #expect(try Notation.size(text) == value)
    #expect(try Notation.size(utf8: text.utf8) == value)
  }

  @Test(arguments: [
    ("", "nothing is there"), ("M", "digits are missing"), ("-1", "numbers have no sign"),
    ("1f", "'f' is no decimal digit"), ("4GB", "'G' is no decimal digit"),
    ("1.5G", "'.' is no decimal digit"), ("18446744073709551616", "it has more than 64 bits"),
    ("99999999999T", "it has more than 64 bits"),
  ])
  func `what is no size is refused with the reason`(text: String, reason: String) {
    #expect(Self.reason { () throws(NotationError) in _ = try Notation.size(text) } == reason)
  }

  // MARK: Ranges

  @Test(arguments: [
    // As /proc/iomem has them, with the name and without.
    ("15000000-1effffff", 0x1500_0000 as UInt64, 0x1f00_0000 as UInt64),
    ("  15000000-1effffff : Crash kernel", 0x1500_0000, 0x1f00_0000),
    ("00000000-00000fff : Reserved", 0, 0x1000), ("0-0", 0, 1),
    ("0x1000-0x1fff", 0x1000, 0x2000), ("0-fffffffffffffffe", 0, .max),
    ("1000+256", 0x1000, 0x1100), ("0x15000000+160M", 0x1500_0000, 0x1f00_0000),
    ("3fc00130+0x20", 0x3fc0_0130, 0x3fc0_0150),
    ("160M@336M", 0x1500_0000, 0x1f00_0000), ("160M@15000000", 0x1500_0000, 0x1f00_0000),
    ("160M@0x15000000", 0x1500_0000, 0x1f00_0000), ("4096@0n4096", 0x1000, 0x2000),
    ("1M..<2M", 0x10_0000, 0x20_0000), ("1000..<2000", 0x1000, 0x2000),
  ])
  func `a range is read in four ways`(text: String, start: UInt64, end: UInt64) throws {
    let expected = PhysicalAddress(start)..<PhysicalAddress(end)
    #expect(try Notation.range(text) == expected)
  }

  @Test(arguments: [
    ("", "it has a start and no end"), ("1000", "it has a start and no end"),
    ("-1000", "it has a start and no end"), ("1000-", "nothing is there"),
    ("1000+", "nothing is there"), ("a+b", "'b' is no decimal digit"),
    ("1000-2000-3000", "'-' is no hexadecimal digit"), ("x-y", "'x' is no hexadecimal digit"),
    ("2000-1000", "it ends before it starts"), ("2M..<1M", "it ends before it starts"),
    ("1000..<1000", "it holds no byte"), ("1000+0", "it holds no byte"),
    ("0@16M", "it holds no byte"), ("ffffffffffffffff+2", "it ends beyond 64 bits"),
    ("16E@0", "'E' is no decimal digit"),
    ("0-ffffffffffffffff", "it ends with the last byte of 64 bits"),
  ])
  func `what is no range is refused with the reason`(text: String, reason: String) {
    #expect(
      Self.reason { () throws(NotationError) in
        _ = try Notation.range(text, of: PhysicalAddress.self)
      } == reason)
  }

  // MARK: Devices

  @Test(arguments: [
    "00:1f.2", "0000:00:1f.2", "00:1F:2", "00.1f.2", "[00:1f.2]", "0x00:0x1f.0x2", "0xfa",
    "/sys/bus/pci/devices/0000:00:1f.2", "0:1f.2", "(00:1f.2),", "0000:00:1f:2",
  ])
  func `a device is read in every form that people type`(text: String) throws {
    #expect(
      try Notation.device(text) == PCI.Function(Requester(bus: 0, device: 0x1f, function: 2)))
    #expect(
      try Notation.device(utf8: text.utf8)
        == PCI.Function(Requester(bus: 0, device: 0x1f, function: 2)))
  }

  @Test(arguments: [
    ("0001:00:03.0", 1 as UInt32, 0x0018 as UInt16, "0001:00:03.0"),
    ("1:0:3.0", 1, 0x0018, "0001:00:03.0"), ("[ffff:3a:1f.7]", 0xffff, 0x3aff, "ffff:3a:1f.7"),
    ("10000:e1:00.0", 0x1_0000, 0xe100, "10000:e1:00.0"),
    ("/sys/bus/pci/devices/10001:02:00.0", 0x1_0001, 0x0200, "10001:02:00.0"),
    ("ffffffff:00:00.0", .max, 0, "ffffffff:00:00.0"), ("00000:00:03.0", 0, 0x0018, "00:03.0"),
  ])
  func `the segment is kept and told`(
    text: String, segment: UInt32, requester: UInt16, description: String
  ) throws {
    let function = try Notation.device(text)
    #expect(function == PCI.Function(segment: segment, Requester(rawValue: requester)))
    #expect("\(function)" == description)
  }

  @Test(arguments: [
    ("", "nothing is there"), ("[]", "nothing is there"), ("vmcore", "it is none"),
    ("fa", "a requester's number alone has 0x in front"),
    ("0x10000", "a requester's number has 16 bits"), ("0x", "it is none"),
    ("00:1f", "its bus, its device or its function is missing"),
    ("0000:03:00", "bus '0000' is none of 00 to ff"), ("100:00.0", "bus '100' is none of 00 to ff"),
    ("00:20.0", "device '20' is none of 00 to 1f"), ("00:1f.8", "function '8' is none of 0 to 7"),
    ("00:1f.2.3.4", "it has too many parts"),
    ("zz:00.0", "'zz' is no hexadecimal number of at most 32 bits"),
    ("00:1f.", "'' is no hexadecimal number of at most 32 bits"),
    ("100000000:00:1f.2", "'100000000' is no hexadecimal number of at most 32 bits"),
  ])
  func `what is no device is refused with the reason`(text: String, reason: String) {
    #expect(Self.reason { () throws(NotationError) in _ = try Notation.device(text) } == reason)
  }

  @Test func `devices sort by segment first`() throws {
    #expect(try Notation.device("ff:1f.7") < Notation.device("0001:00:00.0"))
    #expect(try Notation.device("0001:00:00.0") < Notation.device("0001:00:00.1"))
  }

  @Test(
    arguments: [
      ("00:03.0", nil), ("00:03.0/5", 5), ("0000:00:03.0/0x5", 5), ("[00:03.0]/7", 7),
      ("/sys/bus/pci/devices/0000:00:03.0", nil), ("/sys/bus/pci/devices/0000:00:03.0/5", 5),
      ("/sys/devices/pci0000:00/0000:00:1e.0/0000:00:03.0", nil),
    ] as [(String, UInt32?)])
  func `a device may have a PASID behind a slash, and a path in front`(
    text: String, pasid: UInt32?
  ) throws {
    let read = try Notation.deviceAndPASID(text)
    #expect(read.device == PCI.Function(Requester("00:03.0")!))
    #expect(read.pasid == pasid.map { PASID($0) })
  }

  @Test(arguments: ["00:03.0/", "00:03.0/x", "00:03.0/1048576", "/5", "00:03.0/-1"])
  func `what stands behind a device's slash is a PASID or refused`(text: String) {
    #expect(throws: NotationError.self) { try Notation.deviceAndPASID(text) }
  }

  // MARK: PASIDs and counts

  @Test func `a PASID has 20 bits`() throws {
    #expect(try Notation.pasid("5") == PASID(5))
    #expect(try Notation.pasid("0x1a") == PASID(26))
    #expect(try Notation.pasid("1048575") == PASID(0xf_ffff))
    for (text, reason) in [
      ("1048576", "1048576 is above 1048575"), ("1a", "'a' is no decimal digit"),
      ("1M", "'M' is no decimal digit"), ("", "nothing is there"),
    ] {
      #expect(Self.reason { () throws(NotationError) in _ = try Notation.pasid(text) } == reason)
    }
  }

  @Test func `a count lies in its range`() throws {
    #expect(try Notation.count("3", in: 3...5) == 3)
    for text in ["2", "6", "-3", "", "x", "0x3", "99999999999999999999"] {
      #expect(
        Self.reason { () throws(NotationError) in _ = try Notation.count(text, in: 3...5) }
          == "a whole number from 3 to 5 is expected")
    }
  }

  // MARK: As programs print them

  @Test(arguments: [
    ("0", 0 as UInt64), ("0123", 123), ("4096", 4096), ("0x0", 0), ("0X1F", 31),
    ("18446744073709551615", .max), ("0xffffffffffffffff", .max), ("0x00000000000000000001", 1),
  ])
  func `logs have decimal numbers, and hexadecimal ones with 0x`(text: String, value: UInt64) {
    #expect(Notation.printed(text) == value)
  }

  @Test(arguments: [
    "", " ", "0x", "0X", "x1", "1f", "0xg", "-1", "+1", "-0", "0x-1", "0x+1", " 1", "1 ", "1_000",
    "18446744073709551616", "0x10000000000000000", "0x1ffffffffffffffff", "１", "1.0", "0b1",
    "0x\u{301}1", "16M",
  ])
  func `anything else in a log is no number`(text: String) {
    #expect(Notation.printed(text) == nil)
  }

  @Test(arguments: seeds)
  func `what is written is read back`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    for _ in 0..<2000 {
      let value = generator.next() >> UInt64.random(in: 0...63, using: &generator)
      #expect(Notation.printed(String(value)) == value)
      #expect(Notation.printed(hexadecimal(value)) == value)
      #expect(try Notation.address(hexadecimal(value)) == value)
      #expect(try Notation.address("0n\(value)") == value)
      #expect(try Notation.size(String(value)) == value)
    }
  }

  @Test(arguments: seeds)
  func `garbage is read or refused, and never traps`(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    let alphabet = Array("0123456789abcdefxnKMGT:.-+@<,/ [\u{0}é").map { String($0) }
    for _ in 0..<5000 {
      let count = Int.random(in: 0...20, using: &generator)
      let text = (0..<count).map { _ in alphabet.randomElement(using: &generator)! }.joined()
      if let function = try? Notation.device(text) {
        #expect((try? Notation.device("\(function)")) == function)
      }
      if let range = try? Notation.range(text, of: IOVA.self) {
        #expect((try? Notation.range(range.text, of: IOVA.self)) == range)
      }
    }
  }
}
