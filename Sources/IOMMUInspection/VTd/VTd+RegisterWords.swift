import IOMMUFormats

// What fields of registers are for, by the manual's names.

private let domain = "the domain that is meant, where the granularity asks for one"
private let function =
  "bits of the function that do not count: 0 none, 1 bit 2, 2 bits 2:1, 3 bits 2:0"

extension VTd.Version: FieldsInWords {
  static var fieldWords: [String: String] { ["MAX": "major version", "MIN": "minor version"] }
}

extension VTd.Capability: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "ND": "domain numbers have 4 + 2 * ND bits; 7 is reserved",
      "AFL": "fault log in memory, of old revisions",
      "RWBF": "the write buffer has to be flushed after changes of tables",
      "PLMR": "protected memory below 4 GiB", "PHMR": "protected memory anywhere",
      "CM": "caching mode: entries that are not present may be cached",
      "SAGAW": "levels of second-stage tables: bit 9 three, bit 10 four, bit 11 five",
      "MGAW": "bits of an IOVA less one", "ZLR": "reads of no bytes pass on write-only pages",
      "DEP": "deprecated", "FRO": "fault records lie at 16 * FRO",
      "SSLPS": "second-stage pages: bit 34 2 MiB, bit 35 1 GiB",
      "PSI": "runs of pages can be invalidated", "NFR": "fault records less one",
      "MAMV": "largest AM, with PSI", "DWD": "writes are drained", "DRD": "reads are drained",
      "FS1GP": "first-stage pages of 1 GiB", "PI": "interrupts can be posted",
      "FS5LP": "first-stage tables of five levels", "ECMDS": "enhanced commands",
      "ESIRTPS": "SIRTP invalidates the interrupt entry cache",
      "ESRTPS": "SRTP invalidates context, PASID and translation caches",
    ]
  }
}

extension VTd.ExtendedCapability: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "C": "tables are read through the processors' caches", "QI": "invalidation queue",
      "DT": "device TLBs", "IR": "interrupt remapping", "EIM": "x2APIC ids of 32 bits",
      "PT": "pass-through", "SC": "SNP of second-stage entries",
      "IRO": "IVA_REG and IOTLB_REG lie at 16 * IRO",
      "MHMV": "largest IM of an interrupt entry invalidation",
      "ECS": "extended context, of old revisions", "MTS": "memory types",
      "NEST": "nested translation", "DIS": "deferred invalidation, of old revisions",
      "PRS": "page requests", "ERS": "execute requests", "SRS": "supervisor requests",
      "POT": "PASID-only translation, of old revisions",
      "NWFS": "the no-write flag of translation requests",
      "EAFS": "extended accessed bits", "PSS": "bits of a PASID less one", "PASID": "PASIDs",
      "DIT": "invalidations of device TLBs are throttled by function",
      "PDS": "PD of wait descriptors", "SMTS": "scalable mode", "VCS": "virtual commands",
      "SSADS": "second-stage accessed and dirty bits", "SSTS": "second stage in scalable mode",
      "FSTS": "first stage", "SMPWCS": "PWSNP of PASID table entries",
      "RPS": "RID_PASID of context entries", "TDXCS": "trust domains (TDX Connect)",
      "PMS": "performance monitoring", "ADMS": "abort-DMA mode", "RPRIVS": "RID_PRIV",
      "HPTS": "host permission tables", "PTRS": "EPTR of context entries",
      "SSIRWS": "SSIRWE of RTADDR_REG", "SMS": "stop markers of page requests",
      "HPT1GPS": "host permissions for 1 GiB at once", "RDTS": "resource director tags",
      "EIMER": "EIME has to be set", "IRREQ": "interrupts have to be remapped",
    ]
  }
}

extension VTd.GlobalCommand: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "TE": "DMA requests are remapped", "SRTP": "take over RTADDR_REG",
      "WBF": "flush the write buffer", "QIE": "invalidations come from the queue",
      "IRE": "interrupt requests are remapped", "SIRTP": "take over IRTA_REG",
      "CFI": "interrupt requests in compatibility format pass",
    ]
  }
}

extension VTd.GlobalStatus: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "TES": "DMA requests are remapped", "RTPS": "RTADDR_REG was taken over",
      "FLS": "the fault log was taken over, of old revisions",
      "AFLS": "the fault log is in use, of old revisions",
      "WBFS": "a flush of the write buffer is under way", "QIES": "the queue is in use",
      "IRES": "interrupt requests are remapped", "IRTPS": "IRTA_REG was taken over",
      "CFIS": "interrupt requests in compatibility format pass",
    ]
  }
}

extension VTd.RootTableAddress: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "RTA": "the root table, 4 KiB aligned; in force from SRTP on",
      "TTM": "0 legacy, 1 scalable, 3 abort all DMA; 2 is refused",
      "SSIRWE": "IR and IW take the place of R and W in second-stage entries",
    ]
  }
}

extension VTd.ContextCommand: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "ICC": "1 asks; hardware clears it when done",
      "CIRG": "asked for: 1 all entries, 2 a domain's, 3 a device's",
      "CAIG": "what was done, in the same codes; 0 nothing", "FM": function,
      "SID": "the device, with CIRG = 3", "DID": domain,
    ]
  }
}

extension VTd.InvalidateAddress: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "ADDR": "the first page, aligned to the run", "IH": "only leaf entries have changed",
      "AM": "2^AM pages",
    ]
  }
}

extension VTd.IOTLBInvalidate: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "IVT": "1 asks; hardware clears it when done",
      "IIRG": "asked for: 1 all translations, 2 a domain's, 3 the pages of IVA_REG",
      "IAIG": "what was done, in the same codes; 0 nothing", "DR": "drain reads",
      "DW": "drain writes", "DID": domain,
    ]
  }
}

extension VTd.FaultStatus: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "PFO": "a fault found no free record", "PPF": "some record has its F bit set",
      "IQE": "the queue stopped at a bad descriptor", "ICE": "a device answered wrongly",
      "ITE": "a device did not answer", "FRI": "the first pending record, while PPF is set",
    ]
  }
}

extension VTd.FaultRecord: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "F": "the record holds a fault",
      "T1": "with T2: 0 0 write, 0 1 page request, 1 0 read, 1 1 atomic",
      "T2": "see T1", "AT": "0 untranslated, 1 translation request, 2 translated",
      "PV": "the PASID, with PP", "FR": "the fault's number", "PP": "the request had a PASID",
      "EXE": "it was an execute request, with PP",
      "PRIV": "it was of supervisor privilege, with PP",
      "SID": "the requester",
      "FI": "the page of a DMA request; of an interrupt its index in bits 63:48",
    ]
  }
}

extension VTd.EventControl: FieldsInWords {
  static var fieldWords: [String: String] {
    ["IM": "the message is held back", "IP": "a message waits"]
  }
}

extension VTd.EventData: FieldsInWords {
  static var fieldWords: [String: String] { ["IMD": "data of the message"] }
}

extension VTd.EventAddress: FieldsInWords {
  static var fieldWords: [String: String] { ["MA": "address of the message, lower half"] }
}

extension VTd.EventUpperAddress: FieldsInWords {
  static var fieldWords: [String: String] { ["MUA": "address of the message, upper half"] }
}

extension VTd.ProtectedMemoryEnable: FieldsInWords {
  static var fieldWords: [String: String] {
    ["EPM": "software wants the regions protected", "PRS": "they are"]
  }
}

extension VTd.ProtectedLowMemory: FieldsInWords {
  static var fieldWords: [String: String] {
    ["PLM": "first or last address of the region; units may leave lower bits out"]
  }
}

extension VTd.ProtectedHighMemory: FieldsInWords {
  static var fieldWords: [String: String] {
    ["PHM": "first or last address of the region; units may leave lower bits out"]
  }
}

extension VTd.QueueHead: FieldsInWords {
  static var fieldWords: [String: String] {
    ["QH": "the descriptor that is fetched next, in bytes from the queue's start"]
  }
}

extension VTd.QueueTail: FieldsInWords {
  static var fieldWords: [String: String] {
    ["QT": "where software's next descriptor goes, in bytes from the queue's start"]
  }
}

extension VTd.QueueAddress: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "IQA": "the queue, 4 KiB aligned", "DW": "0 descriptors of 128 bits, 1 of 256",
      "QS": "2^QS pages",
    ]
  }
}

extension VTd.CompletionStatus: FieldsInWords {
  static var fieldWords: [String: String] { ["IWC": "a wait descriptor with IF is done"] }
}

extension VTd.QueueErrorRecord: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "IQEI": "why the queue stopped, with FSTS.IQE", "ITESID": "who did not answer, with FSTS.ITE",
      "ICESID": "who answered wrongly, with FSTS.ICE",
    ]
  }
}

extension VTd.InterruptTableAddress: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "IRTA": "the interrupt remapping table, 4 KiB aligned; in force from SIRTP on",
      "EIME": "destinations are x2APIC ids of 32 bits", "S": "the table has 2^(S + 1) entries",
    ]
  }
}

extension VTd.PageRequestQueueHead: FieldsInWords {
  static var fieldWords: [String: String] { ["PQH": "the request that software reads next"] }
}

extension VTd.PageRequestQueueTail: FieldsInWords {
  static var fieldWords: [String: String] { ["PQT": "where the next request goes"] }
}

extension VTd.PageRequestQueueAddress: FieldsInWords {
  static var fieldWords: [String: String] {
    ["PQA": "the queue, 4 KiB aligned", "PQS": "2^PQS pages"]
  }
}

extension VTd.PageRequestStatus: FieldsInWords {
  static var fieldWords: [String: String] {
    ["PRO": "the queue was full", "PPR": "requests were written to the queue"]
  }
}

extension VTd.MemoryTypeCapability: FieldsInWords {
  static var fieldWords: [String: String] {
    ["WC": "write-combining", "FIX": "fixed ranges", "VCNT": "variable ranges, a count"]
  }
}

extension VTd.MemoryTypeDefault: FieldsInWords {
  static var fieldWords: [String: String] {
    ["E": "ranges count", "FE": "fixed ranges count", "TYPE": "memory type outside all ranges"]
  }
}

extension VTd.FixedMemoryTypes: FieldsInWords {
  static var fieldWords: [String: String] {
    Dictionary(
      uniqueKeysWithValues: (0...7).map {
        ("R\($0)", $0 == 0 ? "memory type of the first eighth of the range" : "of eighth \($0 + 1)")
      })
  }
}

extension VTd.VariableMemoryTypeBase: FieldsInWords {
  static var fieldWords: [String: String] {
    ["PHYSBASE": "the range's first address", "TYPE": "its memory type"]
  }
}

extension VTd.VariableMemoryTypeMask: FieldsInWords {
  static var fieldWords: [String: String] {
    ["PHYSMASK": "address bits that the range decides by", "V": "the range counts"]
  }
}

extension VTd.PerformanceCapability: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "CN": "counters", "CW": "bits of a counter", "EG": "groups of events", "FIL": "filters",
      "INT": "a counter that runs over can interrupt", "STRIDE": "distance of registers, coded",
    ]
  }
}

extension VTd.PerformanceOffset: FieldsInWords {
  static var fieldWords: [String: String] { ["OFFSET": "where the registers lie in the window"] }
}

extension VTd.PerformanceInterruptStatus: FieldsInWords {
  static var fieldWords: [String: String] { ["PIS": "a counter has run over"] }
}

extension VTd.PerformanceEventCapability: FieldsInWords {
  static var fieldWords: [String: String] { ["ES": "a bit for each event of the group"] }
}

extension VTd.EnhancedCommand: FieldsInWords {
  static var fieldWords: [String: String] { ["CMD": "the command", "OA": "its first operand"] }
}

extension VTd.EnhancedCommandOperand: FieldsInWords {
  static var fieldWords: [String: String] { ["OB": "second operand of a command"] }
}

extension VTd.EnhancedCommandResponse: FieldsInWords {
  static var fieldWords: [String: String] {
    ["IP": "the command is under way", "SC": "how it ended; 0 well", "RSLT": "its result"]
  }
}

extension VTd.EnhancedCommandStatus: FieldsInWords {
  static var fieldWords: [String: String] { ["STS": "what commands have switched on"] }
}

extension VTd.EnhancedCommandCapability: FieldsInWords {
  static var fieldWords: [String: String] { ["ECC": "a bit for each command that the unit has"] }
}

extension VTd.ResourceDirectorTag: FieldsInWords {
  static var fieldWords: [String: String] {
    ["RMID": "monitoring id of the unit's own accesses", "CLOS": "their class of service"]
  }
}

extension VTd.VirtualCommand: FieldsInWords {
  static var fieldWords: [String: String] {
    ["CMD": "1 allocates a PASID, 2 frees one", "OP": "the command's operand"]
  }
}

extension VTd.VirtualCommandOperand: FieldsInWords {
  static var fieldWords: [String: String] { ["OB": "second operand of a command"] }
}

extension VTd.VirtualCommandResponse: FieldsInWords {
  static var fieldWords: [String: String] {
    ["IP": "the command is under way", "SC": "how it ended; 0 well", "RSLT": "the PASID"]
  }
}

extension VTd.VirtualCommandCapability: FieldsInWords {
  static var fieldWords: [String: String] {
    ["PAS": "PASIDs are allocated by command"]
  }
}
