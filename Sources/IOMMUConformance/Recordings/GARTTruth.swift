import FoundationEssentials
import IOMMUFormats
import IOMMUImages

/// What the truth beside a trace of the Linux GART driver says that other truths do not.
struct GARTTruth: Sendable {
  /// The aperture and the table at the end of the trace.
  struct Aperture: Sendable, Equatable {
    /// 0 when the kernel does not use the GART.
    var base: UInt64
    var byteCount: UInt64
    var table: PhysicalAddress
    var tableByteCount: UInt64
    var entryCount: UInt64
    /// Entries that are zero.
    var zeroEntryCount: UInt64
    /// What free entries of the IOMMU's part hold, and how many do.
    var scratchEntry: GART.GATTEntry
    var scratchEntryCount: UInt64
    var scratchPage: PhysicalAddress
    /// AGP's scratch page, which its free entries name without the valid bit; 0 without AGP.
    var agpScratchPage: PhysicalAddress
    var agpScratchEntryCount: UInt64
    /// The first entry of the IOMMU's part; those below are AGP's, or unused.
    var firstEntry: UInt64
  }

  /// How many mappings of which kind.
  struct Counts: Sendable, Equatable {
    var mappings: UInt64
    var live: UInt64
    var freed: UInt64
    var identity: UInt64
    var failures: UInt64
    /// Writes of InvGart to all northbridges together.
    var flushes: UInt64
  }

  /// What one mapping has besides what every trace's mappings have.
  struct Detail: Sendable, Equatable {
    enum State: String, Sendable, Decodable { case live, freed, failed }

    /// Where a mapping stands in a scatter list.
    struct List: Sendable, Equatable {
      var group: UInt64
      var index: UInt64
      /// Input segments of the whole list.
      var count: UInt64
      /// Which output segment holds it.
      var output: UInt64
    }

    /// 1 for the first kernel, 2 for the kdump kernel.
    var kernel: UInt64
    /// The call that made it, as traces name it; `agp_bind` for AGP.
    var function: String
    var state: State
    var list: List?
    /// Its pages are in the image, filled with a pattern.
    var isSampled: Bool

    /// Bound by AGP: when it was, only the trace tells exactly.
    var isAGP: Bool { function == "agp_bind" }
  }

  /// Whether the kdump kernel switched the GART on; `nil` in the truth of a first kernel.
  var secondKernelUsesGART: Bool?

  /// The words of `iommu=`; empty for none.
  var option: String
  /// Half-open, whole pages.
  var crashKernel: [Range<PhysicalAddress>]
  var aperture: Aperture
  var counts: Counts
  /// By the mapping's identifier.
  var details: [UInt64: Detail]

  /// Reads the parts of a truth file that are the GART's own.
  ///
  /// - Throws: ``ImageError`` that names the file and the JSON path of what is wrong.
  init(path: String) throws(ImageError) {
    let document = try decodeJSON(
      GARTTruthDocument.self, path: path, atMost: TraceTruth.byteCountLimit, kind: "a truth file")
    aperture = document.aperture.value
    guard aperture.base < GART.physicalLimit, aperture.byteCount <= 2 << 30,
      aperture.entryCount <= 1 << 19, aperture.firstEntry <= aperture.entryCount,
      aperture.tableByteCount <= 4 << 20, aperture.table.rawValue < GART.physicalLimit
    else {
      throw ImageError(
        file: path, place: "aperture", found: "is none that a GART can have",
        remedy: "at most 2 GiB below 1 TiB, and four bytes of table for each 4 KiB")
    }
    option = document.iommu_option
    guard document.crashkernel.count % 2 == 0 else {
      throw ImageError(file: path, place: "crashkernel", found: "is no start and end")
    }
    crashKernel = TraceTruth.wholePages(
      stride(from: 0, to: document.crashkernel.count, by: 2).compactMap {
        let (start, end) = (document.crashkernel[$0].value, document.crashkernel[$0 + 1].value)
        return start < end ? start..<end : nil
      })
    counts = document.counts.value
    secondKernelUsesGART = document.second_kernel_uses_gart
    details = [:]
    for mapping in document.mappings {
      guard details.updateValue(mapping.value, forKey: mapping.id) == nil else {
        throw ImageError(
          file: path, place: "mappings", found: "two mappings have the id \(mapping.id)")
      }
    }
  }
}

// MARK: The JSON as it stands

private struct GARTTruthDocument: Decodable {
  var iommu_option: String
  var crashkernel: [Number]
  var aperture: Aperture
  var counts: Counts
  var second_kernel_uses_gart: Bool?
  var mappings: [Mapping]

  struct Aperture: Decodable {
    var base, size, gatt_pa, scratch_entry, scratch_pa, agp_scratch_pa: Number
    var gatt_bytes, entries, zero_entries, scratch_entries, agp_scratch_entries: UInt64
    var iommu_part_first_entry: UInt64

    var value: GARTTruth.Aperture {
      GARTTruth.Aperture(
        base: base.value, byteCount: size.value, table: PhysicalAddress(gatt_pa.value),
        tableByteCount: gatt_bytes, entryCount: entries, zeroEntryCount: zero_entries,
        scratchEntry: GART.GATTEntry(low: scratch_entry.value, high: 0),
        scratchEntryCount: scratch_entries, scratchPage: PhysicalAddress(scratch_pa.value),
        agpScratchPage: PhysicalAddress(agp_scratch_pa.value),
        agpScratchEntryCount: agp_scratch_entries, firstEntry: iommu_part_first_entry)
    }
  }

  struct Counts: Decodable {
    var mappings, live, freed, identity, map_failures, flush_writes_all_nbs: UInt64

    var value: GARTTruth.Counts {
      GARTTruth.Counts(
        mappings: mappings, live: live, freed: freed, identity: identity, failures: map_failures,
        flushes: flush_writes_all_nbs)
    }
  }

  struct Mapping: Decodable {
    var id, kernel: UInt64
    var api: String
    var state: GARTTruth.Detail.State
    var sg_group, sg_index, sg_nents, sg_out: UInt64?
    var sampled: Bool?

    var value: GARTTruth.Detail {
      var detail = GARTTruth.Detail(
        kernel: kernel, function: api, state: state, list: nil, isSampled: sampled ?? false)
      if let sg_group, let sg_index, let sg_nents, let sg_out {
        detail.list = GARTTruth.Detail.List(
          group: sg_group, index: sg_index, count: sg_nents, output: sg_out)
      }
      return detail
    }
  }
}
