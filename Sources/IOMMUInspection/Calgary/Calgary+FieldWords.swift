import IOMMUFormats

// What fields are for, as far as a public source knows.

extension Calgary.TranslationControlEntry: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "R": "the device may read the page", "W": "the device may write the page",
      "hub id": "of machines of another kind; drivers leave it 0",
      "RPN": "the page; an entry of all zeros is free",
    ]
  }
}

extension Calgary.TableAddressRegister: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "SIZE": "the table has 8,192 * 2^SIZE entries", "TABLE": "the TCE table, 32 KiB aligned",
      "VALID": "named so, and never set by Linux; assumed to have no effect",
      "preserved": "drivers keep it as it is",
    ]
  }
}

extension Calgary.ConfigurationRegister: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "TCE_ENABLE": "requests are translated", "SLOT_DISABLE": "the slots are switched off",
      "DAC_DISABLE": "addresses of 4 GiB and more are refused",
      "MEM2_ENABLE": "the second memory window is in force",
      "MCSR_ENABLE": "drivers set it with TCE_ENABLE",
    ]
  }
}

extension Calgary.BusRangeRegister: FieldsInWords {
  static var fieldWords: [String: String] {
    ["FIRST": "the PHB's first bus", "LAST": "the PHB's last bus"]
  }
}

extension Calgary.ChannelStatusRegister: FieldsInWords {
  static var fieldWords: [String: String] {
    let error = "any bit means that a DMA has gone wrong; which is not known"
    return [
      "ERROR_LOW": error, "ERROR_HIGH": error, "AGENT": "whose request failed, where one did",
    ]
  }
}

extension Calgary.ChipConfigurationRegister: FieldsInWords {
  static var fieldWords: [String: String] {
    Dictionary(
      uniqueKeysWithValues: (0...3).map {
        (
          "TIMEOUT_\($0)",
          "how long a split transaction of PHB \($0) may take; 14 means two seconds"
        )
      })
  }
}

extension Calgary.SplitQueueRegister: FieldsInWords {
  static var fieldWords: [String: String] { ["IDLE": "0xff when nothing is on its way"] }
}

extension Calgary.PageMigrationRegister: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "SOFTSTOP": "in the control register: stop after what is on its way",
      "SOFTSTOPFAULT": "in the debug register: the stop did not work; begin anew",
      "HARDSTOP": "the PHB stands still",
    ]
  }
}

extension Calgary.SaviorRegister: FieldsInWords {
  static var fieldWords: [String: String] { ["QUIRK": "drivers set it once"] }
}
