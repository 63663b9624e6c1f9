import IOMMUFormats
import IOMMUTranslation
import Testing

@testable import IOMMUInspection
@testable import IOMMULinux

/// Requesters with their drivers, wherever they are printed.
@Suite struct DeviceNamesTests {
  private static func function(_ text: String) -> PCI.Function {
    PCI.Function(Requester(text)!)
  }

  private static func kernel(
    _ devices: [(function: String, requester: String, driver: String?)]
  ) -> IOMMUState {
    var state = IOMMUState()
    state.devices = devices.map { found in
      var device = KernelDevice(
        name: "0000:\(found.function)", address: 1, function: function(found.function))
      device.requester = function(found.requester)
      device.driver = found.driver
      return device
    }
    return state
  }

  private static let names = DeviceNames([
    kernel([("00:03.0", "00:03.0", "e1000e"), ("00:03.1", "00:03.1", nil)])
  ])

  @Test func `drivers by what devices call themselves in requests`() {
    let names = DeviceNames([
      Self.kernel([
        ("00:03.0", "00:03.0", "e1000e"), ("00:04.0", "00:04.0", nil), ("00:05.0", "00:05.0", ""),
        ("05:01.0", "05:00.0", "snd_ens1370"), ("06:01.0", "06:00.0", "e1000"),
        ("06:02.0", "06:00.0", "ahci"), ("07:01.0", "07:00.0", "e1000"),
        ("07:02.0", "07:00.0", "e1000"),
      ]),
      Self.kernel([("00:03.0", "00:03.0", "vfio-pci"), ("00:04.0", "00:04.0", "nvme")]),
    ])
    for (device, driver) in [
      // The first kernel's; the second's where that has none.
      ("00:03.0", "e1000e"), ("00:04.0", "nvme"), ("00:05.0", nil),
      // Behind a bridge; which of two drivers it is nobody can tell.
      ("05:01.0", nil), ("05:00.0", "snd_ens1370"), ("06:00.0", nil), ("07:00.0", "e1000"),
    ] as [(String, String?)] {
      #expect(names[Self.function(device)] == driver, "\(device)")
    }
    #expect(
      names.text(.requester(Self.function("00:03.0"), addressSpace: PASID(5))) == "00:03.0/5 e1000e"
    )
    #expect(names.text(Self.function("00:05.0")) == "00:05.0")
    // A bus is many devices, whichever of them is known.
    #expect(names.text(.buses(0...0)) == "bus:00" && names[.aperture] == nil)
    #expect(DeviceNames.none.text(Self.function("00:03.0")) == "00:03.0")
  }

  @Test func `a name stands behind the word that has the device in it`() {
    let device = Self.function("00:03.0")
    for (sentence, named) in [
      ("00:03.0 writes IOVA 0x1000", "00:03.0 e1000e writes IOVA 0x1000"),
      ("00:03.0/5 reads", "00:03.0/5 e1000e reads"), ("of 00:03.0", "of 00:03.0 e1000e"),
      ("context entry 00:03.0: none", "context entry 00:03.0 e1000e: none"), ("nobody", "nobody"),
    ] {
      #expect(Self.names.naming(device, in: sentence) == named)
    }
    #expect(Self.names.naming(nil, in: "of 00:03.0") == "of 00:03.0")
  }

  @Test func `what a dump calls a driver cannot disguise itself`() {
    let names = DeviceNames([Self.kernel([("00:03.0", "00:03.0", "a\u{1b}[2J\nb")])])
    let text = names.text(Self.function("00:03.0"))
    #expect(!text.contains("\u{1b}") && !text.contains("\n") && text.hasPrefix("00:03.0 a"))
  }

  @Test func `listings, walks, ways and annotations have names`() throws {
    let small = try SmallMachine()
    var text = ""
    let report = try MapsReport(
      small.machine, in: small.memory, table: "00:03.0", names: Self.names)
    report.writeText(of: small.memory, to: &text)
    #expect(text.hasPrefix("00:03.0 e1000e  second-stage table 0x33000, 3 levels: "))
    // What programs read has columns of its own, and no names.
    text = ""
    report.writeTSV(of: small.memory, to: &text)
    #expect(text.contains("\n00:03.0\t0x10000\t") && !text.contains("e1000e"))
    text = ""
    MapsSummary(
      MapsReport(all: small.machine, in: small.memory, names: Self.names), in: small.memory
    ).write(to: &text)
    #expect(text.contains("\n00:03.0 e1000e  ") && text.contains("\n00:03.1         "))
    #expect(text.contains("same table as 00:03.0 e1000e"))
    text = ""
    let device = Self.function("00:03.0")
    try ToldWalk(
      device, IOVA(0x10000), access: .read, machine: small.machine, in: small.memory,
      names: Self.names
    ).write(to: &text)
    #expect(text.hasPrefix("00:03.0 e1000e reads IOVA 0x10000: "))
    #expect(text.hasSuffix("\n00:03.0 e1000e reads 0x50000, 4 KiB to the end of the page\n"))
    text = ""
    ReachReport(
      PhysicalAddress(0x50000), machine: small.machine, in: small.memory, names: Self.names
    ).write(to: &text)
    #expect(
      text.contains("00:03.0 e1000e  IOVA 0x10000") && text.contains("\n00:03.1         IOVA "))
    let annotator = Annotator(small.machine, in: small.memory, names: Self.names)
    let entries =
      annotator.entries(at: PhysicalAddress(0x31180), in: small.memory)
      + annotator.entries(at: PhysicalAddress(0x35080), in: small.memory)
    #expect(
      entries.map(\.title) == [
        "context entry 00:03.0 e1000e", "SS-PTE of 00:03.0 e1000e and 1 more",
      ])
  }

  @Test func `names change nothing where there are none`() throws {
    let small = try SmallMachine()
    func all(_ names: DeviceNames?) throws -> String {
      var text = ""
      let report =
        names.map { MapsReport(all: small.machine, in: small.memory, names: $0) }
        ?? MapsReport(all: small.machine, in: small.memory)
      report.writeText(of: small.memory, to: &text)
      MapsSummary(report, in: small.memory).write(to: &text)
      return text
    }
    #expect(try all(DeviceNames([Self.kernel([("00:09.0", "00:09.0", "e1000e")])])) == all(nil))
  }

  @Test func `a gap of one requester's table`() {
    let device = Self.function("00:03.0")
    let gap = TableGap(
      .absent, .addresses(.requester(device), IOVA(0)..<IOVA(0x1000)), in: .level(1),
      at: PhysicalAddress(0x5000))
    #expect(gap.text(Self.names).hasPrefix("00:03.0 e1000e IOVA 0x0..<0x1000: unknown, "))
    let whole = TableGap(.absent, .unit, in: .level(1), at: PhysicalAddress(0))
    #expect(whole.text(Self.names) == whole.text)
  }
}
