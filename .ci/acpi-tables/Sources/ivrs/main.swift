import IOMMUFormats
import Random

// usage: ivrs DIRECTORY COMPILER KINDS
//
// COMPILER is iasl's version in hexadecimal, which it writes into what it compiles; KINDS are the types
// of IVHD that it knows, as 10,11.
typealias IVRS = AMDVi.IVRS

let directory = CommandLine.arguments[1]
let compiler = UInt32(CommandLine.arguments[2], radix: 16)!
let kinds = CommandLine.arguments[3].split(separator: ",").map {
  IVRS.BlockType(rawValue: UInt8($0, radix: 16)!)
}
for number in 1...100 {
  var random = Generator(seed: UInt64(number))
  func settings() -> IVRS.DeviceSettings {
    // Bit 3 is reserved, and the two of SysMgt are one number.
    IVRS.DeviceSettings(rawValue: UInt8.random(in: 0...255, using: &random) & 0xf7)
  }
  func range() -> (Requester, Requester) {
    let first = UInt16.random(in: 0...0xfff0, using: &random)
    return (
      Requester(rawValue: first),
      Requester(rawValue: .random(in: first...0xffff, using: &random))
    )
  }
  func entries(_ type: IVRS.BlockType) -> [IVRS.DeviceEntry] {
    (0..<Int.random(in: 1...9, using: &random)).flatMap { _ -> [IVRS.DeviceEntry] in
      let (first, last) = range()
      switch Int.random(in: 0...(type == .acpiUnit ? 8 : 7), using: &random) {
      case 0: return [.select(first, settings())]
      case 1: return [.select(first, settings(), isWithoutATS: true)]
      case 2: return IVRS.DeviceEntry.range(first, through: last, settings())
      case 3:
        return IVRS.DeviceEntry.range(first, through: last, settings(), isWithoutATS: true)
      case 4: return [.alias(first, carries: last, settings())]
      case 5:
        return IVRS.DeviceEntry.aliasRange(first, through: last, carries: first, settings())
      case 6: return [.ioapic(.random(in: 0...255, using: &random), carries: first, settings())]
      case 7: return [.hpet(.random(in: 0...3, using: &random), carries: first, settings())]
      default:
        return [
          .acpi(first, hardwareID: "AMDI0020", path: "\\_SB.FUR\(number % 4)", settings())
        ]
      }
    }
  }
  var blocks: [IVRS.Block] = []
  for type in kinds where Bool.random(using: &random) || type == .unit {
    let isExtended = type != .unit
    blocks.append(
      .init(
        type, deviceID: Requester(rawValue: 2),
        base: PhysicalAddress(UInt64.random(in: 1...0x3_ffff, using: &random) << 14),
        segment: .random(in: 0...3, using: &random),
        flags: IVRS.UnitFlags(
          rawValue: .random(in: 0...(isExtended ? 0x3f : 0xff), using: &random)),
        messageNumber: .random(in: 0...31, using: &random),
        features: .random(in: 0 ... .max, using: &random),
        extendedFeatures: isExtended ? .random(in: 0 ... .max, using: &random) : 0,
        entries: entries(type)))
  }
  for _ in 0..<Int.random(in: 0...3, using: &random) {
    let (first, last) = range()
    let start = UInt64.random(in: 1...0xffff_ffff, using: &random) << 12
    blocks.append(
      .init(
        memory: PhysicalAddress(
          start)..<PhysicalAddress(
            start + UInt64.random(in: 1...99, using: &random) << 12),
        for: [.all, .one(first), .range(first: first, last: last)].randomElement(using: &random)!,
        permissions: Permissions(rawValue: .random(in: 0...3, using: &random)),
        isExclusion: .random(using: &random)))
  }
  let table = IVRS(
    header: ACPI.TableHeader(
      revision: 2, oemID: "EXAMPL", oemTableID: "IVRTABLE",
      oemRevision: .random(in: 0 ... .max, using: &random), creatorID: "INTL",
      creatorRevision: compiler),
    info: IVRS.Info(
      physicalAddressWidth: .random(in: 32...52, using: &random), virtualAddressWidth: 64,
      guestWidthCode: 2, hasExtendedFeatures: .random(using: &random)),
    blocks: blocks)
  guard (try? IVRS(parsing: table.bytes)) == table else { fatalError("table \(number)") }
  save(table.bytes, to: "\(directory)/table\(number).dat")
}
