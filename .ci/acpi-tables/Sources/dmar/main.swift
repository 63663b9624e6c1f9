import IOMMUFormats
import Random

let directory = CommandLine.arguments[1]
let newest = UInt16(CommandLine.arguments[2])!
for number in 1...100 {
  var random = Generator(seed: UInt64(number))
  func scopes(_ types: [VTd.DMAR.ScopeType], steps: Int = 3) -> [VTd.DMAR.DeviceScope] {
    (0..<Int.random(in: 1...3, using: &random)).map { _ in
      let type = types.randomElement(using: &random)!
      let isPCI = type == .endpoint || type == .subHierarchy
      return VTd.DMAR.DeviceScope(
        type, enumerationID: isPCI ? 0 : .random(in: 0...255, using: &random),
        startBus: .random(in: 0...255, using: &random),
        path: (0..<Int.random(in: 1...(isPCI ? steps : 1), using: &random)).map { _ in
          VTd.DMAR.PathStep(
            device: .random(in: 0...31, using: &random),
            function: .random(in: 0...7, using: &random))
        })
    }
  }
  func base() -> PhysicalAddress {
    PhysicalAddress(UInt64.random(in: 1...0xffff_ffff, using: &random) << 12)
  }
  var structures: [VTd.DMAR.Structure] = []
  let segment = UInt16.random(in: 0...3, using: &random)
  let first = base()
  structures.append(
    .hardwareUnit(
      .init(
        base: first, segment: segment, scopes: scopes([.endpoint, .subHierarchy, .ioapic, .hpet]))))
  structures.append(
    .hardwareUnit(
      .init(base: base(), segment: segment, includesAllPCI: true, scopes: scopes([.ioapic, .hpet])))
  )
  let start = base()
  structures.append(
    .reservedMemory(
      .init(
        start..<PhysicalAddress(start.rawValue + 4096 * .random(in: 1...9, using: &random)),
        segment: segment, scopes: scopes([.endpoint]))))
  structures.append(
    .rootPortATS(
      Bool.random(using: &random)
        ? .allPorts(segment: segment)
        : .init(segment: segment, scopes: scopes([.subHierarchy]))))
  structures.append(
    .hardwareAffinity(
      .init(base: first, proximityDomain: .random(in: 0 ... .max, using: &random))))
  structures.append(
    .namespaceDevice(
      .init(number: .random(in: 0...255, using: &random), name: "\\_SB.PCI0.I2C\(number % 10)")))
  if newest >= 5 {
    structures.append(
      .integratedATC(
        .init(
          isRequired: .random(using: &random), segment: segment,
          scopes: scopes([.endpoint], steps: 1))))
  }
  let table = VTd.DMAR(
    header: ACPI.TableHeader(
      revision: 1, oemID: "EXAMPL", oemTableID: "VTDTABLE",
      oemRevision: .random(in: 0 ... .max, using: &random), creatorID: "TEST"),
    platform: VTd.DMAR.Platform(
      hostAddressWidth: .random(in: 32...52, using: &random), remapsInterrupts: true,
      optsOutOfX2APIC: .random(using: &random), optsIntoDMAProtection: .random(using: &random)),
    structures: structures)
  save(table.bytes, to: "\(directory)/table\(number).dat")
}
