import IOMMUFormats

// What fields of the configuration space are for; most names say it.

extension PCI.CommandStatus: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "Bus Master Enable": "the function may send requests: DMA and interrupts as messages",
      "Memory Space Enable": "the function answers accesses to its memory ranges",
      "I/O Space Enable": "the function answers accesses to its I/O ranges",
      "Interrupt Disable": "the function may not use its pin",
      "Interrupt Status": "the pin's interrupt waits",
      "Capabilities List": "the header leads to capabilities",
      "Received Master Abort": "nobody took a request of the function",
      "Received Target Abort": "a request of the function was refused",
      "Signaled Target Abort": "the function has refused a request",
    ]
  }
}

extension PCI.BusNumbers: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "Primary Bus Number": "the bus that the bridge is on",
      "Secondary Bus Number": "the bus right behind it",
      "Subordinate Bus Number": "the last bus behind it",
    ]
  }
}

extension PCI.AddressTranslationServices: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "Enable": "the device may keep translations",
      "Smallest Translation Unit": "of 2^(n + 12) bytes",
      "Invalidate Queue Depth": "invalidations that the device takes at once; 0 means 32",
      "Page Aligned Request": "addresses of untranslated requests are page aligned",
      "Global Invalidate Supported": "invalidations of all PASIDs at once",
    ]
  }
}

extension PCI.VirtualFunctionRouting: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "First VF Offset": "from the function's own number to its first virtual function's",
      "VF Stride": "from one virtual function's number to the next",
    ]
  }
}
