import IOMMUFormats
import IOMMUTesting
import IOMMUTranslation
import Testing

// docs/tutorials/unit-test.md 1
/// Writes VT-d tables of three levels; the root table lies at 0x10000.
public struct Driver {
  public private(set) var ram = [UInt8](repeating: 0, count: 1 << 20)
  private var nextTable = 0x11000

  public init() {}

  /// Maps one page for a device of bus 0; `bits` are R, 1, and W, 2.
  public mutating func map(device: Int, iova: Int, page: Int, bits: Int) {
    let contexts = table(at: 0x10000, bits: 1)
    let uppermost = table(at: contexts + 16 * device, bits: 1)
    store(0x101, at: contexts + 16 * device + 8)  // domain 1, three levels
    let middle = table(at: uppermost + 8 * (iova >> 30 & 511), bits: 3)
    let lowest = table(at: middle + 8 * (iova >> 21 & 511), bits: 3)
    store(page | bits, at: lowest + 8 * (iova >> 12 & 511))
  }

  /// The table that an entry leads to; one that is not there is made.
  private mutating func table(at entry: Int, bits: Int) -> Int {
    var value = 0
    for index in (0..<8).reversed() { value = value << 8 | Int(ram[entry + index]) }
    if value == 0 {
      value = nextTable | bits
      nextTable += 4096
      store(value, at: entry)
    }
    return value & ~4095
  }

  private mutating func store(_ value: Int, at address: Int) {
    for index in 0..<8 { ram[address + index] = UInt8(value >> (8 * index) & 255) }
  }
}
// end

// docs/tutorials/unit-test.md 2
/// What the unit's registers hold when the driver is done.
func machine() -> Machine {
  let unit = VTd.Unit(
    base: PhysicalAddress(0xfed9_0000),
    rootTableAddress: VTd.RootTableAddress(rootTable: PhysicalAddress(0x10000)),
    status: VTd.GlobalStatus(translates: true), limits: .permissive)
  return Machine(name: "driver", units: [.vtd(unit)])
}

/// A page at 0x8000 that 00:03.0 reads and writes by the number 0x1000.
func expectedTables() throws -> VTd.Tables<FlatMemory> {
  let tables = try VTd.Tables(in: FlatMemory(byteCount: 1 << 20), levels: 3)
  let page = PhysicalAddress(0x8000)..<PhysicalAddress(0x9000)
  try tables.map("00:03.0", at: IOVA(0x1000), page, .readWrite)
  return tables
}

@Test func `a page is mapped as it was asked for`() throws {
  var driver = Driver()
  driver.map(device: 0x18, iova: 0x1000, page: 0x8000, bits: 3)
  let memory = try FlatMemory(driver.ram)
  try requireSameMappings(MachineInMemory(machine(), in: memory), expectedTables())
}
// end

extension Snippet {
  static let unitTest = Snippet(
    page: "docs/tutorials/unit-test.md", source: "UnitTestTutorial",
    blocks: [
      { _ in },
      { _ in },
      { tell in
        // docs/tutorials/unit-test.md 3
        var driver = Driver()
        driver.map(device: 0x18, iova: 0x1000, page: 0x8000, bits: 2)
        let memory = try FlatMemory(driver.ram)
        do {
          try requireSameMappings(MachineInMemory(machine(), in: memory), expectedTables())
        } catch {
          tell(error)
        }
        // end
      },
      { tell in
        // docs/tutorials/unit-test.md 4
        var driver = Driver()
        driver.map(device: 0x18, iova: 0x1000, page: 0x8000, bits: 3)
        let memory = try FlatMemory(driver.ram)
        tell(MachineInMemory(machine(), in: memory).annotatedHexdump())
        // end
      },
    ])
}
