import IOMMUFormats

// What fields of tables, commands and log entries are for, by the manual's names.

extension AMDVi.DeviceTableEntry: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "V": "bits 127:1 are valid; without it addresses pass untranslated",
      "TV": "the fields of translation are valid; without it requests that need them are stopped",
      "HAD":
        "which marks walks of the host table leave: 0 none, 1 accessed, 3 accessed and dirty; 2 is "
        + "reserved",
      "Mode": "levels of the host table; 0 none, 7 is reserved",
      "HPTRoot": "the uppermost host table, 4 KiB aligned",
      "PPR": "page requests of the device are taken",
      "GPRP": "answers that the unit makes itself carry the PASID",
      "GIoV": "requests without PASID go through the guest table of PASID 0",
      "GV": "requests with PASID go through guest tables",
      "GLX": "levels of the GCR3 table less one; 3 is reserved",
      "GCR3[14:12]": "the GCR3 table, 4 KiB aligned, lowest part",
      "IR": "the device may read", "IW": "the device may write",
      "DomainID": "by which the unit's TLB tells translations apart",
      "GCR3[30:15]": "middle part of the GCR3 table's address",
      "I": "the device may keep translations of its own",
      "SE": "of the device's page faults only the first is logged",
      "SA": "none of the device's page faults is logged",
      "IoCtl": "port I/O: 0 stopped, 1 passes, 2 translated, 3 reserved",
      "Cache": "a hint for the unit's TLB", "SD": "translated accesses do not snoop",
      "EX": "the unit's exclusion range is the device's too",
      "SysMgt": "system management messages: 0 stopped, 1 pass, 2 only those of INTx, 3 translated",
      "GCR3[51:31]": "upper part of the GCR3 table's address",
      "IV": "bits 255:128 are valid, whatever V says; without it interrupts pass as they are",
      "IntTabLen": "the interrupt table has 2^IntTabLen entries; 12 and more are illegal",
      "IG": "interrupts that have no entry are stopped without an event",
      "IntTabRoot": "the interrupt table, 128-byte aligned",
      "GuestPagingMode": "levels of guest tables less four; 2 and 3 are reserved",
      "InitPass": "INIT passes", "EIntPass": "ExtINT passes", "NMIPass": "NMI passes",
      "IntCtl": "fixed and arbitrated interrupts: 0 stopped, 1 pass, 2 remapped, 3 illegal",
      "Lint0Pass": "LINT0 passes", "Lint1Pass": "LINT1 passes",
      "vImuEn": "the device belongs to a guest with a unit of its own",
      "GDeviceID": "the device's number in the guest", "GuestID": "the guest",
      "HPTMode": "a hint about the host table; what it hints at is not known",
      "AttrV": "Mode0FC and SnoopAttribute count", "Mode0FC": "FC where Mode is 0",
      "SnoopAttribute":
        "how PAT of a guest table's entry becomes N of the answer to an ATS request",
    ]
  }
}

extension AMDVi.PageTableEntry: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "PR": "present: hardware looks at the rest of the entry",
      "A": "a walk has used the entry, where HAD asks for it",
      "D": "the page was written, where HAD asks for it",
      "NextLevel": "0 a page of this level's size, 7 one whose size ADDR codes",
      "ADDR": "the page; with NextLevel 7 ones from bit 12 to a zero code its size",
      "U": "the page is reached by untranslated requests only",
      "FC": "accesses look into the processors' caches, whatever requests say",
      "IR": "reads may pass", "IW": "writes may pass",
    ]
  }

  static func fieldWords(_ variant: Variant) -> [String: String] {
    guard !variant.isLeaf else { return fieldWords }
    return fieldWords.merging([
      "NextLevel": "level of the table that ADDR leads to, lower than the entry's own",
      "ADDR": "the next table, 4 KiB aligned",
    ]) { $1 }
  }
}

extension AMDVi.GuestPageTableEntry: FieldsInWords {
  static var fieldWords: [String: String] {
    var words = longModeWords
    words["NX"] = "what is read may not be executed"
    return words
  }
}

extension AMDVi.GuestRootEntry: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "V": "hardware looks at the rest of the entry",
      "GCR3": "the PASID's uppermost guest table or, above the last level, the next GCR3 table",
    ]
  }
}

private let theDevice = "the device"

extension AMDVi.Event: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "DeviceID": theDevice, "PASID19:16": "upper part of the PASID, with GN",
      "PASID15:0": "lower part of the PASID, with GN",
      "DomainID/PASID15:0": "the domain, or with GN the lower part of the PASID",
      "Tag": "the group of page requests",
      "GN": "the address is a guest's, in the address space of a PASID",
      "NX": "execute was asked for", "US": "the request was of user privilege",
      "I": "an interrupt, not memory", "PR": "the page, or the interrupt's entry, was present",
      "RW": "a write", "PE": "the permission was missing", "RZ": "a bit that must be zero was set",
      "TR": "the device asked for a translation",
      "Type": "what went wrong, by the event's own list",
      "VMGTag": "the guest", "RMPFlags": "why the reverse map refused",
      "flags": "what they mean with this event is not known",
      "EventCode": "what happened",
      "Address": "of the request, or where the unit reached for an entry or a command",
      "CounterNote31:0": "what the counter keeps for its event, lower part",
      "CounterNote51:32": "its upper part",
      "FirstEventOperand": "what it means with this event is not known",
      "SecondEventOperand": "what it means with this event is not known",
    ]
  }
}

extension AMDVi.PageRequestEntry: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "DeviceID": "the device that asks", "PASID15:0": "lower part of the PASID, with GN",
      "PASID19:16": "its upper part", "Tag": "the group of requests",
      "Last": "last of its group; it is answered", "Exec": "what is read is to be executed",
      "Read": "the page is to be readable", "Write": "the page is to be writable",
      "US": "the request is of user privilege", "GN": "it has a PASID",
      "PPRCode": "1 a page request", "Address": "the page",
    ]
  }
}

extension AMDVi.GuestInterruptLogEntry: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "GATag": "what software calls the guest's processor", "DeviceID": "who interrupts",
      "GACode": "1 an interrupt of a guest that does not run",
    ]
  }
}

private let interruptWords: [String: String] = [
  "RemapEn": "the entry is in force", "SupIOPF": "faults of this entry are not logged",
  "IntType": "0 fixed, 1 arbitrated; others are reserved",
  "RqEoi": "the end of the interrupt is to be told",
  "DM": "0 the destination is one processor, 1 a set of them",
  "Vector": "the vector that the processor gets",
]

extension AMDVi.InterruptEntry: FieldsInWords {
  static var fieldWords: [String: String] {
    var words = interruptWords
    words["GuestMode"] = "to a guest, which entries of this size cannot"
    words["Destination"] = "an APIC id"
    return words
  }
}

extension AMDVi.WideInterruptEntry: FieldsInWords {
  static var fieldWords: [String: String] {
    var words = interruptWords
    words["GuestMode"] = "1 to a guest"
    words["Destination23:0"] = "an x2APIC id, lower part; without XTEn its lowest 8 bits count"
    words["Destination31:24"] = "its upper part"
    words["GALogIntr"] = "an interrupt while the guest does not run is logged"
    words["IsRun"] = "the guest runs on the destination"
    words["GATag"] = "what software calls the guest's processor"
    words["GATableRootPtr"] = "the guest's virtual APIC, 4 KiB aligned"
    return words
  }
}

// MARK: Commands

private func command(_ code: Int, _ words: [String: String] = [:]) -> [String: String] {
  let common = [
    "OpCode": "\(code)", "DeviceID": theDevice,
    "Address": "the first page; with S ones from bit 12 to a zero code how many",
    "S": "0 one page, 1 as many as Address codes",
    "GN": "the address is a guest's, in the address space of PASID", "PASID": "with GN, whose",
  ]
  return common.merging(words) { $1 }
}

extension AMDVi.CompletionWaitCommand: FieldsInWords {
  static var fieldWords: [String: String] {
    command(
      1,
      [
        "s": "StoreData is stored at StoreAddress", "i": "Status.ComWaitInt is set",
        "f": "commands after this one start when it is done",
        "StoreAddress": "8-byte aligned", "StoreData": "what is stored",
      ])
  }
}

extension AMDVi.InvalidateDeviceEntryCommand: FieldsInWords {
  static var fieldWords: [String: String] { command(2) }
}

extension AMDVi.InvalidatePagesCommand: FieldsInWords {
  static var fieldWords: [String: String] {
    command(
      3,
      [
        "DomainID": "whose translations go", "PDE": "entries that are no leaves go as well",
      ])
  }
}

extension AMDVi.InvalidateDeviceTLBCommand: FieldsInWords {
  static var fieldWords: [String: String] {
    command(
      4,
      [
        "PASID7:0": "lowest part of the PASID, with GN", "PASID15:8": "its middle part",
        "PASID19:16": "its upper part", "Type": "a kind of invalidation, with EFR.InvIotlbTypeSup",
        "QueueID": "devices with the same number share Maxpend",
        "Maxpend": "invalidations that the device takes before it has answered one",
      ])
  }
}

extension AMDVi.InvalidateInterruptTableCommand: FieldsInWords {
  static var fieldWords: [String: String] { command(5) }
}

extension AMDVi.PrefetchPagesCommand: FieldsInWords {
  static var fieldWords: [String: String] {
    command(6, ["PFCount": "pages", "Inval": "what is cached of them is dropped first"])
  }
}

extension AMDVi.CompletePageRequestCommand: FieldsInWords {
  static var fieldWords: [String: String] {
    command(
      7,
      [
        "Tag": "the group, as the requests had it", "Response": "0 success, 1 invalid, 15 failure",
        "GN": "the requests had a PASID",
      ])
  }
}

extension AMDVi.InvalidateAllCommand: FieldsInWords {
  static var fieldWords: [String: String] { command(8) }
}
