import IOMMUFormats

// What fields of tables and descriptors are for, by the manual's names.

private let present = "present: hardware looks at the rest of the entry"
private let faultsOff = "faults are not recorded; counts also while P is 0"
private let domain = "the domain's number, by which caches tell translations apart"

extension VTd.RootEntry: FieldsInWords {
  static var fieldWords: [String: String] {
    ["P": present, "CTP": "the bus's context table, 4 KiB aligned"]
  }
}

extension VTd.ContextEntry: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "P": present, "FPD": faultsOff,
      "TT": "0 second-stage tables, 1 the same with device TLBs, 2 pass-through, 3 refused",
      "SSPTPTR": "the uppermost second-stage table, 4 KiB aligned; not looked at for pass-through",
      "AW": "levels of the table less two: 1 three levels, 2 four, 3 five",
      "DID": domain,
    ]
  }
}

extension VTd.ScalableRootEntry: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "LP": "the table of devices and functions 0 to 127 is there",
      "LCTP": "that context table, 4 KiB aligned",
      "UP": "the table of devices and functions 128 to 255 is there",
      "UCTP": "that context table, 4 KiB aligned",
    ]
  }
}

extension VTd.ScalableContextEntry: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "P": present, "FPD": faultsOff,
      "DTE": "the device may send translation requests and translated ones",
      "PASIDE": "requests may carry a PASID",
      "PRE": "the device may send page requests",
      "HPTE": "translated requests are checked against the host permission table",
      "EPTR": "translated requests may carry a PASID",
      "PDTS": "the directory has 2^(PDTS + 7) entries, for PASIDs below 2^(PDTS + 13)",
      "PASIDDIRPTR": "the PASID directory, 4 KiB aligned",
      "RID_PASID": "what requests without PASID are translated as",
      "RID_PRIV": "requests without PASID are of supervisor privilege",
    ]
  }
}

extension VTd.PASIDDirectoryEntry: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "P": present, "FPD": faultsOff,
      "SMPTBLPTR": "the PASID table of these 64 PASIDs, 4 KiB aligned",
    ]
  }
}

extension VTd.PASIDTableEntry: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "P": present, "FPD": faultsOff,
      "AW": "levels of the second-stage table less two",
      "PGTT": "1 first stage, 2 second stage, 3 nested, 4 pass-through; others are refused",
      "SSADE": "hardware keeps accessed and dirty bits in second-stage entries",
      "SSPTPTR": "the uppermost second-stage table, 4 KiB aligned",
      "DID": domain,
      "PWSNP": "walks of the tables see the processors' caches",
      "PGSNP": "accesses to pages see the processors' caches",
      "CD": "accesses to pages are not cached",
      "EMTE": "EMT of second-stage entries counts",
      "PAT":
        "eight memory types of 4 bits, which PAT, PCD and PWT of a first-stage leaf choose from",
      "SRE": "requests of supervisor privilege are allowed",
      "FSPM": "levels of the first-stage table less four: 0 four levels, 1 five",
      "WPE": "pages without R/W are not written by supervisor requests either",
      "EAFE": "hardware keeps the extended accessed bit in first-stage entries",
      "FSPTPTR": "the uppermost first-stage table; a guest address when nested",
      "HPTSZ": "width of the host permission table", "HPTPFD": "faults of it are not recorded",
      "HPTPTR": "the host permission table, 4 KiB aligned", "HPTDID": "its domain",
    ]
  }
}

extension VTd.SecondStageEntry: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "R": "reads may pass; an entry with neither R nor W is not present",
      "W": "writes may pass",
      "EMT": "memory type of the page", "IPAT": "EMT counts alone, without the guest's PAT",
      "PS": "0 leads to a table, 1 maps a page",
      "A": "a walk has used the entry, where SSADE asks for it",
      "D": "the page was written, where SSADE asks for it",
      "SNP": "accesses look into the processors' caches",
      "ADDR": "the next table or the page, aligned to its size",
      "IR": "takes the place of R where RTADDR_REG.SSIRWE is set",
      "IW": "takes the place of W where RTADDR_REG.SSIRWE is set",
      "TM": "transient mapping, a hint for devices with TLBs of their own",
    ]
  }
}

/// Words for entries in the layout of a processor's long mode.
let longModeWords: [String: String] = [
  "P": present, "R/W": "writes may pass", "U/S": "requests of user privilege may pass",
  "PWT": "with PCD and PAT, of a leaf: which entry of the page attribute table",
  "PCD": "see PWT", "PAT": "see PWT",
  "A": "a walk has used the entry", "D": "the page was written",
  "PS": "0 leads to a table, 1 maps a page", "G": "global, as processors have it",
  "ADDR": "the next table or the page, aligned to its size",
]

extension VTd.FirstStageEntry: FieldsInWords {
  static var fieldWords: [String: String] {
    var words = longModeWords
    words["EA"] = "extended accessed: set with A where EAFE of the PASID's entry asks for it"
    words["XD"] = "what is read may not be executed, as far as processors look"
    return words
  }
}

extension VTd.InterruptRemappingEntry: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "P": present, "FPD": faultsOff,
      "DM": "0 DST names one processor, 1 a set of them",
      "RH": "of several destinations one is enough",
      "TM": "0 edge, 1 level: the interrupt stands until it is acknowledged",
      "DLM": "0 fixed, 1 lowest priority, 2 SMI, 4 NMI, 5 INIT, 7 ExtINT",
      "IM": "0 remaps, 1 posts", "V": "the vector that the processor gets",
      "DST": "an APIC id: 32 bits in extended mode, otherwise bits 47:40 alone",
      "SID": "the requester that may send it, or with SVT = 2 its first and last bus",
      "SQ": "bits of the function that do not count: 0 none, 1 bit 2, 2 bits 2:1, 3 bits 2:0",
      "SVT": "0 anybody may send it, 1 the requester SID, 2 the buses of SID, 3 refused",
      "URG": "the processor is notified even while SN of the descriptor is set",
      "VV": "the vector that is posted",
      "PDA[31:6]": "the posted-interrupt descriptor, 64-byte aligned, lower part",
      "PDA[63:32]": "its upper part",
    ]
  }
}

extension VTd.PostedInterruptDescriptor: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "PIR[63:0]": "a bit for each vector that waits, 0 to 63", "PIR[127:64]": "64 to 127",
      "PIR[191:128]": "128 to 191", "PIR[255:192]": "192 to 255",
      "ON": "the processor has been told and has not looked yet",
      "SN": "only urgent interrupts are told of",
      "NV": "the vector that tells the processor", "NDST": "that processor's APIC id",
    ]
  }
}

extension VTd.InterruptAddress: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "FEEh": "what makes a store an interrupt",
      "Interrupt Format": "0 compatibility, 1 remappable",
      "Handle[14:0]": "the entry of the remapping table, lower part", "Handle[15]": "its upper bit",
      "SHV": "Subhandle of the data is added to the handle",
      "Destination ID": "an APIC id of 8 bits",
      "Redirection Hint": "of several destinations one is enough",
      "Destination Mode": "0 the id names one processor, 1 a set of them",
    ]
  }
}

extension VTd.InterruptData: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "Subhandle": "what is added to the handle, with SHV of the address",
      "Vector": "the vector that the processor gets",
      "Delivery Mode": "0 fixed, 1 lowest priority, 2 SMI, 4 NMI, 5 INIT, 7 ExtINT",
      "Level": "of a level-triggered interrupt: 1 asserted", "Trigger Mode": "0 edge, 1 level",
    ]
  }
}

extension VTd.RedirectionEntry: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "Vector": "the vector; in remappable format only for the end of the interrupt",
      "Delivery Mode": "0 fixed, 1 lowest priority, 2 SMI, 4 NMI, 5 INIT, 7 ExtINT",
      "Destination Mode": "0 Destination names one processor, 1 a set of them",
      "Delivery Status": "1 an interrupt of the pin is on its way", "Polarity": "0 high, 1 low",
      "Remote IRR": "of a level-triggered interrupt: 1 until it is acknowledged",
      "Trigger Mode": "0 edge, 1 level", "Mask": "the pin sends nothing",
      "Interrupt Format": "0 compatibility, 1 remappable",
      "Index[14:0]": "the entry of the remapping table, lower part", "Index[15]": "its upper bit",
      "Destination": "an APIC id of 8 bits",
    ]
  }
}

// MARK: The invalidation queue

private let descriptorWords: [String: String] = [
  "TYPE": "kind of descriptor, lower part", "TYPE[6:4]": "its upper part, 0 up to type 15",
  "DID": "the domain that is meant, where G asks for one",
  "PASID": "the PASID that is meant, where G asks for one",
  "AM": "2^AM pages", "ADDR": "the first page, aligned to the run",
]

private func descriptor(_ words: [String: String]) -> [String: String] {
  descriptorWords.merging(words) { $1 }
}

private let device = "the device that is asked"
private let throttle = "lower part of the function whose invalidations are throttled, with ECAP.DIT"

extension VTd.ContextCacheDescriptor: FieldsInWords {
  static var fieldWords: [String: String] {
    descriptor([
      "G": "1 all entries, 2 a domain's, 3 a device's in a domain",
      "SID": "the device, with G = 3",
      "FM": "bits of its function that do not count: 0 none, 1 bit 2, 2 bits 2:1, 3 bits 2:0",
    ])
  }
}

extension VTd.IOTLBDescriptor: FieldsInWords {
  static var fieldWords: [String: String] {
    descriptor([
      "G": "1 all translations, 2 a domain's, 3 a run of pages of a domain",
      "DW": "drain writes", "DR": "drain reads",
      "IH": "only leaf entries have changed",
    ])
  }
}

extension VTd.DeviceTLBDescriptor: FieldsInWords {
  static var fieldWords: [String: String] {
    descriptor([
      "SID": device, "PFSID[3:0]": throttle, "PFSID[15:4]": "its upper part",
      "MIP": "invalidations that the device takes before it has answered one",
      "S": "0 one page; 1 the lowest zero bit of ADDR codes how many", "ADDR": "page and size",
    ])
  }
}

extension VTd.InterruptEntryDescriptor: FieldsInWords {
  static var fieldWords: [String: String] {
    descriptor([
      "G": "0 all entries, 1 a run of them", "IIDX": "the first entry of the run",
      "IM": "the run has 2^IM entries",
    ])
  }
}

extension VTd.WaitDescriptor: FieldsInWords {
  static var fieldWords: [String: String] {
    descriptor([
      "IF": "raise the completion event", "SW": "store the status data",
      "FN": "descriptors after this one start when it is done",
      "PD": "page requests that arrived before are in their queue first",
      "STATUS DATA": "what is stored", "STATUS ADDR": "where: bits 63:2 of the address",
    ])
  }
}

extension VTd.PASIDIOTLBDescriptor: FieldsInWords {
  static var fieldWords: [String: String] {
    descriptor([
      "G": "2 all translations of a PASID, 3 a run of pages", "PASID": "whose translations",
      "IH": "only leaf entries have changed",
    ])
  }
}

extension VTd.PASIDCacheDescriptor: FieldsInWords {
  static var fieldWords: [String: String] {
    descriptor(["G": "0 the entries of a domain, 1 of one PASID in it, 3 all"])
  }
}

extension VTd.PASIDDeviceTLBDescriptor: FieldsInWords {
  static var fieldWords: [String: String] {
    descriptor([
      "SID": device, "PFSID[3:0]": throttle, "PFSID[15:4]": "its upper part",
      "MIP": "invalidations that the device takes before it has answered one",
      "PASID": "whose translations, with GI = 0", "GI": "1 of all PASIDs",
      "S": "0 one page; 1 the lowest zero bit of ADDR codes how many", "ADDR": "page and size",
    ])
  }
}

extension VTd.PageGroupResponseDescriptor: FieldsInWords {
  static var fieldWords: [String: String] {
    descriptor([
      "PP": "the requests had a PASID", "PASID": "that PASID", "RID": "the device that asked",
      "RC": "0 success, 1 invalid request, 15 failure", "PRGI": "the group, as the requests had it",
    ])
  }
}

extension VTd.HostPermissionsDescriptor: FieldsInWords {
  static var fieldWords: [String: String] {
    descriptor([
      "G": "1 all, 2 a domain's, 3 a run of pages", "HPTDID": "the table's domain",
      "IH": "which levels have changed: 0 the lowest, 3 all",
    ])
  }
}

extension VTd.PageRequestDescriptor: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "TYPE": "1", "PP": "the request has a PASID", "PASID": "that PASID",
      "RID": "the device that asks", "EXR": "what is read is to be executed",
      "PMR": "the request is of supervisor privilege", "RDR": "the page is to be readable",
      "WRR": "the page is to be writable", "LPIG": "last of its group; it is answered",
      "PRGI": "the group, by which the answer finds it", "ADDR": "the page",
    ]
  }
}

// MARK: DMAR

extension VTd.DMAR.Platform: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "Host Address Width": "bits of a DMA address less one",
      "INTR_REMAP": "interrupts can be remapped",
      "X2APIC_OPT_OUT": "firmware asks the system not to use x2APIC",
      "DMA_CTRL_PLATFORM_OPT_IN": "firmware asks for DMA protection from the start",
    ]
  }
}

extension VTd.DMAR.StructureHeader: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "Type": "which structure it is", "Length": "bytes of the whole structure",
      "INCLUDE_PCI_ALL": "all devices of the segment that no other unit names",
      "ALL_PORTS": "all root ports of the segment pass ATS requests",
      "ATC_REQUIRED": "the devices need their translation caches to work",
      "Size": "the register window has 2^Size pages", "Segment Number": "PCI segment group",
      "ACPI Device Number": "the number by which device scopes name the device",
    ]
  }
}

extension VTd.DMAR.ScopeHeader: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "Type": "1 endpoint, 2 bridge with all below it, 3 I/O APIC, 4 HPET, 5 ACPI device",
      "Length": "bytes of the scope: 6, and two for each step of the path",
      "Flags": "of devices of the chip, in SIDP only",
      "Enumeration ID": "the I/O APIC's, the timer's or the ACPI device's number",
      "Start Bus Number": "where the path starts", "Device Number": "first step of the path",
      "Function Number": "of the same step",
    ]
  }
}
