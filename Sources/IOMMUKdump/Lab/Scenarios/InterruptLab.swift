import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// A remapping unit with interrupt remapping on, as a primary kernel leaves it, and a device that goes on
/// sending one interrupt.
struct InterruptLab {
  private let memory: FlatMemory
  private let unit: RemappingUnit
  private static let source = Requester(bus: 1, device: 0, function: 0)
  /// Tables of the old kernel and of the one after it.
  private static let oldTable = PhysicalAddress(0x10_0000)
  private static let newTable = PhysicalAddress(0x20_0000)
  /// The entry that the device's interrupt names.
  private static let index: UInt16 = 5

  /// What the device sends.
  let leftover = VTd.InterruptRequest(index: index)

  init() throws(SetUpError) {
    do {
      memory = try FlatMemory(byteCount: 4 << 20)
    } catch {
      throw .memory(error)
    }
    // Nothing is remembered: kernels have entries dropped when they put another table in force.
    var configuration = RemappingUnitConfiguration.qemu
    configuration.caches = .none
    do {
      unit = try RemappingUnit(configuration, memory: memory)
    } catch {
      throw .remappingUnit(error)
    }
    VTd.InterruptRemappingEntry(vector: 0x41, destination: 2, usesExtendedMode: false)
      .store(
        to: memory,
        at: PhysicalAddress(Self.oldTable.rawValue + UInt64(Self.index) * 16))
    setTable(Self.oldTable)
    switchRemapping(on: true)
  }

  private var status: VTd.GlobalStatus {
    VTd.GlobalStatus(
      rawValue: UInt32(unit.read(VTd.RegisterOffset.globalStatus, byteCount: 4)))
  }

  private func command(_ change: (inout VTd.GlobalCommand) -> Void) {
    var command = VTd.GlobalCommand(keeping: status)
    change(&command)
    unit.write(UInt64(command.rawValue), at: VTd.RegisterOffset.globalCommand, byteCount: 4)
  }

  private func setTable(_ table: PhysicalAddress) {
    unit.write(
      VTd.InterruptTableAddress(table: table, sizeCode: 7).rawValue,
      at: VTd.RegisterOffset.interruptTableAddress, byteCount: 8)
    command { $0.setsInterruptTablePointer = true }
  }

  private func switchRemapping(on isOn: Bool) {
    command { $0.enablesInterruptRemapping = isOn }
  }

  /// The capture kernel starts with a table of its own, empty or a copy of the old one.
  func takeOver(copying: Bool) {
    if copying, let bytes = memory.bytes(at: Self.oldTable, count: 4096) {
      memory.write(bytes, at: Self.newTable)
    }
    switchRemapping(on: false)
    setTable(Self.newTable)
    switchRemapping(on: true)
  }

  /// The crash path switches remapping off.
  func switchOff() { switchRemapping(on: false) }

  /// What becomes of an interrupt.
  func word(_ request: VTd.InterruptRequest) -> String {
    switch unit.remap(request, from: Self.source) {
    case .blocked: return "blocked"
    case .delivered(let delivery):
      return "delivered to vector \(hexadecimal(UInt64(delivery.vector)))"
    case .passed(let request):
      return request.index == nil
        ? "passed as it is" : "passed, an index read as a vector"
    case .posted: return "posted"
    }
  }
}
