import IOMMUFormats

// What fields are for, as far as a public source knows.

extension GART.GATTEntry: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "V": "the entry maps its page", "C": "accesses look into the processors' caches",
      "ADDR31:12": "the page, address bits 31:12", "ADDR39:32": "the page, address bits 39:32",
    ]
  }
}

extension GART.ApertureControl: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "GartEn": "the aperture is translated, for whoever is not shut out",
      "GartSize": "the aperture has 32 MiB * 2^GartSize; 7 is undefined",
      "DisGartCpu": "not for the CPU", "DisGartIo": "not for devices",
      "DisGartTblWlkPrb": "walks of the table do not look into the processors' caches",
    ]
  }
}

extension GART.ApertureBase: FieldsInWords {
  static var fieldWords: [String: String] { ["BASE39:25": "the aperture's first byte, bits 39:25"] }
}

extension GART.TableBase: FieldsInWords {
  static var fieldWords: [String: String] { ["BASE39:12": "the GATT's first byte, bits 39:12"] }
}

extension GART.CacheControl: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "InvGart": "1 drops cached entries; hardware clears it when done",
      "GartPteErr": "an entry that does not map was met; 1 clears it",
    ]
  }
}

extension GART.MachineCheckControl: FieldsInWords {
  static var fieldWords: [String: String] {
    ["GartTblWkEn": "entries that do not map are reported as machine checks"]
  }
}

extension GART.MachineCheckStatus: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "VAL": "the register holds an error", "OVER": "a further error found it full",
      "UC": "the error was not corrected", "EN": "its report was switched on",
      "MISCV": "a further register holds something", "ADDRV": "the address register does",
      "PCC": "the processor cannot go on", "ErrorCodeExt": "5 a walk of the GART's table",
      "TT": "kind of access, 2 for generic", "LL": "cache level, 3 for generic",
      "class": "1 an error of translation",
    ]
  }
}

extension GART.MachineCheckAddress: FieldsInWords {
  static var fieldWords: [String: String] { ["ADDR39:3": "the address, bits 39:3"] }
}

extension AGP.ApertureSize: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "APSIZE7:0": "any bit set means that all of APSIZE11:8 count as set",
      "APSIZE11:8": "the aperture's size, coded",
    ]
  }
}

extension AGP.ApertureBase: FieldsInWords {
  static var fieldWords: [String: String] {
    ["BASE": "the aperture's first byte", "type": "kind of base address register"]
  }
}
