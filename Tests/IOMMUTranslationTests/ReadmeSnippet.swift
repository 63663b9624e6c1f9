import IOMMUFormats
import IOMMUTranslation

/// What README shows between its imports and its end, with `tell` in place of `print`.
func readmeSnippet(_ report: (String) -> Void) throws {
  func tell(_ value: some CustomStringConvertible) { report(value.description) }
  do {
    // 1 MiB of RAM with VT-d tables: the device 00:03.0 reaches 0x8000 by the number 0xfffff000.
    let memory = try FlatMemory(byteCount: 1 << 20)
    let (root, contexts, table) = (
      PhysicalAddress(0x1000), PhysicalAddress(0x2000), PhysicalAddress(0x3000)
    )
    VTd.RootEntry(contextTable: contexts).store(to: memory, at: root)
    VTd.ContextEntry(secondStageTable: table, levels: 4, domainID: 1).store(
      to: memory, at: VTd.Unit.contextEntryAddress(in: contexts, deviceFunction: 0x18))
    var free: [UInt64] = [0x6000, 0x5000, 0x4000]
    try VTd.SecondStageFormat(levels: 4, limits: .permissive).map(
      PhysicalAddress(0x8000)..<PhysicalAddress(0x9000), at: IOVA(0xffff_f000), .readWrite,
      root: table, in: memory, allocateTable: { free.popLast().map { PhysicalAddress($0) } })

    let unit = VTd.Unit(
      base: PhysicalAddress(0xfed9_0000),
      rootTableAddress: VTd.RootTableAddress(rootTable: root, mode: .legacy),
      status: VTd.GlobalStatus(translates: true), limits: .permissive)
    let machine = Machine(name: "mine", units: [.vtd(unit)])
    let device = machine.resolve(Requester("00:03.0")!, in: memory)
    switch device.translate(IOVA(0xffff_f040), byteCount: 64, access: .write, in: memory) {
    case .mapped(let physical, let byteCount): tell("\(byteCount) bytes at \(physical)")
    case .interruptMessage: tell("an interrupt")
    case .fault(let fault): tell(fault)
    }
  }
}
