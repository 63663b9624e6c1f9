import IOMMUFormats
import IOMMUTestSupport
import IOMMUTranslation

/// A machine with sound tables, edited by the fuzzer.
///
/// Two bytes say which machine; each edit is a byte that says what is done, two bytes that say where,
/// and a number. Bytes of raw tables would be rejected at their first entry: edits reach what lies
/// behind sound ones.
final class MachineInput {
  let machine: Machine
  let memory: LackingMemory
  /// The same machine before the edits.
  let before: RandomMachine
  /// What the input has behind the edits.
  var rest: ByteReader
  /// Words that were edited, as they were.
  private var undo: [(address: PhysicalAddress, word: UInt64)] = []

  /// Entries of one flat table at most.
  private static let entryLimit: UInt64 = 1 << 16

  /// Edits of one input at most.
  private static let editLimit = 64

  private init?(_ input: UnsafeRawBufferPointer) {
    guard input.count >= 3 else { return nil }
    var reader = ByteReader(input)
    let kinds = RandomMachine.Kind.allCases
    let made = Made.machine(kinds[reader.below(kinds.count)], UInt64(reader.byte() & 31))
    before = made.original
    let memory = made.edited.memory.base
    let words = made.words
    var leftOut = made.edited.memory.leftOut
    var units = made.edited.machine.units
    var undo: [(address: PhysicalAddress, word: UInt64)] = []
    let count = min(reader.below(256), Self.editLimit)
    for _ in 0..<count where !reader.isAtEnd {
      let operation = reader.byte()
      let place = Int(reader.number(byteCount: 2))
      let value = reader.wide()
      // A word that is not zero, or any of the first half MiB.
      let address = operation & 8 == 0 ? words[place % words.count] : UInt64(place) << 3
      let physical = PhysicalAddress(address)
      let old = memory.quadword(at: physical) ?? 0
      let new: UInt64
      switch operation & 7 {
      case 0: new = value
      case 1: new = old ^ 1 << (value & 63)
      case 2: new = old &+ value
      // A pointer to where some other entry lies.
      case 3: new = words[Int(value % UInt64(words.count))] & ~0xfff | old & 0xfff
      case 4:
        leftOut.formSymmetricDifference([address & ~0xfff])
        continue
      case 5: new = .max
      default:
        Self.edit(&units, Int(operation >> 4), value)
        continue
      }
      undo.append((physical, old))
      memory.store(new, at: physical)
    }
    self.undo = undo
    machine = Machine(name: "fuzz", units: units)
    self.memory = LackingMemory(memory, without: leftOut)
    rest = reader
  }

  /// Runs `body` on the machine that an input makes, if it makes one; afterwards no edit is left.
  static func with(_ input: UnsafeRawBufferPointer, _ body: (MachineInput) -> Void) {
    guard let edited = MachineInput(input) else { return }
    // The largest flat tables have a million entries, and writers go over them a dozen times.
    let tables = edited.machine.tables(in: edited.memory).tables.prefix(8)
    if tables.allSatisfy({ WalkExercise.entryCount(of: $0) <= entryLimit }) { body(edited) }
    for (address, word) in edited.undo.reversed() { edited.memory.base.store(word, at: address) }
  }

  /// Changes a register of the unit, as far as the machine says what it is.
  private static func edit(_ units: inout [TranslationUnit], _ place: Int, _ value: UInt64) {
    if var unit = units[0].as(VTd.Unit.self) {
      switch place % 8 {
      case 0:
        unit.rootTableAddress = VTd.RootTableAddress(
          rawValue: unit.rootTableAddress.rawValue ^ value)
      case 1: unit.limits.hostAddressWidth = 32 + Int(value % 21)
      case 2: unit.limits.maximumGuestAddressWidth = 1 + Int(value % 64)
      case 3: unit.limits.supportedWidths = UInt8(truncatingIfNeeded: value)
      case 4: unit.limits.has2MiBPages.toggle()
      case 5: unit.interruptTableAddress = VTd.InterruptTableAddress(rawValue: value)
      case 6: unit.status = VTd.GlobalStatus(rawValue: UInt32(truncatingIfNeeded: value))
      default: unit.limits.pasidBits = 1 + Int(value % 20)
      }
      units[0] = .vtd(unit)
    } else if var chip = units[0].as(Calgary.Chip.self), var bridge = chip.hostBridges[1] {
      switch place % 4 {
      case 0:
        bridge.tableAddress = Calgary.TableAddressRegister(
          rawValue: bridge.tableAddress.rawValue ^ value)
      case 1:
        bridge.configuration = Calgary.ConfigurationRegister(
          rawValue: UInt32(truncatingIfNeeded: value))
      case 2: bridge.memory1 = IOVA(min(value, value &<< 4))..<IOVA(max(value, value &<< 4))
      default:
        bridge.buses =
          UInt8(min(value & 255, value >> 8 & 255))...UInt8(max(value & 255, value >> 8 & 255))
      }
      chip.hostBridges[1] = bridge
      units[0] = .calgary(chip)
    } else if let node = units[0].as(GART.Node.self) {
      let word = UInt32(truncatingIfNeeded: value)
      units[0] = .gart(
        GART.Node(
          device: node.device,
          control: place % 3 == 0 ? GART.ApertureControl(rawValue: word) : node.control,
          base: place % 3 == 1 ? GART.ApertureBase(rawValue: word) : node.base,
          tableBase: place % 3 == 2 ? GART.TableBase(rawValue: word) : node.tableBase))
    }
  }
}

/// A machine that was made for an earlier input: as it was, and once more to be edited.
private struct Made {
  let original: RandomMachine
  let edited: RandomMachine
  /// Where words are that are not zero.
  let words: [UInt64]

  private struct Key: Hashable {
    var kind: RandomMachine.Kind
    var seed: UInt64
  }

  nonisolated(unsafe) private static var all: [Key: Made] = [:]

  static func machine(_ kind: RandomMachine.Kind, _ seed: UInt64) -> Made {
    let key = Key(kind: kind, seed: seed)
    if let made = all[key] { return made }
    guard let original = try? RandomMachine(kind, seed: seed),
      let edited = try? RandomMachine(kind, seed: seed)
    else { fatalError("no memory") }
    var words: [UInt64] = []
    for range in original.memory.base.backedRanges {
      for address in stride(from: range.lowerBound.rawValue, to: range.upperBound.rawValue, by: 8)
      where original.memory.base.quadword(at: PhysicalAddress(address)) != 0 {
        words.append(address)
      }
    }
    require(!words.isEmpty, "a machine has tables")
    let made = Made(original: original, edited: edited, words: words)
    all[key] = made
    return made
  }
}
