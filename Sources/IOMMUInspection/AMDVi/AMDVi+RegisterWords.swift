import IOMMUFormats

// What fields of registers and of the capability block are for, by the manual's names.

extension AMDVi.DeviceTableBase: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "DevTabBase": "the device table, 4 KiB aligned",
      "Size": "the table has Size + 1 pages of 4 KiB, 128 entries each",
    ]
  }
}

extension AMDVi.DeviceTableSegmentBase: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "DevTabBase": "the segment of the device table, 4 KiB aligned",
      "Size": "it has Size + 1 pages of 4 KiB",
    ]
  }
}

private let ringLength = "2^n entries, 8 to 15; others are reserved"

extension AMDVi.CommandBufferBase: FieldsInWords {
  static var fieldWords: [String: String] {
    ["ComBase": "the command buffer, 4 KiB aligned", "ComLen": ringLength]
  }
}

extension AMDVi.EventLogBase: FieldsInWords {
  static var fieldWords: [String: String] {
    ["EventBase": "the event log, 4 KiB aligned", "EventLen": ringLength]
  }
}

extension AMDVi.PageRequestLogBase: FieldsInWords {
  static var fieldWords: [String: String] {
    ["PPRLogBase": "the log of page requests, 4 KiB aligned", "PPRLogLen": ringLength]
  }
}

extension AMDVi.GuestLogBase: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "GALogBase": "the log of guests' interrupts, 4 KiB aligned",
      "GALogLen": "2^n times 16 bytes, 8 to 15; others are reserved",
    ]
  }
}

extension AMDVi.GuestLogTailAddress: FieldsInWords {
  static var fieldWords: [String: String] {
    ["GATailAddr": "where the unit stores the log's tail, 8-byte aligned"]
  }
}

extension AMDVi.RingPointer: FieldsInWords {
  static var fieldWords: [String: String] { ["Ptr": "bytes from the start of the ring"] }
}

extension AMDVi.GuestLogPointer: FieldsInWords {
  static var fieldWords: [String: String] { ["GAPtr": "bytes from the start of the log"] }
}

extension AMDVi.Control: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "IommuEn": "requests are translated and interrupts remapped; otherwise all pass as they are",
      "HtTunEn": "requests from HyperTransport are translated too",
      "EventLogEn": "events are logged", "EventIntEn": "a logged event interrupts",
      "ComWaitIntEn": "a completion wait that asks for it interrupts",
      "InvTimeOut": "time to answer an invalidation: 0 any, 1 1 ms, 2 10 ms, up to 6 100 s",
      "PassPW": "PassPW of the unit's own requests",
      "ResPassPW": "ResPassPW of the unit's own requests",
      "Coherent": "tables are read through the processors' caches",
      "Isoc": "the unit's own requests are isochronous", "CmdBufEn": "commands are fetched",
      "PprLogEn": "page requests are logged", "PprIntEn": "a logged page request interrupts",
      "PprEn": "page requests are taken", "GTEn": "guest tables are read",
      "GAEn": "interrupt table entries have 128 bits",
      "SmiFEn": "system management interrupts pass the filter",
      "SmiFLogEn": "those that do not pass are logged",
      "CRW": "kept for later use; what for is not known",
      "SlfWBDis": "self-writeback is off; of what is not known",
      "GAMEn": "how guests' interrupts are delivered; 1 through the virtual APIC",
      "GALogEn": "interrupts of guests that do not run are logged",
      "GAIntEn": "a logged interrupt of a guest interrupts",
      "DualPprLogEn": "a second log of page requests is in use",
      "DualEventLogEn": "a second event log is in use",
      "DevTblSegEn": "the device table has 2^n segments; above 3 reserved",
      "PrivAbrtEn": "requests are stopped for their privilege; which code stops which is not known",
      "PprAutoRspEn": "page requests that find no room are answered",
      "BlkStopMrkEn": "StopMark messages of devices are stopped",
      "PprAutoRspAon": "page requests are answered always",
      "MarcEn": "the relocation apertures are in force",
      "NumIntRemapMode": "1 an interrupt table has up to 2,048 entries, not 512",
      "EPHEn": "page requests have further rules",
      "HADUpdate": "whether accessed and dirty bits of host tables are set",
      "GDUpdateDis": "dirty bits of guest tables are left alone",
      "XTEn": "destinations of interrupts are x2APIC ids of 32 bits",
      "IntCapXTEn": "the unit's own interrupts come from the x2APIC registers",
      "VCmdEn": "commands of guests are taken", "vIommuEn": "guests have units of their own",
      "GAUpdateDis": "accessed bits of guest tables are left alone",
      "GAPPIEn": "interrupts of guests reach processors that do not run them",
      "TMPMEn": "pages may migrate between tiers of memory",
      "GCR3TRPMode": "the pointer to a GCR3 table is a system physical address",
      "GstBufferTRPMode":
        "how the pointers to guests' buffers are read; which value means what is not known",
      "IRTCacheDis": "entries of interrupt tables are not cached",
      "SNPAVICEn": "guests' interrupts where the reverse map guards memory",
    ]
  }
}

extension AMDVi.Status: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "EventOverflow": "an event found no room", "EventLogInt": "an event was logged",
      "ComWaitInt": "a completion wait that asked for an interrupt is done",
      "EventLogRun": "events are logged", "CmdBufRun": "commands are fetched",
      "PprOverflow": "a page request found no room", "PprInt": "a page request was logged",
      "PprLogRun": "page requests are logged", "GALogRun": "interrupts of guests are logged",
      "GALOverflow": "an interrupt of a guest found no room",
      "GAInt": "an interrupt of a guest was logged",
      "PprOverflowB": "a page request found no room in the second log",
      "PprLogActive": "which of the two logs of page requests is in use",
      "EventOverflowB": "an event found no room in the second log",
      "EventLogActive": "which of the two event logs is in use",
      "PprOverflowEarlyB": "the second log of page requests is nearly full",
      "PprOverflowEarly": "the log of page requests is nearly full",
    ]
  }
}

extension AMDVi.ExtendedFeatures: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "PreFSup": "translations may be fetched ahead", "PPRSup": "page requests",
      "XTSup": "x2APIC ids of 32 bits", "NXSup": "execute requests, and NX of guest tables",
      "GTSup": "guest tables",
      "GAPPISup": "interrupts of guests reach processors that do not run them",
      "IASup": "one command that drops everything",
      "GASup": "interrupt table entries of 128 bits",
      "HESup": "registers that keep hardware errors",
      "PCSup": "performance counters; the register window has 512 KiB",
      "HATS": "levels of the largest host table: 0 four, 1 five, 2 six, 3 none",
      "GATS": "levels of the largest guest table: 0 four, 1 five, 2 six",
      "GLXSup": "levels of the largest GCR3 table: 0 one, 1 two, 2 three",
      "SmiFSup": "system management interrupts can be filtered",
      "SmiFRC": "filter registers, 2^n",
      "GAMSup": "1 interrupts are delivered to guests through a virtual APIC",
      "DualPprLogSup": "a second log of page requests; 2 with a swap between them",
      "DualEventLogSup": "a second event log; 2 with a swap between them",
      "SATSSup": "secure ATS",
      "PASmax": "bits of a PASID less one",
      "USSup": "requests of user and of supervisor privilege are told apart",
      "DevTblSegSup": "the device table has up to 2^n segments",
      "PprOvrflwEarlySup": "a warning before the log of page requests is full",
      "PprAutoRspSup": "page requests without room are answered",
      "MarcSup": "relocation apertures: 0 none, 1 four, 2 eight",
      "BlkStopMrkSup": "StopMark messages of devices can be stopped",
      "PerfOptSup": "the register of performance optimisation",
      "MsiCapMmioSup": "the MSI capability is in the register window as well",
      "SnoopAttrSup": "SnoopAttribute of device table entries",
      "GIoSup": "requests without PASID may use the guest table of PASID 0",
      "HASup": "accessed bits of host tables", "EPHSup": "page requests have further rules",
      "AttrFWSup": "a device table entry may override attributes",
      "HDSup": "dirty bits of host tables",
      "V2HDDisSup": "dirty bits of guest tables may be left alone",
      "InvIotlbTypeSup": "Type of invalidations of devices' caches",
      "vIommuSup": "guests may have units of their own",
      "VmGuardIoSup": "VMGuard I/O; what that is is not known",
      "VmTableSize": "the VM table has 2^(n + 8) entries; above 11 reserved",
      "ForcePhyDestSup": "remapped interrupts can be forced to physical destinations",
      "GAUpdateDisSup": "accessed bits of guest tables may be left alone",
      "SNPSup": "memory of guests is guarded by a reverse map",
    ]
  }
}

extension AMDVi.ExtendedFeatures2: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "SEV-TIO": "trusted I/O of guests",
      "GCR3TRPMode": "the pointer to a GCR3 table may be a system physical address",
      "SNPAVICSup": "guests' interrupts where the reverse map guards memory",
      "NumIntRemapSup": "1 an interrupt table may have 2,048 entries, not only 512",
      "HtRangeIgnore": "addresses of HyperTransport's own messages are addresses like others",
    ]
  }
}

extension AMDVi.ExclusionBase: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "ExEn": "the range is in force",
      "Allow": "for all devices, not only those whose entries say so",
      "ExclBase": "the range's first page",
    ]
  }
}

extension AMDVi.ExclusionLimit: FieldsInWords {
  static var fieldWords: [String: String] {
    ["ExclLimit": "the range's last page", "ones": "read as ones: the page belongs to the range"]
  }
}

extension AMDVi.HardwareEventHigh: FieldsInWords {
  static var fieldWords: [String: String] {
    ["EventCode": "of the event that could not be logged", "FirstEventOperand": "its bits 59:0"]
  }
}

extension AMDVi.HardwareEventLow: FieldsInWords {
  static var fieldWords: [String: String] { ["SecondEventOperand": "the event's bits 127:64"] }
}

extension AMDVi.HardwareEventStatus: FieldsInWords {
  static var fieldWords: [String: String] {
    ["HEV": "the two registers hold an event", "HEO": "a further event found them full"]
  }
}

extension AMDVi.SystemManagementFilter: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "SmiDID": "the device", "SmiDV": "the filter is in force",
      "SmiFLock": "the register keeps its value until a reset",
    ]
  }
}

private let revisionWords: [String: String] = [
  "RevMajor": "major revision", "RevMinor": "minor revision",
  "DevSpecific": "left to the unit",
]

extension AMDVi.DeviceSpecificFeatures: FieldsInWords {
  static var fieldWords: [String: String] { revisionWords }
}

extension AMDVi.DeviceSpecificControl: FieldsInWords {
  static var fieldWords: [String: String] { revisionWords }
}

extension AMDVi.DeviceSpecificStatus: FieldsInWords {
  static var fieldWords: [String: String] { revisionWords }
}

private let widthWords: [String: String] = [
  "MsiNum": "which message tells of events and completions",
  "MsiNumPPR": "which message tells of page requests",
  "PAsize": "bits of a system physical address", "VAsize": "bits of an address that devices use",
  "GVAsize": "bits of a guest's virtual address: 2 means 48",
  "HtAtsResv": "addresses of HyperTransport's messages are not translated for devices' own TLBs",
]

extension AMDVi.InterruptVectors: FieldsInWords {
  static var fieldWords: [String: String] { widthWords }
}

extension AMDVi.CapabilityMiscellaneous: FieldsInWords {
  static var fieldWords: [String: String] { widthWords }
}

private let messageOfGuests = "which message tells of guests' interrupts"

extension AMDVi.GuestInterruptVector: FieldsInWords {
  static var fieldWords: [String: String] { ["MsiNumGA": messageOfGuests] }
}

extension AMDVi.CapabilityMiscellaneous1: FieldsInWords {
  static var fieldWords: [String: String] {
    ["MsiNumGA": messageOfGuests, "implementation": "left to the unit"]
  }
}

extension AMDVi.MessageCapability: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "CapID": "5, MSI", "CapPtr": "the next capability", "MsiEn": "the unit may interrupt",
      "MsiMultMessCap": "messages that the unit can send, 2^n",
      "MsiMultMessEn": "messages that it may send, 2^n", "Msi64En": "addresses of 64 bits",
    ]
  }
}

extension AMDVi.MessageAddress: FieldsInWords {
  static var fieldWords: [String: String] { ["MsiAddr": "address of the message, bits 31:2"] }
}

extension AMDVi.MessageUpperAddress: FieldsInWords {
  static var fieldWords: [String: String] { ["MsiAddr63:32": "address of the message, upper half"] }
}

extension AMDVi.MessageData: FieldsInWords {
  static var fieldWords: [String: String] { ["MsiData": "data of the message"] }
}

extension AMDVi.MessageMapping: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "CapID": "8, HyperTransport", "CapPtr": "the next capability", "MsiMapEn": "mapping is on",
      "MsiMapFixd": "at the fixed address", "MsiMapCapType": "21, MSI mapping",
    ]
  }
}

extension AMDVi.PerformanceOptimization: FieldsInWords {
  static var fieldWords: [String: String] { ["PerfOptEn": "the optimisation is on"] }
}

extension AMDVi.ExtendedInterruptControl: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "DestMode": "0 the destination is one processor, 1 a set of them",
      "Dest23:0": "an x2APIC id, lower part", "Dest31:24": "its upper part",
      "Vector": "the vector", "DeliveryMode": "0 fixed, 1 to whichever of a set has least to do",
    ]
  }
}

extension AMDVi.RelocationBase: FieldsInWords {
  static var fieldWords: [String: String] { ["MarcBaseAddr": "the aperture's first page"] }
}

extension AMDVi.RelocationTarget: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "RelocEn": "the aperture is in force", "ReadOnly": "writes are stopped",
      "MarcRelocAddr": "where it is moved to",
    ]
  }
}

extension AMDVi.RelocationLength: FieldsInWords {
  static var fieldWords: [String: String] { ["MarcLength": "how long it is"] }
}

extension AMDVi.PageRequestAnswer: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "PprAutoRspCode": "0 success, 1 invalid, 15 failure",
      "PprAutoMaskGn": "how answers are given where GN is masked",
    ]
  }
}

extension AMDVi.PageRequestEarlyOverflow: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "PprOvrflwEarlyThreshold": "entries", "PprOvrflwEarlyIntEn": "the warning interrupts",
      "PprOvrflwEarlyEn": "the warning is given",
    ]
  }
}

// MARK: Capability block

extension AMDVi.CapabilityHeader: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "CapID": "15, a secure device", "CapPtr": "the next capability", "CapType": "3, an IOMMU",
      "CapRev": "revision of the block", "IotlbSup": "devices may have TLBs of their own",
      "HtTunnel": "a HyperTransport tunnel",
      "NpCache": "entries that are not present may be cached",
      "EFRSup": "the register of extended features exists",
      "CapExt": "the block has a further word",
    ]
  }
}

extension AMDVi.CapabilityBaseLow: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "Enable": "the window is there, and the block keeps its values until a reset",
      "BaseAddress31:14": "the register window, lower part",
    ]
  }
}

extension AMDVi.CapabilityBaseHigh: FieldsInWords {
  static var fieldWords: [String: String] {
    ["BaseAddress63:32": "the register window, upper part"]
  }
}

extension AMDVi.CapabilityRange: FieldsInWords {
  static var fieldWords: [String: String] {
    [
      "UnitID": "the unit's HyperTransport number", "RngValid": "bus and devices count",
      "BusNumber": "their bus", "FirstDevice": "the first device and function of the unit",
      "LastDevice": "the last",
    ]
  }
}
