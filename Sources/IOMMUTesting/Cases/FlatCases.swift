import IOMMUFormats
import IOMMUTranslation

extension CaseDraft {
  mutating func makeTCEs() throws {
    let numbers = Numbers()
    let tables = try Calgary.Tables(in: memory, size: .kib128)
    // 64 MiB of I/O addresses, of which 640 KiB to 1 MiB are other devices'.
    let (base, reach): (UInt64, UInt64) = (1 << 20, 64 << 20)
    let device: PCI.Function = "01:01.0"
    let runs = runs(
      from: base, reach: reach, sizes: [12, 12, 14, 16], permissions: [.readWrite, .read, .write],
      targets: 48)
    for run in runs { try tables.map(device, at: IOVA(run.iova), run.range, run.permissions) }
    if isDamaged, !runs.isEmpty {
      let run = pick(runs)
      let page = number(run.iova...run.last) >> 12
      let entry = PhysicalAddress(
        tables.chip.hostBridge(above: 1)!.table!.root.rawValue + page * 8)
      memory.store(0 as UInt64, at: entry)
      note(
        "TCE \(hexadecimal(page)) is empty", "Linux tce.h", device,
        page << 12...(page << 12 | 0xfff), fault: nil)
    }
    probe(device, runs, from: base, reach: reach, numbers)
    addFaults(device, reach, nil)
    machine = tables.machine
  }

  mutating func makeGATT() throws {
    let numbers = Numbers()
    let tables = try GART.Tables(in: memory)
    let (base, reach) = (tables.aperture.lowerBound.rawValue, tables.aperture.upperBound.rawValue)
    let device: PCI.Function = "02:00.0"
    let runs = runs(
      from: base, reach: reach, sizes: [12, 12, 14, 16], permissions: [.readWrite], targets: 40)
    for run in runs { try tables.map(at: IOVA(run.iova), run.range) }
    if isDamaged, !runs.isEmpty {
      let run = pick(runs)
      let address = number(run.iova...run.last)
      let page = (address - base) >> 12
      let entry = PhysicalAddress(tables.table.rawValue + page * 4)
      memory.store(memory.doubleword(at: entry)! & ~1, at: entry)
      let first = address & ~0xfff
      note(
        "GATT entry \(hexadecimal(page)) is not valid", "Linux pci-gart_64.c", device,
        first...(first | 0xfff), fault: nil)
    }
    probe(device, runs, from: base, reach: reach, numbers)
    // What is outside of the aperture passes.
    for access in [Access.read, .write] {
      add(device, reach, access, .memory(PhysicalAddress(reach)))
      add(device, base - 1, access, .memory(PhysicalAddress(base - 1)))
    }
    machine = tables.machine
  }
}
