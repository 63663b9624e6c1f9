import IOMMUFormats
import Synchronization
import Testing

@testable import IOMMUHardware

@Suite struct AMDViUnitCommandTests {
  typealias Offset = AMDVi.RegisterOffset

  /// A device's TLB that writes down what it is told.
  final class RecordingTLB: AMDViDeviceTLB {
    struct Told {
      var commands: [AMDVi.InvalidateDeviceTLBCommand] = []
      var responses: [AMDViPageResponse] = []
    }
    let told = Mutex(Told())
    let answers: Bool
    init(answers: Bool = true) { self.answers = answers }

    func invalidate(_ command: AMDVi.InvalidateDeviceTLBCommand) -> Bool {
      told.withLock { $0.commands.append(command) }
      return answers
    }
    func receive(_ response: AMDViPageResponse) {
      told.withLock { $0.responses.append(response) }
    }
  }

  @Test func `C1: a completion wait stores its quadword, and the head is where the tail is`() throws
  {
    let machine = try AMDViMachine()
    machine.run(
      AMDVi.CompletionWaitCommand(store: (PhysicalAddress(0x18_0008), 0x1122_3344_5566_7788)))
    #expect(machine.word(0x18_0008) == 0x1122_3344_5566_7788 && machine.word(0x18_0000) == 0)
    #expect(machine[Offset.commandHead] == 0x10 && machine[Offset.status] == 0x18)
  }

  @Test func `C2: a completion wait sets its bit, and interrupts where that is on`() throws {
    let machine = try AMDViMachine()
    machine.enableMessages()
    machine.run(AMDVi.CompletionWaitCommand(interrupts: true))
    #expect(machine[Offset.status] == 0x1c && machine.messages.isEmpty)
    machine[Offset.status] = 0x4
    #expect(machine[Offset.status] == 0x18)
    machine[Offset.control] = 0x1415
    machine.run(AMDVi.CompletionWaitCommand(interrupts: true))
    #expect(machine.messages == [InterruptMessage(address: 0xfee0_1000, data: 0x40)])
  }

  @Test func `A15: status bits go by writing 1`() throws {
    let machine = try AMDViMachine()
    machine.run(AMDVi.CompletionWaitCommand(interrupts: true))
    _ = machine.translate(0x4000_0000)
    #expect(machine[Offset.status] == 0x1e)
    machine[Offset.status] = 0x07
    #expect(machine[Offset.status] == 0x18)
    machine[Offset.eventHead] = 0x20
    _ = machine.translate(0x4000_0000)
    #expect(machine[Offset.status] == 0x11)
    machine[Offset.status] = 0x02
    #expect(machine[Offset.status] == 0x11)
    machine[Offset.status] = ~0
    #expect(machine[Offset.status] == 0x10)
  }

  @Test func `commands run to the tail, and the ring comes round`() throws {
    let machine = try AMDViMachine()
    for round: UInt64 in 0..<600 {
      machine.run(AMDVi.CompletionWaitCommand(store: (PhysicalAddress(0x18_0000), round)))
      #expect(machine.word(0x18_0000) == round)
    }
    #expect(machine[Offset.commandHead] == 600 * 16 % 4096)
    // Several at a time, across the end.
    let indices: Range<UInt64> = 0..<200
    machine.run(
      indices.map { index in
        let command = AMDVi.CompletionWaitCommand(
          store: (PhysicalAddress(0x18_1000 + index * 8), index + 1))
        return (command.low, command.high)
      })
    for index in indices { #expect(machine.word(0x18_1000 + index * 8) == index + 1) }
  }

  @Test func `commands wait until the buffer runs`() throws {
    let machine = try AMDViMachine()
    machine[Offset.control] = 0x0405
    machine.run(AMDVi.CompletionWaitCommand(store: (PhysicalAddress(0x18_0000), 7)))
    #expect(machine.word(0x18_0000) == 0 && machine[Offset.commandHead] == 0)
    machine[Offset.control] = 0x1405
    #expect(machine.word(0x18_0000) == 7 && machine[Offset.commandHead] == 0x10)
  }

  static let bad: [(UInt64, UInt64, UInt64)] = [
    // No such command.
    (0x0, 0, 0), (0x9, 0, 0), (0xa, 0, 0), (0xb, 0, 0), (0xc, 0, 0), (0xd, 0, 0),
    (0xe, 0, 0), (0xf, 0, 0),
    // A reserved bit in each.
    (0x1, 1 << 52, 0), (0x2, 1 << 16, 0), (0x2, 0, 1), (0x3, 1 << 20, 0), (0x3, 0, 1 << 3),
    (0x4, 0, 1 << 1), (0x5, 1 << 59, 0), (0x6, 1 << 16, 0), (0x6, 0, 1 << 5), (0x7, 1 << 16, 0),
    (0x7, 0, 1), (0x8, 1, 0), (0x8, 0, 1),
  ]

  @Test(arguments: bad)
  func `E13: a command that is none stops the buffer, and the event tells where it is`(
    code: UInt64, low: UInt64, high: UInt64
  ) throws {
    let machine = try AMDViMachine()
    let wait = AMDVi.CompletionWaitCommand(store: (PhysicalAddress(0x18_0000), 1))
    machine.run(
      Array(repeating: (wait.low, wait.high), count: 6) + [(code << 60 | low, high)]
        + [(AMDVi.CompletionWaitCommand(store: (PhysicalAddress(0x18_0000), 2)).low, 2)])
    #expect(machine.events() == ["0000000000000050 6000140000000000"])
    // The head goes on when a command is fetched.
    #expect(machine[Offset.commandHead] == 0x70 && machine[Offset.status] == 0x0a)
    #expect(machine.word(0x18_0000) == 1)
    machine[Offset.commandTail] = 0x90
    #expect(machine[Offset.commandHead] == 0x70)
    // Off, the pointers mended, and on.
    machine[Offset.control] = 0x0405
    machine[Offset.commandHead] = 0x70
    machine[Offset.commandTail] = 0x80
    machine[Offset.control] = 0x1405
    #expect(machine.word(0x18_0000) == 2 && machine.isCommandBufferRunning)
  }

  @Test func `commands that the unit does not have are illegal`() throws {
    let device = AMDViMachine.device
    let commands: [(low: UInt64, high: UInt64)] = [
      AMDVi.InvalidateDeviceTLBCommand(device).words,
      AMDVi.PrefetchPagesCommand(device, address: IOVA(0), count: 1).words,
      AMDVi.CompletePageRequestCommand(device, tag: 0, response: 0).words,
      AMDVi.InvalidateAllCommand().words,
      AMDVi.InvalidatePagesCommand(domainID: 5, pasid: PASID(1)).words,
    ]
    for command in commands {
      var plain = AMDViUnitConfiguration.firstRevision
      plain.capability = AMDVi.CapabilityHeader(hasIOTLB: false, hasExtendedFeatures: false)
      let machine = try AMDViMachine(plain)
      machine.run([command])
      #expect(machine.events() == ["0000000000000050 0000140000000000"])
      let other = try AMDViMachine()
      other.unit.attach(RecordingTLB(), to: device)
      other.run([command])
      #expect(other.events().isEmpty && other.isCommandBufferRunning)
    }
  }

  @Test func `COMMAND_HARDWARE_ERROR: a command, or a store, where no memory answers`() throws {
    let machine = try AMDViMachine()
    machine.run(AMDVi.CompletionWaitCommand(store: (PhysicalAddress(0xc000_0008), 1)))
    #expect(machine.events() == ["0000000000000064 080000c000000000"])
    #expect(!machine.isCommandBufferRunning && machine[Offset.commandHead] == 0x10)
    #expect(machine[Offset.hardwareEventStatus] == 1)
    #expect(machine[Offset.hardwareEventHigh] == 0x6400_0000_0000_0000)
    machine[Offset.control] = 0x0405
    machine[Offset.commandBufferBase] = 0x0800_0000_c000_0000
    machine[Offset.control] = 0x1405
    machine[Offset.commandTail] = 0x10
    #expect(machine.events() == ["0000000000000064 000000c000000000"])
    #expect(!machine.isCommandBufferRunning && machine[Offset.commandHead] == 0)
  }

  @Test func `C9 and C10: a device is asked to drop what it keeps`() throws {
    let machine = try AMDViMachine()
    let device = Requester("03:00.0")!
    let tlb = RecordingTLB()
    machine.unit.attach(tlb, to: device)
    machine.run(AMDVi.InvalidateDeviceTLBCommand(device))
    machine.run(AMDVi.InvalidateDeviceTLBCommand(device, pasid: PASID(0xabcd)))
    let commands = tlb.told.withLock { $0.commands }
    #expect(commands.map(\.low) == [0x4000_0300_2000_0300, 0x40cd_0300_20ab_0300])
    #expect(commands.map(\.pasid) == [nil, PASID(0xabcd)])
    #expect(machine.events().isEmpty)
  }

  @Test func `E15: a device that does not answer is told of, once there is a time-out`() throws {
    let machine = try AMDViMachine()
    let device = Requester("03:00.0")!
    machine.unit.attach(RecordingTLB(answers: false), to: device)
    let wait = AMDVi.CompletionWaitCommand(store: (PhysicalAddress(0x18_0000), 1)).words
    let ask = AMDVi.InvalidateDeviceTLBCommand(device).words
    machine.run(Array(repeating: wait, count: 7) + [ask])
    #expect(machine.events().isEmpty)
    // InvTimeOut 1 s; a device that is not there does not answer either.
    machine[Offset.control] = 0x1485
    machine.run([ask, wait])
    #expect(machine.events() == ["0003000000000070 8000140000000000"])
    machine.unit.attach(nil, to: device)
    machine.run([ask])
    #expect(machine.events() == ["0003000000000070 a000140000000000"])
    #expect(machine.isCommandBufferRunning)
    // The reserved code is none.
    machine[Offset.control] = 0x14e5
    machine.run([ask])
    #expect(machine.events().isEmpty)
  }

  @Test func `C12: a prefetch fills the caches, and what stops it leaves no event`() throws {
    let machine = try AMDViMachine()
    machine.store([0x16_1a30: 0x6000_0000_0020_1001])
    machine.run(
      AMDVi.PrefetchPagesCommand(AMDViMachine.device, address: IOVA(0x1234_5000), count: 4))
    #expect(machine.events().isEmpty && !machine.wasAborted)
    machine.store([0x16_1a28: 0, 0x16_1a30: 0])
    #expect(machine.translate() == 0x20_0010)
    #expect(machine.translate(0x1234_6000) == 0x20_1000)
    #expect(machine.translate(0x1234_7000) == nil)
    // Inval: what was known of the page goes first.
    machine.run(
      AMDVi.PrefetchPagesCommand(
        AMDViMachine.device, address: IOVA(0x1234_5000), count: 1, invalidates: true))
    #expect(machine.translate() == nil && machine.translate(0x1234_6000) == 0x20_1000)
  }

  @Test func `C13 and C14: software's answer reaches the device`() throws {
    let machine = try AMDViMachine()
    let device = Requester("03:00.0")!
    let tlb = RecordingTLB()
    machine.unit.attach(tlb, to: device)
    machine.run(AMDVi.CompletePageRequestCommand(device, pasid: PASID(7), tag: 0x123, response: 0))
    machine.run(AMDVi.CompletePageRequestCommand(device, tag: 0x1ff, response: 15))
    #expect(
      tlb.told.withLock { $0.responses } == [
        AMDViPageResponse(pasid: PASID(7), tag: 0x123, code: 0),
        AMDViPageResponse(pasid: nil, tag: 0x1ff, code: 15),
      ])
  }
}

extension AMDViCommand {
  /// For lists of several kinds.
  var words: (low: UInt64, high: UInt64) { (low, high) }
}
