import IOMMUFormats
import IOMMUInspection
import IOMMUTranslation
import Testing

@Suite struct DebugfsLayoutTests {
  @Test func `today's layout ends each row at the leaf and names each device`() throws {
    let small = try SmallMachine()
    var text = ""
    DomainTranslationStruct(
      try MapsReport(small.machine, in: small.memory, table: "00:03.1"), layout: .linux6_12
    ).write(of: small.memory, to: &text)
    let columns =
      "IOVA_PFN         \tPML5E             \tPML4E             \tPDPE              "
      + "\tPDE               \tPTE\n"
    let zero = "0x0000000000000000"
    let upper = "\t\(zero)\t\(zero)\t0x0000000000034003"
    #expect(
      text == "Device 0000:00:03.1 @0x33000\n" + columns
        + "0x0000000000010 |\(upper)\t0x0000000000035003\t0x0000000000050003\n"
        + "0x0000000000011 |\(upper)\t0x0000000000035003\t0x0000000000051003\n"
        + "0x0000000000012 |\(upper)\t0x0000000000035003\t0x0000000000052002\n"
        // A page of 2 MiB: there is no PTE.
        + "0x0000000000200 |\(upper)\t0x0000000000400083\n")
  }
}
