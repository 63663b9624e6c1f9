import CReference
import IOMMUFormats
import IOMMUHardware
import IOMMUKdump
import IOMMUTranslation

/// A Calgary chip with one bus in use, its driver, and a table of 8 MiB.
final class CalgaryBus {
  let memory: FlatMemory
  let driver: LinuxCalgaryDriver
  private let machine: CalgaryMachine

  /// Pages of I/O space that the table maps.
  static let pageCount = 1 << 20

  init() throws {
    let tableByteCount = UInt64(Self.pageCount) * 8
    let memory = try FlatMemory(byteCount: 4 * tableByteCount)
    self.memory = memory
    let firmware = CalgaryFirmware(
      model: .calgary, chassis: [[.init(base: PhysicalAddress(0xfe00_0000), buses: [0...0])]])
    machine = CalgaryMachine(firmware, memory: memory) { _, _ in PhysicalAddress(tableByteCount) }
    driver = LinuxCalgaryDriver(
      .init(endOfRAM: 4 << 30, tableSize: .mib8, translatesEmptySlots: true), on: machine)
    try driver.start()
    precondition(driver.buses.count == 1, "the driver has given the bus a table")
  }

  /// Where the driver's table lies in memory.
  var table: UnsafeMutablePointer<UInt8> { memory.start + Int(driver.buses[0].table.rawValue) }

  /// What those who read tables find: a machine with one of them.
  var inspected: Machine {
    Machine(name: "Calgary", units: machine.units.map { .calgary($0.chip) })
  }
}
