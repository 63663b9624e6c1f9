import CReference
import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import IOMMUWorkloads

/// A translator as a caller that keeps one has it.
public final class Device {
  let translator: Translator<FlatMemory>
  let cache = RegionCache()

  public init(_ translator: Translator<FlatMemory>) { self.translator = translator }

  public var calls: Run { { [translator] in callEach(translator, $0, $1) } }
  public var inlined: Run { { [translator] in hotTranslateInlined(translator, $0, $1) } }
  public var batch: Run { { [translator] in hotTranslateBatch(translator, $0, $1) } }

  public var batchRegions: Run {
    { [translator, cache] in hotTranslateBatchRegions(translator, $0, $1, cache) }
  }
}

extension Suite {
  /// The VT-d contenders, by name.
  public func walkers() -> [(name: String, run: Run)] {
    let device = Device(tables.translator(.vtd4Levels))
    return [
      ("bare load", c(reference_bare_load)),
      ("C walk", c(reference_walk)),
      ("C walk, call", c(reference_walk_call)),
      ("C checked walk, call", c(reference_checked_walk_call)),
      ("C batch", c(reference_walk_batch)),
      ("C batch, regions", c(reference_walk_batch_regions)),
      ("call", device.calls),
      ("inlined", device.inlined),
      ("batch", device.batch),
      ("batch, regions", device.batchRegions),
    ]
  }

  /// Blocks of 256 addresses of one or four 4 GiB tables in turn, as four PHBs have them.
  public func tceWalkers(tables count: Int) -> [(name: String, run: Run)] {
    let devices = (0..<count).map { Device(tables.translator(.tce, tceTable: $0)) }
    // The addresses with the table's number cut off.
    let local = LocalAddresses()
    func each(_ run: @escaping (Device) -> Run) -> Run {
      let runs = devices.map(run)
      guard count > 1 else { return runs[0] }
      return { addresses, answers in
        let addresses = local.of(addresses)
        var start = 0
        while start < addresses.count {
          let block = start..<min(start + 256, addresses.count)
          runs[start / 256 % runs.count](
            UnsafeBufferPointer(rebasing: addresses[block]),
            UnsafeMutableBufferPointer(rebasing: answers[block]))
          start = block.upperBound
        }
      }
    }
    return [
      ("bare load", c(reference_bare_load)),
      ("C loop", c(reference_tce)),
      ("C call", c(reference_tce_call)),
      ("call", each(\.calls)),
      ("inlined", each(\.inlined)),
      ("batch", each(\.batch)),
    ]
  }

  public func gattWalkers() -> [(name: String, run: Run)] {
    let device = Device(tables.translator(.gatt))
    return [
      ("C loop", c(reference_gatt)),
      ("C call", c(reference_gatt_call)),
      ("call", device.calls),
      ("batch", device.batch),
    ]
  }
}

/// Remembers the low 32 bits of addresses, so that cutting them is not measured.
final class LocalAddresses {
  private var source: UnsafePointer<IOVA>?
  private var cut: [IOVA] = []

  func of(_ addresses: UnsafeBufferPointer<IOVA>) -> UnsafeBufferPointer<IOVA> {
    if source != addresses.baseAddress || cut.count != addresses.count {
      source = addresses.baseAddress
      cut = addresses.map { IOVA($0.rawValue & 0xffff_ffff) }
    }
    return cut.withUnsafeBufferPointer { $0 }
  }
}
