import IOMMUFormats

extension Calgary {
  /// What is said of an error that a bridge has logged.
  static func words(csr: UInt32, plssr: UInt32, in record: FaultRecord) -> LoggedFaultWords {
    LoggedFaultWords(
      attempt:
        "DMA of agent \(csr >> 16 & 31) below bus \(hexadecimal(record.bus ?? 0, digits: 2)) was "
        + "refused",
      meaning: "Calgary error: CSR \(hexadecimal(csr)), PLSSR \(hexadecimal(plssr))",
      causes: "a number without a TCE, or without this permission: " + unmappedCauses,
      lookAt: "what the table maps: the chip keeps no address ('iommu maps' on a dump)")
  }
}
