import IOMMUFormats

extension GARTDriver {
  /// The AGP driver comes first: it fills the whole table with its scratch page, switches the GART on
  /// and flushes.
  func startAGP() {
    guard let active else { return }
    for index in 0..<Int(active.aperture.byteCount / 4096) {
      active.agpScratch.store(to: memory, at: entryAddress(active.table, index))
    }
    enable()
    if options.version.enablesBesideAGP { flush() }
  }

  /// AGP binds pages of memory from an entry of the aperture on, then flushes.
  ///
  /// - Returns: Whether it did: not into the IOMMU's part, and not over pages that are bound.
  package func bindAGP(_ pages: [PhysicalAddress], at firstEntry: Int) -> Bool {
    guard let active, active.sharesWithAGP, firstEntry >= 0, !pages.isEmpty,
      pages.count <= active.firstIndex - min(firstEntry, active.firstIndex),
      pages.indices.allSatisfy({ agpEntry(firstEntry + $0)?.isValid == false })
    else { return false }
    for (index, page) in pages.enumerated() {
      GART.GATTEntry(page: page)
        .store(to: memory, at: entryAddress(active.table, firstEntry + index))
    }
    flush()
    return true
  }

  /// AGP gives entries back: they hold its scratch page again, without the valid bit; then a flush.
  package func unbindAGP(_ entries: Range<Int>) {
    guard let active, active.sharesWithAGP else { return }
    for index in entries.clamped(to: 0..<active.firstIndex) {
      active.agpScratch.store(to: memory, at: entryAddress(active.table, index))
    }
    flush()
  }

  private func agpEntry(_ index: Int) -> GART.GATTEntry? {
    active.flatMap { GART.GATTEntry(from: memory, at: entryAddress($0.table, index)) }
  }
}
