extension Calgary {
  /// Table entries and registers, for ``EntryCatalog``.
  static let entries = EntryCatalog.Group(
    "IBM Calgary",
    [
      .init(
        "tce", "Calgary translation control entry, one 4 KiB page", TranslationControlEntry.self),
      .init(
        "tar", aliases: ["table-address"], "Calgary table address register of a PHB",
        TableAddressRegister.self),
      .init(
        "config-rw", aliases: ["config"], "Calgary CONFIG_RW register of a PHB",
        ConfigurationRegister.self),
      .init(
        "stuff", aliases: ["bus-range"], "Calgary bus range register of a PHB",
        BusRangeRegister.self),
      .init(
        "csr", aliases: ["channel-status"], "Calgary channel status register of a PHB",
        ChannelStatusRegister.self),
      .init(
        "ccr", aliases: ["chip-configuration"], "Calgary chip configuration register",
        ChipConfigurationRegister.self),
      .init("split-queue", "Calgary split queue register of a PHB", SplitQueueRegister.self),
      .init(
        "page-mig", aliases: ["page-mig-ctrl", "page-mig-debug"],
        "CalIOC2 page migration control or debug register of a PHB", PageMigrationRegister.self),
      .init("savior-l2", "CalIOC2 SAVIOR_L2 register of a PHB", SaviorRegister.self),
    ])
}
